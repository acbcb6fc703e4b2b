"""Conversion: a trained ANN becomes a spiking network whose ranges and biases are set on calibration data."""

from bitspike.ann2snn.conversion import Converted, ann2snn, skeleton
from bitspike.ann2snn.report import ConversionReport, LayerConversion

__all__ = ["ConversionReport", "Converted", "LayerConversion", "ann2snn", "skeleton"]
