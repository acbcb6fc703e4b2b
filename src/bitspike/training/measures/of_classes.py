"""The measure of classes."""

from __future__ import annotations

import numpy as np

from bitspike.training.measures.base import MEASURES, Array, Measure


def accuracy(outputs: Array, targets: Array) -> float:
    """Share of samples [N, K] whose greatest output is that of their class [N]."""
    return float((outputs.argmax(1) == targets).mean())


def _most_frequent(targets: Array) -> float:
    return float(np.unique(targets, return_counts=True)[1].max() / len(targets))


MEASURES.register("accuracy")(Measure("classes", "accuracy", accuracy, _most_frequent))
