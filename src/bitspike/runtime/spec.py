"""A program as plain records: values, constants, operations. What is legal is in `verifier`, the meaning in `ops`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arithmetic import Array, storage

INPUT = "input"
"""Name of the value that a program is fed with."""


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: its shape in one sample and step, its range, its unit and its steps.

    Attributes:
        shape: without time and batch: [C, H, W], [C, L] or [F].
        low, high: every number lies between them; proved, never hoped.
        exponent: e, one unit is worth 2^-e; None where the channels have units of their own (sums that a `rescale`
            has still to bring to one unit).
        steps: steps in a window (one presentation of a sample).
    """

    shape: tuple[int, ...]
    low: int
    high: int
    exponent: int | None = 0
    steps: int = 1

    @property
    def size(self) -> int:
        """Numbers in one sample and step."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage type: the first of int8, uint8, int16, uint16, int32, int64 that holds the range."""
        return storage(self.low, self.high)

    @property
    def size_bytes(self) -> int:
        """Bytes of one sample and step."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Grid:
    """Alphabet of a packed constant: ``low, low + stride … high``, or 0 and ± powers of two between them.

    The same alphabets as `bitspike.WeightFormat`; with power spacing, stride 2 leaves 0 out.

    >>> Grid(-1, 1).bits, Grid(-1, 1, stride=2).bits, Grid(-4, 4, spacing="power").levels
    (2, 1, (-4, -2, -1, 0, 1, 2, 4))
    """

    low: int
    high: int
    stride: int = 1
    spacing: str = "uniform"

    @property
    def levels(self) -> Sequence[int]:
        """All levels, ascending; the code of a level is its place among them."""
        if self.spacing == "uniform":
            return range(self.low, self.high + 1, self.stride)
        below = tuple(-(2**e) for e in reversed(range((-self.low).bit_length())))
        return (*below, *(0,) * (self.stride == 1), *(2**e for e in range(self.high.bit_length())))

    @property
    def bits(self) -> int:
        """Bits stored for a level."""
        return (len(self.levels) - 1).bit_length()


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant: integers, packed on a grid, or stored as they are (int8, int16, int32) where it is None."""

    array: Array
    grid: Grid | None = None

    @property
    def bits(self) -> int:
        """Bits stored for a number."""
        return self.array.dtype.itemsize * 8 if self.grid is None else self.grid.bits


@dataclass(frozen=True)
class Op:
    """One operation: a row. Attributes are JSON; tensors name constants by the role they play."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """What a program is fed with.

    Attributes:
        value: shape, alphabet, unit and steps.
        repeat: a sample is one step, presented at all of them; False: a sample is a sequence.
        scale: (m, s): a real number x enters as ``clip(round_half(x·m·2^-s), low, high)``; None: integers only.
    """

    value: Value
    repeat: bool = False
    scale: tuple[int, int] | None = None

    @property
    def factor(self) -> float:
        """m·2^-s; its product with a float32 number is exact in float64. 0 where there is no scale."""
        return 0.0 if self.scale is None else math.ldexp(self.scale[0], -self.scale[1])


@dataclass(frozen=True)
class Output:
    """What comes out under a name: a value, and names of its classes, or none."""

    value: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A whole program, not yet verified.

    Attributes:
        input: what it is fed with. operations: in the order in which they run.
        values: what is declared of every value but the input; the verifier derives the same or refuses.
        constants: by name. output: name of the value that comes out. classes: names, or none.
        info: what people want to know (data set, mean, std, layout, encoder): JSON, no part of the meaning.
        outputs: what comes out, by name, of a program whose outputs have names; ``output`` is "" there and ``classes``
            empty.
    """

    input: Input
    operations: tuple[Op, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, Constant]
    output: str
    classes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)

    @property
    def sent(self) -> dict[str, Output]:
        """All that comes out, in order; the name of the only one is "" where it has none."""
        return dict(self.outputs) or {"": Output(self.output, self.classes)}

    @property
    def sent_values(self) -> tuple[str, ...]:
        """Names of the values that come out, in the order of the outputs."""
        return tuple(each.value for each in self.sent.values())
