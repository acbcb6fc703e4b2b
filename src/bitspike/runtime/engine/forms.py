"""In which form a convolution reads its input: the narrowest that its proof and the instruction set allow."""

from __future__ import annotations

from dataclasses import dataclass

from ..limits import INT8, INT16, INT32
from ..ops import Operation

I32, U8, I16, WIDE, DEPTHWISE = range(5)
"""Numbers of the forms in csrc/engine/kernels.h."""
_NAMES = ("int32", "uint8 · int8", "int16 · int16", "int32 with 64-bit sums", "depthwise")
_BYTES = {I32: 4, U8: 1, I16: 2, WIDE: 4, DEPTHWISE: 4}


@dataclass(frozen=True)
class Form:
    """A form, and what is added to every number of the operand; taken off again in the bias."""

    number: int
    offset: int = 0
    why: str = ""

    def __str__(self) -> str:
        return f"{_NAMES[self.number]}: {self.why}"

    @property
    def operand(self) -> tuple[int, int]:
        """(bytes of a number, offset)."""
        return _BYTES[self.number], self.offset


def form_of(made: Operation, isa: str) -> Form:
    """The form of a convolution or linear map; sums modulo 2^32 are exact, since the proof says that they fit."""
    x, y, weight = made.read[0], made.written[0], made.constants["weight"]
    low, high = min(x.low, 0), max(x.high, 0)
    if y.low < INT32[0] or y.high > INT32[1]:
        return Form(WIDE, 0, "sums of 64 bits")
    groups = made.attributes.get("groups", 1)
    if groups > 1 and weight.shape[1] == 1 and len(weight) == groups:
        return Form(DEPTHWISE, 0, "one input channel an output channel")
    if isa == "scalar":
        return Form(I32, 0, "plain C++")
    if high - low <= 255 and INT8[0] <= weight.min() and weight.max() <= INT8[1]:
        return Form(U8, -low, f"{low}..{high} in 8 bits, weights in 8 bits")
    if high - low <= 65535:
        inside = INT16[0] <= low and high <= INT16[1]
        return Form(I16, 0 if inside else INT16[0] - low, f"{low}..{high} in 16 bits")
    return Form(I32, 0, f"{low}..{high} in 32 bits")
