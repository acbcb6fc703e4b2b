"""Convolution over one or two axes, with zeros around."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array, as_int, exact_type
from ..fields import Fields, Int, Ints, Roles
from ..limits import MAX_SIDE, MAX_TAPS
from ..spec import Value
from .base import Operation, Ran
from .geometry import outputs_of, padded, reach, taps
from .sums import bounds

_PLACE = ("stride", "before", "after", "dilation")
_WORK = 2**21
"""Numbers of unfolded windows at a time."""


class Convolution(Operation):
    """``y_o = b_o + Σ w_{o,i,p}·x_{i, stride·q + dilation·p − before}``; x = 0 outside."""

    kind = "convolution"
    fields: ClassVar[Fields] = {
        "stride": Ints(1, 1024, 1, 2),
        "before": Ints(0, 1024, 1, 2),
        "after": Ints(0, 1024, 1, 2),
        "dilation": Ints(1, 1024, 1, 2),
        "groups": Int(1, MAX_SIDE, 1),
        "exponent": Int(-64, 64, 0, none=True),
    }
    roles: ClassVar[Roles] = {"weight": True, "bias": False}

    def prove(self) -> tuple[Value, ...]:
        (x,) = self.read
        weight, at = self.constants["weight"], self.attributes
        axes = weight.ndim - 2
        if axes not in (1, 2) or len(x.shape) != axes + 1:
            must = "the weight must be [O, I, K] for [I, L] or [O, I, K, K] for [I, H, W]"
            raise self.bad(must, f"{list(weight.shape)} for {list(x.shape)}", "correct it")
        for name in _PLACE:
            if len(at[name]) != axes:
                raise self.bad(f"{name} must have {axes} numbers", list(at[name]), "correct it")
        groups = at["groups"]
        if weight.shape[0] % groups or weight.shape[1] * groups != x.shape[0]:
            must = f"{groups} groups must divide the outputs and take all {x.shape[0]} inputs"
            raise self.bad(must, list(weight.shape), "correct it")
        self.kernel: tuple[Any, ...] = weight.shape[2:]
        if math.prod(self.kernel) > MAX_TAPS:
            raise self.bad(f"a kernel has at most {MAX_TAPS} places", list(self.kernel), "make it smaller")
        self.sides: tuple[int, ...] = tuple(
            outputs_of(*place)
            for place in zip(
                x.shape[1:], self.kernel, at["stride"], at["before"], at["after"], at["dilation"], strict=True
            )
        )
        if min(self.sides) < 1:
            raise self.bad("the kernel must fit into the padded input", list(x.shape), "add padding")
        low, high = bounds(self, weight.reshape(len(weight), -1), x)
        exponent = None if at["exponent"] is None or x.exponent is None else x.exponent + at["exponent"]
        self.work: np.dtype[Any] = exact_type(max(-low, high))
        return (Value((len(weight), *self.sides), low, high, exponent, x.steps),)

    @cached_property
    def _matrices(self) -> Array:
        """Weights as they are multiplied with: [groups, O/groups, I/groups·K]."""
        groups, weight = self.attributes["groups"], self.constants["weight"]
        return weight.astype(self.work).reshape(groups, len(weight) // groups, -1)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,), weight = inputs, self.written, self._matrices
        frames = x.reshape(-1, *x.shape[2:])
        size = max(1, _WORK // (weight.shape[2] * len(weight) * math.prod(self.sides)))
        parts = [self._unfolded(frames[i : i + size], weight) for i in range(0, len(frames), size)]
        total = np.concatenate(parts, 1) if len(parts) > 1 else parts[0]
        return Ran((np.moveaxis(total, 0, 1).reshape(*x.shape[:2], *y.shape),))

    def _unfolded(self, frames: Array, weight: Array) -> Array:
        """Frames [N, I, ...] → [O, N, ...]."""
        (y,), at, channels = self.written, self.attributes, frames.shape[1]
        sides = tuple(reach(*each) for each in zip(self.sides, self.kernel, at["stride"], at["dilation"], strict=True))
        x = padded(np.moveaxis(frames, 1, 0), at["before"], sides, 0, self.work)
        columns = np.empty((channels, *self.kernel, len(frames), *self.sides), self.work)
        for place, spans in taps(self.sides, self.kernel, at["stride"], at["dilation"]):
            at_place: tuple[Any, ...] = (slice(None), *place)
            columns[at_place] = x[spans]
        product = np.matmul(weight, columns.reshape(len(weight), weight.shape[2], -1))
        total = as_int(product, y.low, y.high).reshape(y.shape[0], len(frames), *self.sides)
        bias = self.constants.get("bias")
        if bias is not None:
            total += bias.astype(total.dtype).reshape(-1, *[1] * (total.ndim - 1))
        return total
