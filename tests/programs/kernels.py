"""Programs of one weighted sum, with and without spikes before it: every alphabet, range, and form of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value

GRIDS = (
    *(Grid(-1, 1, stride=2), Grid(-1, 1), Grid(-127, 127), Grid(-4, 4, 1, "power"), Grid(-3, 3)),
    *(Grid(-15, 15), Grid(-7, 7, stride=2), Grid(0, 1), Grid(-31, 31), None),
)
RANGES = (
    *((0, 1), (-1, 1), (0, 3), (-3, 3), (0, 127), (-128, 127)),
    *((0, 255), (-255, 255), (0, 65535), (-40000, 40000)),
)


def kernel(seed: int) -> tuple[Program, Any]:
    """(program, input of two samples and four steps); seed % 10 is the alphabet, seed // 10 % 10 the range."""
    r = np.random.default_rng(seed)
    grid, (low, high) = GRIDS[seed % len(GRIDS)], RANGES[seed // len(GRIDS) % len(RANGES)]
    axes, outputs = int(r.integers(3)), int(r.choice([1, 5, 32]))
    sides = tuple(r.integers(3, 7, axes).tolist())
    channels = int(r.choice([1, 3, 8, 33] if axes else [1, 31, 32, 33, 200]))
    b = Builder(Input(Value((channels, *sides), low, high, 0, 2)))
    x = INPUT
    if r.integers(2):
        count = max(high, 1) if high < 100 else 3
        one = b.constant(np.array([1]))
        tensors = {"first": one} | ({"spacing": one} if count > 1 else {})
        x = b.add("fire", [INPUT], {"count": [count], "signed": low < 0, "reset": "hard"}, tensors)
    groups = channels if axes and r.integers(4) == 0 else 1
    shape = (outputs * groups, channels // groups, *r.integers(1, 4, axes).tolist())
    levels = np.arange(-300, 300) if grid is None else np.array(grid.levels)
    tensors = {"weight": b.constant(r.choice(levels, shape), grid)}
    if r.integers(2):
        tensors["bias"] = b.constant(r.integers(-9, 9, shape[0]))
    if axes:
        place = {name: r.integers(0, 3, axes).tolist() for name in ("before", "after")}
        place |= {"stride": r.integers(1, 3, axes).tolist(), "dilation": [1] * axes}
        y = b.add("convolution", [x], {**place, "groups": groups}, tensors)
    else:
        y = b.add("linear", [x], {}, tensors)
    numbers = r.integers(low, high + 1, (4, 2, channels, *sides))
    numbers[r.random(numbers.shape) < 0.6] = max(low, 0)
    return b.finish(y), numbers
