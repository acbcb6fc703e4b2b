"""Where sliding windows stand: shared by convolutions and pools."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ..arithmetic import Array

Span = tuple[Any, ...]


def outputs_of(side: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Places of a kernel along an axis: ``⌊(side + before + after − dilation·(kernel − 1) − 1)/stride⌋ + 1``."""
    return (side + before + after - dilation * (kernel - 1) - 1) // stride + 1


def outputs_of_pool(side: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """Places of a pooling window; with ceil windows may stick out at the far edge, if they begin before it.

    >>> [outputs_of_pool(*place) for place in ((5, 2, 2, 0, 1, False), (5, 2, 2, 0, 1, True), (3, 2, 3, 0, 1, True))]
    [2, 3, 1]
    """
    reach = side + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil:
        return reach // stride + 1
    count = -(-reach // stride) + 1
    return count - 1 if (count - 1) * stride >= side + padding else count


def padded(x: Array, before: tuple[int, ...], sides: tuple[int, ...], fill: int, dtype: np.dtype[Any]) -> Array:
    """x [..., *spatial] inside an array whose last axes have ``sides``; what lies beyond them is cut off."""
    lead = x.shape[: x.ndim - len(sides)]
    if x.dtype == dtype and x.shape[len(lead) :] == sides and not any(before):
        return x
    held = np.full((*lead, *sides), fill, dtype)
    spans = [min(n, side - b) for n, side, b in zip(x.shape[len(lead) :], sides, before, strict=True)]
    here: tuple[Any, ...] = (..., *(slice(b, b + n) for b, n in zip(before, spans, strict=True)))
    inside: tuple[Any, ...] = (..., *(slice(0, n) for n in spans))
    held[here] = x[inside]
    return held


def reach(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    """Numbers along an axis that so many windows touch."""
    return (outputs - 1) * stride + dilation * (kernel - 1) + 1


def taps(
    outputs: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Span]]:
    """(place in the kernel, index of the padded numbers that it meets) for all places."""
    for place in product(*(range(k) for k in kernel)):
        spans = [
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilation, outputs, stride, strict=True)
        ]
        yield place, (..., *spans)
