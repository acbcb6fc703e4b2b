"""Fixed splits of recordings: by rules of their own names or by who was recorded, never by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import TypeAlias

import numpy as np
import torch

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.sequence_arrays import sequence_splits

Pair: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""(frames ``[N, T, ...]`` of integers or float32, labels ``[N]``)."""


def frame_splits(
    name: str, classes: tuple[str, ...], pool: Pair, test: Pair, validation: int | float, seed: int
) -> Splits:
    """The three sets of an experiment; validation is carved from ``pool``, stratified by class.

    Args:
        name, classes: as in `SequenceSet`. pool, test: frames and labels. validation, seed: as in `carve_validation`.

    Raises:
        TypeError, ValueError: as `sequence_splits`: among others, a recording that stands in both parts.
    """
    pairs = {}
    for part, (frames, labels) in (("train", pool), ("test", test)):
        pairs[part] = torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64))
    return sequence_splits(f"load_{name}", name, pairs, classes, 1, validation, seed, {})


def names_digest(names: Iterable[str]) -> str:
    """SHA-256, in hex, of names in sorted order, one a line: what a split is held against.

    >>> names_digest(["b", "a"]) == names_digest(["a", "b"]), names_digest(["a", "b"])[:8]
    (True, '911169dd')
    """
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def apart(where: str, train: Collection[object], test: Collection[object], what: str = "recordings") -> None:
    """Raise unless no name stands on both sides: files, speakers or persons that would be known from training.

    >>> apart("toy", ["ann", "bob"], ["eve", "bob"], "speakers")
    Traceback (most recent call last):
        ...
    ValueError: toy: train and test part must share no speakers, got bob; split by speakers.
    """
    shared = sorted({str(name) for name in train} & {str(name) for name in test})
    if shared:
        got = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        raise bad_value(where, f"train and test part must share no {what}", got, f"split by {what}")
