"""Fixed splits of recordings: by rules of their own names or by who was recorded, never by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch

from bitspike.checks import bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.group_split import RULES, carve_groups
from bitspike.data.sequence_arrays import sequence_splits
from bitspike.data.split import carve_validation

Pair: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray | None]"
"""(frames ``[N, T, ...]`` of integers or float32, labels ``[N]``, groups ``[N]`` or None)."""


def frame_splits(
    name: str,
    classes: tuple[str, ...],
    pool: Pair,
    test: Pair,
    validation: int | float,
    seed: int,
    by: str | None = None,
    groups: str = "groups",
) -> Splits:
    """The three sets of an experiment; validation is carved from ``pool``.

    Args:
        name, classes: as in `SequenceSet`. pool, test: frames, labels and groups.
        validation, seed: as in `carve_validation` and `carve_groups`. by: one of `RULES`; None: "group" where the
            groups of the pool are known, else "class". groups: what they are called, such as "persons".

    Raises:
        TypeError, ValueError: as `sequence_splits`: among others, a recording that stands in both parts; or
            "group" where groups are not known.
    """
    where, pairs = f"load_{name}", {}
    for part, (frames, labels, _) in (("train", pool), ("test", test)):
        pairs[part] = torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64))
    if by is not None:
        one_of(where, "validation_by", by, RULES)
    if by == "group" and pool[2] is None:
        must = f"validation_by must be 'class' where the files do not say which {groups} were recorded"
        raise bad_value(where, must, repr(by), "set it so, or leave it out")
    x, y = pairs["train"]
    if by != "class" and pool[2] is not None:
        train, held = carve_groups(y, torch.from_numpy(pool[2].astype(np.int64)), validation, seed, groups)
    else:
        train, held = carve_validation(y, validation, seed)
    pairs |= {"train": (x[train], y[train]), "validation": (x[held], y[held])}
    return sequence_splits(where, name, pairs, classes, 1, validation, seed, {})


def names_digest(names: Iterable[str]) -> str:
    """SHA-256, in hex, of names in sorted order, one a line: what a split is held against.

    >>> names_digest(["b", "a"]) == names_digest(["a", "b"]), names_digest(["a", "b"])[:8]
    (True, '911169dd')
    """
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()
