"""Upgrading: an ordinary torch network becomes a spiking one that can be trained."""

from bitspike.upgrade.layers import Convolution, Merged, ZeroPad
from bitspike.upgrade.report import UpgradeReport
from bitspike.upgrade.upgrading import Upgraded, upgrade

__all__ = ["Convolution", "Merged", "UpgradeReport", "Upgraded", "ZeroPad", "upgrade"]
