"""Which parts of several signals, side by side in their channels, meet in one channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def meeting(channels: Sequence[Tensor | None]) -> tuple[list[tuple[int, ...]], Tensor | None] | None:
    """(a part of each signal, for all parts that meet; which of these each channel is).

    Args:
        channels: part of every channel [C], int64; None of a signal with one part.

    Returns:
        The second is None where all signals have one part; None in all where numbers of channels differ.

    >>> meeting([torch.tensor([0, 0, 1]), None])
    ([(0, 0), (1, 0)], tensor([0, 0, 1]))
    """
    sizes = {len(one) for one in channels if one is not None}
    if len(sizes) > 1:
        return None
    if not sizes:
        return [(0,) * len(channels)], None
    full = [torch.zeros(*sizes, dtype=torch.int64) if one is None else one for one in channels]
    found, index = torch.stack(full, 1).unique(dim=0, return_inverse=True)
    return [tuple(row) for row in found.tolist()], index


def train_of(node: str, pair: int) -> str:
    """Name of the train of a product's pair of parts: the node's where it has one.

    >>> train_of("mul", 0), train_of("mul", 2)
    ('mul', 'mul:2')
    """
    return f"{node}:{pair}" if pair else node


def pair_of(train: str) -> tuple[str, int]:
    """Node and pair of such a name.

    >>> pair_of("mul:2"), pair_of("mul")
    (('mul', 2), ('mul', 0))
    """
    node, _, pair = train.partition(":")
    return node, int(pair or 0)
