"""Measures of numbers to be met, of outputs and targets [N, K]."""

from __future__ import annotations

import math

import numpy as np

from bitspike.training.measures.base import MEASURES, Array, Measure


def error(outputs: Array, targets: Array) -> float:
    """Root of the squared error's mean over samples and values."""
    return math.sqrt(float(np.square(outputs - targets).mean()))


def mae(outputs: Array, targets: Array) -> float:
    """``mean |y − target|`` over samples and values."""
    return float(np.abs(outputs - targets).mean())


def rmse(outputs: Array, targets: Array) -> float:
    """Mean over the K values of the root of each one's mean squared error; `error` has the root of the mean.

    >>> y, zero = np.array([[1.0, 7.0]]), np.zeros((1, 2))
    >>> rmse(y, zero), error(y, zero)
    (4.0, 5.0)
    """
    return float(np.sqrt(np.square(outputs - targets).mean(0)).mean())


def r2(outputs: Array, targets: Array) -> float:
    """``1 − Σ(y − target)²/Σ(target − mean target)²``, the share of variance explained, averaged over the K values.

    Differs: a value that is the same in all samples has no variance to explain; scikit-learn calls that 0 or 1, here
    `Measure.undefined` says so.

    >>> r2(np.array([[1.0], [1.0]]), np.array([[0.0], [2.0]]))
    0.0
    """
    left, whole = np.square(outputs - targets).sum(0), np.square(targets - targets.mean(0)).sum(0)
    return float((1 - left / whole).mean())


def _still(targets: Array) -> str | None:
    same = [k for k, (low, high) in enumerate(zip(targets.min(0), targets.max(0), strict=True)) if low == high]
    return f"value {same[0]} is the same in all {len(targets)} samples" if same else None


def _median(targets: Array) -> float:
    return mae(np.broadcast_to(np.median(targets, 0), targets.shape), targets)


MEASURES.register("error")(Measure("numbers", "error", error, lambda t: error(t.mean(0), t), False, False))
MEASURES.register("mae")(Measure("numbers", "mean absolute error", mae, _median, False, False))
MEASURES.register("rmse")(Measure("numbers", "rmse", rmse, lambda t: rmse(t.mean(0), t), False, False))
MEASURES.register("r2")(Measure("numbers", "R²", r2, lambda t: 0.0, True, False, _still))
