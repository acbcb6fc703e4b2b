"""Where numbers lie: maps of places as axes that stand in another order, as boxes, as lists of an axis each."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitspike.lower.wire import Array


@dataclass(frozen=True)
class Layout:
    """A value [axes] whose axes stand in another order than the network's.

    Attributes:
        axes: of the value, outermost first. order: of these axes, the network's, outermost first.
        groups: axis of the network → the places in ``order`` of what it is made of.
    """

    axes: tuple[int, ...]
    order: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]


def layout(at: Array) -> Layout | None:
    """The layout of a map of places in which every place stands once; None where it is no order of axes.

    >>> layout(np.arange(6).reshape(2, 3).T)
    Layout(axes=(2, 3), order=(1, 0), groups=((0,), (1,)))
    """
    if not at.size or at.flat[0] != 0:
        return None
    lines = [at[(0,) * k + (slice(None),) + (0,) * (at.ndim - k - 1)] for k in range(at.ndim)]
    total = np.zeros((), np.int64)
    for k, line in enumerate(lines):
        total = total + line.reshape(-1, *[1] * (at.ndim - k - 1))
    if not np.array_equal(total, at):
        return None
    parts: list[tuple[int, int]] = []
    groups: list[tuple[int, ...]] = []
    for line in lines:
        found = _digits(line)
        if found is None:
            return None
        groups.append(tuple(range(len(parts), len(parts) + len(found))))
        parts += found
    by_stride = sorted(range(len(parts)), key=lambda i: -parts[i][1])
    step = at.size
    for i in by_stride:
        size, stride = parts[i]
        if size * stride != step:
            return None
        step = stride
    if step != 1:
        return None
    axes = tuple(parts[i][0] for i in by_stride)
    return Layout(axes, tuple(by_stride.index(i) for i in range(len(parts))), tuple(groups))


def _digits(line: Array) -> list[tuple[int, int]] | None:
    """A line of places as (size, stride) of nested counts, outermost first; none for one place."""
    found: list[tuple[int, int]] = []
    while len(line) > 1:
        stride = int(line[1])
        steps = np.arange(len(line)) * stride
        wrong = np.flatnonzero(line != steps)
        run = int(wrong[0]) if len(wrong) else len(line)
        if stride <= 0 or len(line) % run:
            return None
        whole = line.reshape(-1, run)
        if not np.array_equal(whole, whole[:, :1] + steps[:run]):
            return None
        found.insert(0, (run, stride))
        line = whole[:, 0]
    return found


@dataclass(frozen=True, order=True)
class Swap:
    """[P, A, B, Q] → [P, B, A, Q]."""

    P: int
    A: int
    B: int
    Q: int


_SIDE, _WEIGHTS, _PIECES = 1024, 2**22, 16
"""A swap's greatest axis that moves, and its weights; pieces up to which slices serve."""


def swaps(axes: tuple[int, ...], order: tuple[int, ...]) -> list[Swap] | None:
    """The cheapest swaps of neighbouring axes that bring axes into an order; None where none is small enough.

    >>> swaps((2, 3, 5), (1, 0, 2))
    [Swap(P=1, A=2, B=3, Q=5)]
    """
    blocks: list[list[int]] = []
    for axis in order:  # axes that stay beside each other move as one
        if blocks and axis == blocks[-1][-1] + 1:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    sizes = [math.prod(axes[i] for i in block) for block in blocks]
    start = tuple(sorted(range(len(blocks)), key=lambda i: blocks[i][0]))
    goal = tuple(range(len(blocks)))
    total = math.prod(axes)
    queue: list[tuple[float, tuple[int, ...], tuple[Swap, ...]]] = [(0.0, start, ())]
    best: dict[tuple[int, ...], float] = {start: 0.0}
    while queue:
        cost, state, path = heapq.heappop(queue)
        if state == goal:
            return list(path)
        if cost > best[state]:
            continue
        for i, j, k in itertools.combinations(range(len(state) + 1), 3):
            P, A, B, Q = (math.prod(sizes[n] for n in part) for part in _cut(state, i, j, k))
            if P > 1 and (B > _SIDE or P * B * B > _WEIGHTS):
                continue
            if P == 1 and B > _PIECES and (B > _SIDE or B * B > _WEIGHTS):
                continue
            after = state[:i] + state[j:k] + state[i:j] + state[k:]
            further = cost + (2.0 * total if P == 1 and B <= _PIECES else total * B + 4.0 * P * B * B)
            if further < best.get(after, math.inf):
                best[after] = further
                heapq.heappush(queue, (further, after, (*path, Swap(P, A, B, Q))))
    return None


def _cut(state: tuple[int, ...], i: int, j: int, k: int) -> tuple[tuple[int, ...], ...]:
    return state[:i], state[i:j], state[j:k], state[k:]


def box(inside: Array) -> list[Array] | None:
    """Per axis the places that a mask takes, where it is their product; None where it is no box."""
    found = [np.flatnonzero(inside.any(tuple(a for a in range(inside.ndim) if a != k))) for k in range(inside.ndim)]
    if not all(len(each) for each in found) or math.prod(len(each) for each in found) != int(inside.sum()):
        return None
    return found


def lists(places: Array, shape: tuple[int, ...]) -> list[Array] | None:
    """A map into a value of this shape as a list of places an axis (−1: zero), where every axis goes by itself.

    >>> [each.tolist() for each in lists(np.array([[2, 3, -1], [0, 1, -1]]), (2, 2))]
    [[1, 0], [0, 1, -1]]
    """
    if places.ndim != len(shape) or not (places >= 0).any():
        return None
    first = np.unravel_index(int(np.argmax(places >= 0)), places.shape)
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    found, total, inside = [], np.zeros((), np.int64), np.ones((), bool)
    for k, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        lead: list[Any] = [*first[:k], slice(None), *first[k + 1 :]]
        line = places[tuple(lead)]
        each = np.where(line >= 0, line // stride % size, -1)
        found.append(each)
        wide = each.reshape(-1, *[1] * (len(shape) - k - 1))
        total, inside = total + wide * stride, inside & (wide >= 0)
    return found if np.array_equal(np.where(inside, total, -1), places) else None
