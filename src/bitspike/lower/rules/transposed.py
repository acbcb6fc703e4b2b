"""Transposed convolutions: zeros between the numbers, and a convolution with the kernel turned round."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.layers import ConvTranspose2d, Synapse
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.written import written
from bitspike.lower.wire import Refused, Wire
from bitspike.upgrade.transposed import TransposedConvolution


def transposed(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """A transposed convolution over one or two axes."""
    assert isinstance(module, (ConvTranspose2d, TransposedConvolution))
    sides = low.value(x).shape[1:]
    kernel = module.weight.shape[2:]
    if len(kernel) > 2:
        raise Refused("it is a transposed convolution over three axes; a program has them over one or two")
    if len(sides) != len(kernel):
        raise Refused(f"its input has {len(sides) + 1} axes, a program's has {len(kernel) + 1}")
    x = low.operand(x, source, columns=module.quantizer.format.real)
    factor = x.factor
    before, after, starts, stops = [], [], [], []
    options = zip(sides, kernel, module.stride, module.padding, module.output_padding, module.dilation, strict=True)
    for side, taps, stride, padding, more, gap in options:
        first = gap * (taps - 1) - padding
        last = first + more + (side - 1) * stride + 1 - side * stride  # behind the zeros that follow the last number
        before.append(max(first, 0))
        after.append(max(last, 0))
        starts.append(max(-first, 0))
        stops.append(side * stride + min(last, 0))
    x = _spaced(low, f"{name}.zeros", x, module.stride)
    shape = low.value(x).shape
    if any(starts) or tuple(stops) != shape[1:]:
        cut = {"start": [0, *starts], "stop": [shape[0], *stops], "stride": [1] * len(shape)}
        x = Wire(low.add("slice", f"{name}.cut", [x], cut), np.ones(()), np.zeros(()))
    ones = [1] * len(kernel)
    attributes: dict[str, Any] = {"stride": ones, "before": before, "after": after, "dilation": list(module.dilation)}
    x = Wire(x.name, factor, np.zeros(()))
    turned = tuple(range(2, 2 + len(kernel)))
    return written(
        low, name, module, "convolution", x, {**attributes, "groups": module.groups},
        formed=lambda k: np.ascontiguousarray(np.flip(k, turned)),
    )  # fmt: skip


def _spaced(low: Lowering, name: str, x: Wire, strides: tuple[int, ...]) -> Wire:
    """stride − 1 zeros behind every number along every axis, by zeros in an axis of their own; without its factor."""
    made = Wire(x.name, np.ones(()), np.zeros(()))
    for axis, stride in enumerate(strides, 1):
        if stride == 1:
            continue
        shape = low.value(made).shape
        lead, rest = int(np.prod(shape[: axis + 1])), int(np.prod(shape[axis + 1 :]))
        rows = low.add("reshape", f"{name}.rows{axis}", [made], {"shape": [lead, rest]})
        behind = {"before": [0, 0], "after": [0, (stride - 1) * rest]}
        padded = low.add("pad", f"{name}.pad{axis}", [Wire(rows, made.factor, made.shift)], behind)
        wide = [*shape[:axis], shape[axis] * stride, *shape[axis + 1 :]]
        spaced = low.add("reshape", f"{name}.axis{axis}", [Wire(padded, made.factor, made.shift)], {"shape": wide})
        made = Wire(spaced, made.factor, made.shift)
    return made
