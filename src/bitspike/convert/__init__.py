"""Passes that turn one network into another: folding, unary expansion."""

from bitspike.convert.expand import expand_unary
from bitspike.convert.fold import Folded, fold
from bitspike.convert.upgrade import Upgraded, upgrade
from bitspike.convert.upgrade_layers import Convolution, Merged
from bitspike.convert.upgrade_report import UpgradeReport
from bitspike.convert.verify import FoldReport, LayerFlips

__all__ = [
    "Convolution",
    "FoldReport",
    "Folded",
    "LayerFlips",
    "Merged",
    "UpgradeReport",
    "Upgraded",
    "expand_unary",
    "fold",
    "upgrade",
]
