"""Measures of sets of labels, of outputs [N, K] and targets bool [N, K]: a label is said to be there where y > 0.

y > 0 is where its probability, the sigmoid of y, is above 1/2.
"""

from __future__ import annotations

import numpy as np

from bitspike.training.measures.base import MEASURES, Array, Measure


def micro_f1(outputs: Array, targets: Array) -> float:
    """``2·TP/(2·TP + FP + FN)`` counted over all samples and labels; 0 where nothing is there nor said to be."""
    said = outputs > 0
    both, either = int((said & targets).sum()), int(said.sum()) + int(targets.sum())
    return 2 * both / either if either else 0.0


def macro_f1(outputs: Array, targets: Array) -> float:
    """Mean over the K labels of ``2·TP/(2·TP + FP + FN)``, 0 for a label that is nowhere nor said to be.

    >>> macro_f1(np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[True, False], [True, False]]))
    0.5
    """
    return float(np.mean(f1_of_labels(outputs, targets)))


def subset_accuracy(outputs: Array, targets: Array) -> float:
    """Share of samples of which every label is right."""
    return float(((outputs > 0) == targets).all(1).mean())


def mean_average_precision(outputs: Array, targets: Array) -> float:
    """Mean average precision of the labels that are there at least once.

    ``AP = Σ_n (R_n − R_{n−1})·P_n`` over the thresholds n, of which equal outputs share one.

    Differs: scikit-learn counts a label that is nowhere as 0; it has no precision, and is left out here.
    """
    found = [ap for ap in average_precisions(outputs, targets) if ap is not None]
    return sum(found) / len(found)


def f1_of_labels(outputs: Array, targets: Array) -> list[float]:
    """F1 of every label."""
    said = outputs > 0
    both, either = (said & targets).sum(0), said.sum(0) + targets.sum(0)
    return [2 * b / e if e else 0.0 for b, e in zip(both.tolist(), either.tolist(), strict=True)]


def average_precisions(outputs: Array, targets: Array) -> list[float | None]:
    """Average precision of every label, None for one that is nowhere.

    >>> average_precisions(np.array([[3.0], [2.0], [1.0]]), np.array([[True], [False], [True]]))
    [0.8333333333333333]
    """
    found: list[float | None] = []
    for y, there in zip(outputs.T, targets.T, strict=True):
        order = np.argsort(-y, kind="stable")
        y, hits = y[order], np.cumsum(there[order])
        ends = np.append(np.flatnonzero(np.diff(y)), len(y) - 1)  # the last sample at every threshold
        hits_at = hits[ends]
        gained = np.diff(hits_at, prepend=0)
        found.append(float((gained * hits_at / (ends + 1)).sum() / hits[-1]) if hits[-1] else None)
    return found


def _nowhere(targets: Array) -> str | None:
    return None if targets.any() else f"no label is there in any of {len(targets)} samples"


def _commonest(targets: Array) -> float:
    """Micro-F1 of saying the m commonest labels of every sample, for the best m."""
    counts = np.sort(targets.sum(0))[::-1]
    said = len(targets) * np.arange(1, len(counts) + 1)
    return float((2 * np.cumsum(counts) / (said + counts.sum())).max())


def _always(targets: Array) -> float:
    """Macro-F1 of saying every label of every sample."""
    share = targets.mean(0)
    return float((2 * share / (1 + share)).mean())


def _commonest_row(targets: Array) -> float:
    return float(np.unique(targets, axis=0, return_counts=True)[1].max() / len(targets))


def _shares(targets: Array) -> float:
    """Mean average precision of equal outputs: the share of samples that have a label."""
    return float(targets[:, targets.any(0)].mean())


MEASURES.register("micro_f1")(Measure("labels", "micro F1", micro_f1, _commonest))
MEASURES.register("macro_f1")(Measure("labels", "macro F1", macro_f1, _always))
MEASURES.register("subset_accuracy")(Measure("labels", "subset accuracy", subset_accuracy, _commonest_row))
MEASURES.register("mean_average_precision")(
    Measure("labels", "mean average precision", mean_average_precision, _shares, undefined=_nowhere)
)
