"""Folding: batch norm, amplitudes, weight factors and step sizes move into weights and thresholds, checked on data."""

from bitspike.fold.expand import expand_unary
from bitspike.fold.folding import Folded, fold
from bitspike.fold.verify import FoldReport, LayerFlips

__all__ = ["FoldReport", "Folded", "LayerFlips", "expand_unary", "fold"]
