"""Passes that turn one network into another: folding, unary expansion, conversion."""

from bitspike.convert.ann2snn import Converted, ann2snn, skeleton
from bitspike.convert.ann2snn_report import ConversionReport, LayerConversion
from bitspike.convert.expand import expand_unary
from bitspike.convert.fold import Folded, fold
from bitspike.convert.upgrade import Upgraded, upgrade
from bitspike.convert.upgrade_layers import Convolution, Merged, ZeroPad
from bitspike.convert.upgrade_report import UpgradeReport
from bitspike.convert.verify import FoldReport, LayerFlips

__all__ = [
    "ConversionReport",
    "Converted",
    "Convolution",
    "FoldReport",
    "Folded",
    "LayerConversion",
    "LayerFlips",
    "Merged",
    "UpgradeReport",
    "Upgraded",
    "ZeroPad",
    "ann2snn",
    "expand_unary",
    "fold",
    "skeleton",
    "upgrade",
]
