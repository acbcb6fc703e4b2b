"""What pools have in common, and the maximum over windows."""

from __future__ import annotations

import math

import numpy as np

from ..arithmetic import Array
from ..fields import Field, Flag, Ints
from ..limits import MAX_TAPS
from ..spec import Value
from .base import Operation
from .geometry import outputs_of_pool, padded, reach, taps

MAXIMUM: dict[str, Field] = {
    "kernel": Ints(1, 2**14, 1, 2),
    "stride": Ints(1, 2**14, 1, 2),
    "padding": Ints(0, 2**13, 1, 2),
    "dilation": Ints(1, 1024, 1, 2),
    "ceil": Flag(),
}


def check_window(op: Operation, x: Value) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(kernel, stride, padding) of an operation on [C, L] or [C, H, W], checked."""
    axes, at = len(x.shape) - 1, op.attributes
    names = [name for name in ("kernel", "stride", "padding", "dilation") if name in at]
    if axes not in (1, 2) or any(len(at[name]) != axes for name in names):
        must = "the input must be [C, L] with 1 number in every list, or [C, H, W] with 2"
        raise op.bad(must, f"{list(x.shape)}, {[list(at[name]) for name in names]}", "correct it")
    if math.prod(at["kernel"]) > MAX_TAPS:
        raise op.bad(f"a window has at most {MAX_TAPS} places", list(at["kernel"]), "make it smaller")
    if any(2 * p > k for p, k in zip(at["padding"], at["kernel"], strict=True)):
        raise op.bad("the padding must be at most half the kernel", list(at["padding"]), "make it smaller")
    return at["kernel"], at["stride"], at["padding"]


class Maximum:
    """The maximum over windows; places outside never win. Made by an operation, whose attributes it reads."""

    def __init__(self, op: Operation, x: Value) -> None:
        kernel, stride, padding = check_window(op, x)
        dilation = op.attributes["dilation"]
        parts = list(zip(x.shape[1:], kernel, stride, padding, dilation, strict=True))
        self.sides: tuple[int, ...] = tuple(
            outputs_of_pool(n, k, s, p, d, op.attributes["ceil"]) for n, k, s, p, d in parts
        )
        if min(self.sides) < 1:
            raise op.bad("the window must fit into the padded input", list(x.shape), "make it smaller")
        for count, (n, k, s, p, d) in zip(self.sides, parts, strict=True):
            starts = s * np.arange(min(count, -(-p // s))) - p  # those before the input
            first = starts % d  # where their places come into it
            if (first >= np.minimum(n, starts + d * k)).any() or s * (count - 1) - p >= n:
                raise op.bad("every window must meet the input", list(x.shape), "pad less, or dilate less")
        self.kernel: tuple[int, ...] = kernel
        self.stride: tuple[int, ...] = stride
        self.padding: tuple[int, ...] = padding
        self.dilation: tuple[int, ...] = dilation
        places = zip(self.sides, kernel, stride, dilation, strict=True)
        self.reach: tuple[int, ...] = tuple(reach(*each) for each in places)
        self.shape: tuple[int, ...] = (x.shape[0], *self.sides)

    def __call__(self, x: Array) -> Array:
        """[..., *spatial] → [..., *sides]."""
        held = padded(x, self.padding, self.reach, np.iinfo(x.dtype).min, x.dtype)
        top: Array | None = None
        for _, spans in taps(self.sides, self.kernel, self.stride, self.dilation):
            part = held[spans]
            top = part.copy() if top is None else np.maximum(top, part, out=top)
        assert top is not None  # a kernel has places
        return top
