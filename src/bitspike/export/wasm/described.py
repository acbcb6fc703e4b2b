"""What a program says of itself to JavaScript: shapes, types, ranges and names."""

from __future__ import annotations

import hashlib
from typing import Any

from bitspike.export.c.source import Written
from bitspike.runtime import Program, Value
from bitspike.runtime.file import to_bytes


def described(name: str, file: str, program: Program, c: Written) -> dict[str, Any]:
    """Plain values for JSON, in the order in which they are read; c: what the module is made of."""
    given, output = program.spec.input, output_of(program)
    mean = any(made.final for made in program.operations)
    fires = {made.op.name: made for made in program.operations if made.kind == "fire"}
    return {
        "name": name,
        "file": file,
        "fingerprint": fingerprint(program),
        "classes": list(program.spec.classes),
        "input": {**_value(given.value), "repeat": given.repeat, "scale": given.scale and list(given.scale)},
        "output": {**_value(output), "type": output_type(program), "mean": mean, "rows": 1 if mean else output.steps},
        "layers": [_layer(fires[name]) for name in c.observed],
        "order": [c.observed.index(name) for name in fires],
        "clamps": list(c.operations),
    }


def output_of(program: Program) -> Value:
    """What is known of the output."""
    name = program.spec.output
    return next(v for m in program.operations for n, v in zip(m.op.outputs, m.written, strict=True) if n == name)


def output_type(program: Program) -> str:
    """Of the numbers that come out: int32, or int64 where they may need it."""
    return "int64" if output_of(program).dtype.itemsize == 8 else "int32"


def fingerprint(program: Program) -> int:
    """32 bits that tell one program from another, to notice a module beside the wrong file."""
    return int.from_bytes(hashlib.sha256(to_bytes(program.spec)).digest()[:4], "little")


def _value(value: Value) -> dict[str, Any]:
    return {
        "shape": list(value.shape),
        "size": value.size,
        "type": value.dtype.name,
        "low": value.low,
        "high": value.high,
        "exponent": value.exponent or 0,
        "steps": value.steps,
    }


def _layer(made: Any) -> dict[str, Any]:
    value = made.written[0]
    about = {"name": made.op.outputs[0], "shape": list(value.shape)}
    return {**about, "low": value.low, "high": value.high, "steps": value.steps}
