"""A small program whose pictures can be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Input, Program, Value

RAW = {"pixels": True, "top": 255}


def small(
    side: int = 28,
    scale: tuple[int, int] | None = None,
    info: Any = None,
    low: int = 0,
    high: int = 255,
    repeat: bool = True,
    channels: int = 1,
    classes: tuple[str, ...] = ("left <b>", "right & </script>", "both"),
) -> Program:
    """Signed, graded spikes of two maps, and a mean read-out."""
    b = Builder(Input(Value((channels, side, side), low, high, 0, 3), repeat=repeat, scale=scale))
    random = np.random.default_rng(side)
    weight = b.constant(random.integers(-8, 8, (2, channels, 3, 3)))
    x = b.add(
        "convolution",
        [INPUT],
        {"before": [1, 1], "after": [1, 1], "stride": [2, 2], "dilation": [1, 1]},
        {"weight": weight},
    )
    constants = {"first": b.constant(np.array([500])), "spacing": b.constant(np.array([800]))}
    x = b.add("fire", [x], {"count": [3], "signed": True, "decay": [1, 1], "reset": "hard"}, constants, "maps")
    x = b.add("reshape", [x], {"shape": [b.values[x].size]})
    weight = b.constant(random.integers(-100, 100, (len(classes), b.values[x].size)))
    x = b.add("mean", [b.add("linear", [x], {"exponent": 12}, {"weight": weight})])
    return b.finish(x, list(classes), RAW if info is None else info)


def plain() -> Program:
    """No neurons, no names: 8×8 pixels to two numbers."""
    b = Builder(Input(Value((1, 8, 8), 0, 16, 0, 1), repeat=True))
    x = b.add("reshape", [INPUT], {"shape": [64]})
    weight = b.constant(np.arange(128).reshape(2, 64) % 7 - 3)
    return b.finish(b.add("mean", [b.add("linear", [x], tensors={"weight": weight})]), [], {"pixels": True, "top": 16})
