"""Validation splits by who was recorded: a person, a speaker or a session stands on one side only."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from bitspike import checks
from bitspike.data import draws, validate
from bitspike.data.split import part_size

RULES = ("group", "class")
"""How a validation part is carved: whole groups, or samples at random, stratified by class."""


def carve_groups(
    labels: torch.Tensor, groups: torch.Tensor, size: int | float, seed: int, what: str = "groups"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split sample indices in two so that no group stands in both parts.

    Groups are gone through in an order drawn from the seed; one goes to validation where that brings the number of its
    samples nearer to ``size``. Where none does, as all groups are larger than twice that, the smallest
    one goes, of equals the first. So the
    part is seldom as large as asked for; classes keep no fixed shares.

    Args:
        labels: int64 ``[N]``. groups: int64 ``[N]``, >= 0, of at least two groups.
        size: validation samples wanted, 1 to N - 1, or their fraction in (0, 1). seed: 0 to 2^63 - 1.
        what: what groups are called in messages, such as "persons".

    Returns:
        (train, validation): int64 on the CPU, each sorted; together a partition.

    Raises:
        TypeError: tensors or a seed of another kind.
        ValueError: one group alone, a size that leaves a side empty, or a class that no training sample is left of.

    >>> groups = torch.tensor([7, 7, 8, 8, 9, 9])
    >>> train, validation = carve_groups(torch.tensor([0, 1] * 3), groups, 2, seed=0)
    >>> len(validation), set(groups[train].tolist()) & set(groups[validation].tolist())
    (2, set())
    """
    where = "carve_groups"
    for name, values in (("labels", labels), ("groups", groups)):
        validate.tensor(where, name, values, torch.int64, "[N]", 1)
    checks.integer(where, "seed", seed, 0, 2**63 - 1)
    checks.at_least(where, "the least group", int(groups.min()), 0)
    if len(labels) != len(groups):
        raise checks.bad_value(where, "there must be a group for each label", f"{len(groups)}", "pair them")
    wanted = part_size(where, "size", size, len(labels))
    present, member, counts = np.unique(groups.cpu().numpy(), return_inverse=True, return_counts=True)
    if len(present) < 2:
        must = f"there must be at least two {what} to keep apart"
        raise checks.bad_value(where, must, len(present), "set validation_by='class'")
    chosen, total = np.zeros(len(present), dtype=bool), 0
    order = draws.permutation(len(present), seed, draws.SPLIT, len(present))
    for group in order:
        nearer = abs(total + int(counts[group]) - wanted) < abs(total - wanted)
        if nearer and chosen.sum() < len(present) - 1:
            chosen[group] = True
            total += int(counts[group])
    if not chosen.any():
        chosen[order[counts[order].argmin()]] = True
    held = torch.from_numpy(chosen[member.reshape(-1)])
    mine = labels.cpu()
    missing = sorted(set(mine.tolist()) - set(mine[~held].tolist()))
    if missing:
        must = f"every class must have training samples of {what} that are not in the validation part"
        raise checks.bad_value(where, must, f"none of class {missing[0]}", "set validation_by='class', or lower size")
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


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
        raise checks.bad_value(where, f"train and test part must share no {what}", got, f"split by {what}")
