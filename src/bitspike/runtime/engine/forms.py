"""In which form a convolution reads its input: the narrowest that its proof and the instruction set allow."""

from __future__ import annotations

from dataclasses import dataclass

from ..arithmetic import Array
from ..limits import INT8, INT16, INT32
from ..ops import Operation
from .bits import fit_of, pays, relative_cost

I32, U8, I16, WIDE, DEPTHWISE, BITS = range(6)
GATHER = 6
"""Numbers of the forms in csrc/engine/kernels.h."""
SIGNED_BYTES = ("neon", "neondot")
"""Instruction sets whose bytes of an operand have a sign; those of the others have none."""
NAMES = {
    I32: "int32",
    U8: "uint8 · int8",
    I16: "int16 · int16",
    WIDE: "int32 with 64-bit sums",
    DEPTHWISE: "depthwise",
    BITS: "planes of bits",
    GATHER: "events · int8",
}
_BYTES = {I32: 4, U8: 1, I16: 2, WIDE: 4, DEPTHWISE: 4}


@dataclass(frozen=True)
class Form:
    """A form.

    Attributes:
        offset: added to every number of the operand, taken off again in the bias. most: highest number less the
            lowest. planes: of bits. lowest: number of the operand, 0 if that is above.
            groups: of the convolution. pays: planes of bits are faster than another form.
    """

    number: int
    offset: int = 0
    why: str = ""
    most: int = 0
    planes: int = 0
    lowest: int = 0
    groups: int = 1
    pays: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"

    @property
    def name(self) -> str:
        """For people, and in plans."""
        return NAMES[self.number]

    def pixel_bytes(self, channels: int) -> int:
        """Bytes of a pixel of the operand."""
        if self.number == BITS:
            return self.planes * -(-channels // 8) + 4 * self.groups
        return channels * _BYTES[self.number]


def element_bytes(form: Form) -> int:
    """Bytes of a number of a dense operand."""
    return _BYTES[form.number]


def form_of(made: Operation, isa: str) -> Form:
    """The form of a convolution or linear map; sums modulo 2^32 are exact, since the proof says that they fit."""
    dense = dense_form(made, isa)
    planes = None if dense.number in (WIDE, DEPTHWISE) else bits_form(made, isa, dense)
    return dense if planes is None or not planes.pays else planes


def dense_form(made: Operation, isa: str) -> Form:
    x, y, weight = made.read[0], made.written[0], made.constants["weight"]
    low, high = min(x.low, 0), max(x.high, 0)
    if y.low < INT32[0] or y.high > INT32[1]:
        return Form(WIDE, 0, "sums of 64 bits")
    groups = made.attributes.get("groups", 1)
    if groups > 1 and weight.shape[1] == 1 and len(weight) == groups:
        return Form(DEPTHWISE, 0, "one input channel an output channel")
    if isa == "scalar":
        return Form(I32, 0, "plain C++")
    most = high - low
    if most <= 255 and INT8[0] <= weight.min() and weight.max() <= INT8[1] and (isa != "avx2" or _pairs(most, weight)):
        first = INT8[0] if isa in SIGNED_BYTES else 0  # the lowest number, where the operand is moved
        offset = 0 if first <= low and high <= first + 255 else first - low
        return Form(U8, offset, f"{low}..{high} in 8 bits, weights in 8 bits", most)
    if most <= 65535:
        inside = INT16[0] <= low and high <= INT16[1]
        return Form(I16, 0 if inside else INT16[0] - low, f"{low}..{high} in 16 bits", most)
    return Form(I32, 0, f"{low}..{high} in 32 bits")


def bits_form(made: Operation, isa: str, dense: Form) -> Form | None:
    """Planes of bits, where they hold numbers and weights; ``pays`` says whether they are worth while."""
    fit = fit_of(made)
    if fit is None:
        return None
    x, relative = made.read[0], relative_cost(made, fit, isa, _BYTES[dense.number])
    low, high = min(x.low, 0), max(x.high, 0)
    why = f"{low}..{high} in {fit.planes}, weights in {fit.weights}; {relative:.2f} × {NAMES[dense.number]}"
    groups = made.attributes.get("groups", 1)
    return Form(BITS, 0, why, high - low, fit.planes, low, groups, pays(relative))


def _pairs(most: int, weight: Array) -> bool:
    """Whether two products of a weight and a number of 0..most, added in 16 bits, cannot saturate."""
    return INT16[0] <= 2 * most * int(weight.min()) and 2 * most * int(weight.max()) <= INT16[1]
