"""Losses on the outputs of a network, by name: one file each."""

from bitspike.training.losses.base import (
    LABEL_LOSSES,
    LOSSES,
    MIXED,
    REGRESSION_LOSSES,
    find_loss,
    loss_options,
    takes_lengths,
    takes_weights,
)
from bitspike.training.losses.bce import bce_loss
from bitspike.training.losses.huber import huber_loss
from bitspike.training.losses.l1 import l1_loss
from bitspike.training.losses.mean import mean_loss
from bitspike.training.losses.mse import mse_loss
from bitspike.training.losses.tet import tet_loss

__all__ = [
    "LABEL_LOSSES",
    "LOSSES",
    "MIXED",
    "REGRESSION_LOSSES",
    "bce_loss",
    "find_loss",
    "huber_loss",
    "l1_loss",
    "loss_options",
    "mean_loss",
    "mse_loss",
    "takes_lengths",
    "takes_weights",
    "tet_loss",
]
