"""Planes of bits: which numbers and weights they hold, and where a convolution over them is faster than a dense one."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from ..arithmetic import Array
from ..ops import Operation

MAX_PLANES = 4
"""Of an operand."""
_MAX_SPAN = 65535
"""Weights farther apart are not looked at: no format of few levels has them."""
_MARGIN = 0.9
"""Of the dense cost: planes must be that much cheaper."""
_NEAR, _MIDDLE = 40_000, 1_000_000
"""Bytes of weights that stay in the caches of first and second level."""
_TILE_ROWS = 8
"""Fewer pixels than these do not go to the tiles of AMX."""


@dataclass(frozen=True)
class Costs:
    """What an instruction set takes for one block of outputs, in ns on a Sapphire Rapids CPU of 3.1 GHz.

    Attributes:
        lanes: outputs of a block. dense: 4 bytes of numbers by weights, with these in the caches of first and second
            level, and beyond. counts: 32 bits of one plane. call: every pixel, plane and pair of blocks.
    """

    lanes: int
    dense: tuple[float, float, float]
    counts: float
    call: float


COSTS = {
    "scalar": Costs(8, (1.6, 1.6, 1.6), 17.6, 10),
    "avx2": Costs(8, (0.27, 0.27, 0.3), 0.86, 4),
    "avx512vnni": Costs(16, (0.165, 0.23, 0.4), 1.25, 3),
    "avx512popcnt": Costs(16, (0.165, 0.23, 0.4), 0.47, 3),
    "amx": Costs(16, (0.03, 0.066, 0.1), 0.47, 3),
    "neon": Costs(4, (5, 5, 6), 3, 20),
    "neondot": Costs(4, (2, 2, 3), 3, 20),
}
"""Fitted to what ``benchmarks/inference/planes.py`` measures; those of NEON are instructions, counted, not measured.
For scalar, one number in three is not 0."""


@dataclass(frozen=True)
class Fit:
    """How numbers and weights are written in planes.

    Attributes:
        planes: of numbers. weights: planes of weights. ternary: weights are −a, 0 and a. numbers_ternary: numbers are
            −1, 0 and 1.
    """

    planes: int
    weights: int
    ternary: bool
    numbers_ternary: bool

    @property
    def counts(self) -> float:
        """Words of ones that are counted for a word of weights."""
        if self.numbers_ternary and (self.ternary or self.weights == 1):
            return 2.0 if self.ternary else 1.1
        return self.planes * (1.8 if self.ternary else self.weights)

    @property
    def calls(self) -> int:
        """Passes over the depth."""
        if self.numbers_ternary and (self.ternary or self.weights == 1):
            return 2 if self.ternary else 1
        return self.planes * (1 if self.ternary else self.weights)


def planes_of(low: int, high: int) -> int:
    """Bits of a number of low..high (0 among them), in two's complement where it has a sign.

    >>> planes_of(0, 1), planes_of(0, 4), planes_of(-1, 1), planes_of(-1, 0), planes_of(-4, 3)
    (1, 3, 2, 1, 3)
    """
    return max(high.bit_length() + 1, (-low - 1).bit_length() + 1) if low < 0 else max(high.bit_length(), 1)


def weight_planes(weight: Array) -> tuple[int, bool]:
    """(planes of bits that these weights take, 0 if planes do not hold them; whether they are −a, 0 and a).

    Two levels are one plane; −a, 0 and a two; up to four levels at equal distances two.

    >>> [weight_planes(np.array(levels)) for levels in ([-1, 1], [0, 7], [-2, 0, 2], [-3, -1, 1, 3], [0, 1, 4])]
    [(1, False), (1, False), (2, True), (2, False), (0, False)]
    """
    low, high = int(weight.min()), int(weight.max())
    if high - low > _MAX_SPAN or len(np.unique(weight.reshape(-1)[:1000])) > 4:
        return 0, False
    levels = [int(k) for k in np.flatnonzero(np.bincount(weight.reshape(-1).astype(np.int64) - low))]
    if len(levels) <= 2:
        return 1, False
    if len(levels) == 3 and low == -high and levels[1] == high:
        return 2, True
    return (2, False) if len(levels) <= 4 and high - low <= 3 * gcd(*levels) else (0, False)


def fit_of(made: Operation) -> Fit | None:
    """How planes hold a convolution's numbers and weights; None where they do not."""
    x, weight = made.read[0], made.constants["weight"]
    low, high = min(x.low, 0), max(x.high, 0)
    planes = planes_of(low, high)
    if planes > MAX_PLANES or (made.attributes.get("groups", 1) > 1 and weight.shape[1] % 8):
        return None
    weights, ternary = weight_planes(weight)
    return Fit(planes, weights, ternary, low == -1 and planes == 2) if weights else None


def relative_cost(made: Operation, fit: Fit, isa: str, element: int) -> float:
    """Time over planes as a share of the time over numbers of so many bytes, both without what is the same."""
    weight, groups = made.constants["weight"], made.attributes.get("groups", 1)
    linear = made.op.kind == "linear"
    costs = COSTS["avx512popcnt" if isa == "amx" and linear and made.read[0].steps < _TILE_ROWS else isa]
    inputs, taps = weight.shape[1], prod(weight.shape[2:])
    row = 1 if linear or groups > 1 or made.attributes["dilation"][-1] > 1 else weight.shape[-1]  # pixels of a segment
    blocks = groups * -(-(len(weight) // groups) // costs.lanes)
    dense_bytes = weight.size * min(element, 2)
    units = taps // row * -(-row * inputs * element // 4) * blocks
    words = taps // row * -(-row * -(-inputs // 8) // 4) * blocks
    dense = units * costs.dense[(dense_bytes > _NEAR) + (dense_bytes > _MIDDLE)]
    return float((words * fit.counts * costs.counts + fit.calls * -(-blocks // 2) * costs.call) / dense)


def pays(relative: float) -> bool:
    """Whether planes are chosen at that cost."""
    return relative <= _MARGIN
