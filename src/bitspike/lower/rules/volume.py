"""Convolutions over three axes: over two, with the first one among the channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.layers import Synapse
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.written import written
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.upgrade.layers import Convolution

_WEIGHTS = 2**25


def volume(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """[I, D, H, W] → [O, D', H', W'] as a convolution [I·D, H, W] → [O·D', H', W'], zeros where taps do not reach."""
    if not isinstance(module, Convolution) or module.padding_mode != "zeros":
        raise Refused("it is a convolution over three axes with a border that is no zeros")
    shape = low.value(x).shape
    if len(shape) != 4:
        raise Refused(f"its input has {len(shape)} axes, a program's has 4")
    depth = shape[1]
    outs, ins, taps, *kernel = module.weight.shape
    stride, gap = module.stride, module.dilation
    before, after = _pads(module)
    depths = (depth + before[0] + after[0] - gap[0] * (taps - 1) - 1) // stride[0] + 1
    if outs * depths * ins * depth * int(np.prod(kernel)) > _WEIGHTS:
        raise Refused(
            f"its map over {depth} planes would need {outs * depths * ins * depth * int(np.prod(kernel))} weights"
        )
    x = low.operand(x, source)

    def formed(weight: Array) -> Array:
        planes = np.zeros((outs, depths, ins, depth, *kernel), weight.dtype)
        for d in range(depths):
            for tap in range(taps):
                place = d * stride[0] + tap * gap[0] - before[0]
                if 0 <= place < depth:
                    planes[:, d, :, place] = weight[:, :, tap]
        return planes.reshape(outs * depths, ins * depth, *kernel)

    flat = wire(low.add("reshape", f"{name}.planes", [x], {"shape": [shape[0] * depth, *shape[2:]]}), x.factor)
    attributes: dict[str, Any] = {
        "stride": [int(s) for s in stride[1:]],
        "before": before[1:],
        "after": after[1:],
        "dilation": [int(d) for d in gap[1:]],
        "groups": module.groups,
    }
    made = written(low, name, module, "convolution", flat, attributes, formed=formed)
    sides = low.value(made).shape
    return made.placed(np.arange(int(np.prod(sides))).reshape(outs, depths, *sides[1:]))


def _pads(module: Convolution) -> tuple[list[int], list[int]]:
    if module.padding == "same":
        pairs = module.border
        return [int(pairs[4 - 2 * i]) for i in range(3)], [int(pairs[5 - 2 * i]) for i in range(3)]
    if module.padding == "valid":
        return [0, 0, 0], [0, 0, 0]
    given = module.padding if isinstance(module.padding, tuple) else (module.padding,) * 3
    return [int(p) for p in given], [int(p) for p in given]
