"""Losses on the logits of a network, by name: one file each."""

from bitspike.training.losses.base import LOSSES, loss_options
from bitspike.training.losses.mean import mean_loss
from bitspike.training.losses.tet import tet_loss

__all__ = [
    "LOSSES",
    "loss_options",
    "mean_loss",
    "tet_loss",
]
