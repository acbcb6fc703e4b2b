"""Which kernel a layer gets: the one with the fewest instructions, by a rough count."""

from __future__ import annotations

from typing import Any

from bitspike.runtime import INPUT
from bitspike.runtime.arithmetic import Array
from bitspike.runtime.spec import Value

from .dense import Dense
from .events import Events
from .kernels import Kernel
from .names import scalar
from .planes import Planes, magnitude_bits
from .writing import Function

DENSITY = 0.25
"""Spikes that are not silent, as a guess."""
PASSES = frozenset({"reshape", "maxpool", "tally", "slice", "pad", "concat", "windows", "latch", "sumpool"})
"""Operations that keep zeros."""


def kernel_for(f: Function, constant: Any, rows: Array, x: Value, y: Value, read: str, outputs: int) -> Kernel:
    """The kernel of a layer with weights ``rows`` [O, K], of which a window meets ``outputs`` rows."""
    found: dict[type[Kernel], float] = {}
    count, bits = rows.shape[1], magnitude_bits(x.low, x.high)
    density = DENSITY if is_spikes(f, read) else 1.0
    narrow = scalar(y.low, y.high) == "int32_t"
    low, high = int(rows.min()), int(rows.max())
    found[Events] = count * density * 3.5
    if narrow and low >= -128 and high <= 127 and x.low >= -32768 and x.high <= 32767 and _is_bytes(constant):
        found[Dense] = count * 3
    if narrow and low >= -1 and high <= 1 and bits <= 8 and count << bits < 2**31 and count <= 2**20:
        ternary = bool((rows == 0).any())
        gathered = count * (4 + 4 * bits) * density / outputs
        found[Planes] = -(-count // 32) * (6 + bits * (28 if ternary else 15)) + gathered
    return min(found, key=lambda kind: found[kind])(f, constant, rows, x, y, outputs)


def _is_bytes(constant: Any) -> bool:
    return constant.bits >= 8


def is_spikes(f: Function, name: str) -> bool:
    """Whether a value comes from neurons, through what keeps zeros."""
    makers = {output: made for made in f.unit.program.operations for output in made.op.outputs[:1]}
    seen: set[str] = set()  # echoes may lead in a circle
    while name != INPUT and name in makers:
        made = makers[name]
        if made.op.kind == "fire":
            return True
        if made.op.kind == "echo":
            if name in seen:
                return False
            seen.add(name)
            name = made.attributes["of"]
            continue
        if made.op.kind not in PASSES:
            return False
        name = made.op.inputs[0]
    return False
