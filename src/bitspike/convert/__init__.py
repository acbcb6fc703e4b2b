"""Passes that turn one network into another: folding, unary expansion."""

from bitspike.convert.expand import expand_unary
from bitspike.convert.fold import Folded, fold
from bitspike.convert.verify import FoldReport, LayerFlips

__all__ = ["FoldReport", "Folded", "LayerFlips", "expand_unary", "fold"]
