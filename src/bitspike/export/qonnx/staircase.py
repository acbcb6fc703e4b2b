"""Integer steps as a float32 line and one rounding down, proved equal.

A spike of one step is a staircase of its current, U → k0 + #{j: U >= θ_j}, and the current a sum of rescaled integers,
U = Σ_i hu(a_i·m_i, s_i) + b_i. QONNX has no such sums, but k = clip(⌊Σ_i a_i·S_i + B⌋) with float32 slopes S_i and an
offset B is one. Both sides are monotone in the first summand, so that they are equal everywhere if they are equal on
both sides of every step, for all values of the others; that is checked, in float32 as the graph computes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitspike.runtime.arithmetic import Array, half, scaled

_FAR = 2**61
MOST = 2**23
"""Places that are checked at most."""


@dataclass(frozen=True)
class Summand:
    """clamp(hu(a·m, s) + b, least, most) of a tensor of integers low..high.

    Attributes:
        name: of the tensor. factor, bias: int64 [C] or [1].
    """

    name: str
    low: int
    high: int
    factor: Array
    shift: int
    bias: Array
    least: int = -(2**62)
    most: int = 2**62

    def at(self, a: Array) -> Array:
        """Its value at integers."""
        found: Array = np.clip(scaled(a, self.factor, self.shift) + self.bias, self.least, self.most)
        return found

    @property
    def ends(self) -> tuple[int, int]:
        """The least and greatest value."""
        found = [self.at(np.array([end])) for end in (self.low, self.high)]
        return int(np.min(found)), int(np.max(found))


@dataclass(frozen=True)
class Above:
    """V = clamp(hu(U·m, s) + b, least, most) of what is below it; m >= 0."""

    factor: Array
    shift: int
    bias: Array
    least: int
    most: int

    def below(self, steps: Array) -> Array:
        """Steps of V [J, C or 1] → steps of U: V >= θ where U >= what is returned; ±2^61: nowhere, or everywhere."""
        need = (steps.astype(object) - self.bias) * 2**self.shift - half(self.shift)
        m = np.where(self.factor == 0, 1, self.factor).astype(object)
        found = np.where(self.factor == 0, np.where(need <= 0, -_FAR, _FAR), -((-need) // m))
        found = np.where(steps <= self.least, -_FAR, np.where(steps > self.most, _FAR, found))
        return np.clip(found.astype(object), -_FAR, _FAR).astype(np.int64)


@dataclass(frozen=True)
class Line:
    """Slopes by summand and the offset, float32 [C] or [1]."""

    slopes: tuple[Array, ...]
    offset: Array


def line(summands: list[Summand], steps: Array, start: int) -> Line | str:
    """The line that climbs the steps [J, C or 1] (ascending, int64) from ``start``; a text says why there is none."""
    main = max(summands, key=lambda x: x.high - x.low)
    others = [x for x in summands if x is not main]
    channels = max(len(steps[0]), *(len(x.factor) for x in summands), *(len(x.bias) for x in summands))
    pairs = int(np.prod([x.high - x.low + 1 for x in others], dtype=object))
    if pairs * len(steps) * channels > MOST:
        return f"{pairs * len(steps) * channels:,} places would have to be checked, more than {MOST:,}"
    grids = np.meshgrid(*(np.arange(x.low, x.high + 1) for x in others), indexing="ij")
    values = [grid.reshape(-1, 1, 1) for grid in grids]
    rest = sum((x.at(v) for v, x in zip(values, others, strict=True)), np.zeros((1, 1, 1), np.int64))
    levels = start + 1 + np.arange(len(steps)).reshape(1, -1, 1)
    before, behind = _edges(main, steps[None] - rest)
    shape = np.broadcast_shapes(before.shape, levels.shape, (1, 1, channels))
    slopes = _slopes([main, *others], steps, before, behind)
    return _offset([main, *others], summands, slopes, [before, behind], values, np.broadcast_to(levels, shape))


def _edges(main: Summand, steps: Array) -> tuple[Array, Array]:
    """(the last integer of the main summand before every step, the first behind it), in the order in which U grows."""
    m, half_ = main.factor.reshape(1, 1, -1), half(main.shift)
    need = (steps - main.bias).astype(object) * 2**main.shift - half_
    far = 2**100
    need = np.where(steps <= main.least, -far, np.where(steps > main.most, far, need))
    safe = np.where(m == 0, 1, m)
    up, down = -((-need) // safe), need // safe
    never, always = main.high + 1, main.low
    flat = np.where(need <= 0, always, never)
    behind = np.where(m > 0, up, np.where(m < 0, down, flat))
    before = np.where(m > 0, behind - 1, np.where(m < 0, behind + 1, flat - 1))
    return np.asarray(before, dtype=object), np.asarray(behind, dtype=object)


def _slopes(terms: list[Summand], steps: Array, before: Array, behind: Array) -> list[Array]:
    if len(terms) == 1 and len(steps) == 1:
        return [np.sign(terms[0].factor).astype(np.float32)]
    if len(steps) > 1:
        real = np.abs(steps) < _FAR
        low, high = np.where(real, steps, _FAR).min(0), np.where(real, steps, -_FAR).max(0)
        unit = (high - low).astype(np.float64) / np.maximum(real.sum(0) - 1, 1)
    else:
        unit = np.full(1, float(max(1, *(abs(end) for term in terms for end in term.ends))))
    return [(term.factor / 2.0**term.shift / np.maximum(unit, 1.0)).astype(np.float32) for term in terms]


def _offset(
    terms: list[Summand],
    order: list[Summand],
    slopes: list[Array],
    edges: list[Array],
    values: list[Array],
    levels: Array,
) -> Line | str:
    main = terms[0]
    lower, upper = np.full(levels.shape[2], -np.inf), np.full(levels.shape[2], np.inf)
    places = []
    for above, edge in ((False, edges[0]), (True, edges[1])):
        edge = np.broadcast_to(edge, levels.shape)
        grows = np.broadcast_to(main.factor >= 0, levels.shape)
        inside = (edge >= main.low) & (edge <= main.high)
        # a step beyond the range: its last place on this side counts
        beyond = np.where(grows == (edge > main.high), not above, above) & ~inside
        counts = inside | beyond
        place = np.clip(edge, main.low, main.high).astype(np.int64)
        line_ = place * slopes[0].astype(np.float64)
        for slope, value in zip(slopes[1:], values, strict=True):
            line_ = line_ + value * slope.astype(np.float64)
        need = levels - line_
        if above:
            lower = np.where(counts, need, -np.inf).max((0, 1))
        else:
            upper = np.where(counts, need, np.inf).min((0, 1))
        places.append((above, place, counts))
    if not (lower < upper).all():
        return "no line has these steps: they are not evenly spaced"
    middle = np.where(np.isinf(lower), upper - 0.5, np.where(np.isinf(upper), lower, (lower + upper) / 2))
    offset = np.where(np.isfinite(middle), middle, 0.0).astype(np.float32)
    for above, place, counts in places:
        at = {id(main): place, **{id(x): v for x, v in zip(terms[1:], values, strict=True)}}
        slope_of = {id(x): s for x, s in zip(terms, slopes, strict=True)}
        total: Array | None = None
        for x in order:  # as the graph adds them
            part = at[id(x)].astype(np.float32) * slope_of[id(x)]
            total = part if total is None else total + part
        assert total is not None
        found = np.floor(np.broadcast_to(total + offset, levels.shape))
        wrong = counts & ((found < levels) if above else (found >= levels))
        if wrong.any():
            return "float32 rounds over a step"
    slope_in = {id(x): s for x, s in zip(terms, slopes, strict=True)}
    return Line(tuple(slope_in[id(x)] for x in order), offset)
