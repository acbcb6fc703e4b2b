"""What a program says of itself to JavaScript: shapes, types, ranges and names."""

from __future__ import annotations

import hashlib
from typing import Any

from bitspike.export.c.outputs import sent_of
from bitspike.export.c.schedule import schedule
from bitspike.export.c.source import Written
from bitspike.runtime import Program, Value
from bitspike.runtime.file import to_bytes


def described(name: str, file: str, program: Program, c: Written) -> dict[str, Any]:
    """Plain values for JSON, in the order in which they are read; c: what the module is made of."""
    given = program.spec.input
    fires = {made.op.name: made for made in program.operations if made.kind == "fire"}
    return {
        "name": name,
        "file": file,
        "fingerprint": fingerprint(program),
        **({} if program.spec.outputs else {"classes": list(program.spec.classes)}),
        "input": {**_value(given.value), "repeat": given.repeat, "scale": given.scale and list(given.scale)},
        **_outputs(program),
        "layers": [_layer(fires[name]) for name in c.observed],
        "order": [c.observed.index(name) for name in fires],
        "clamps": list(c.operations),
    }


def _outputs(program: Program) -> dict[str, Any]:
    """The "output" of a program whose output has no name, else "outputs", a list with their names and classes."""
    rows = []
    for each in sent_of(program, schedule(program)):
        facts: dict[str, Any] = {
            "type": "int64" if each.wide else "int32",
            "mean": each.mean is not None,
            "rows": each.rows,
        }
        rows.append(
            {**_value(each.value), **facts, "name": each.name, "classes": list(each.classes), "most": each.most}
        )
    if program.spec.outputs:
        return {"outputs": rows}
    return {"output": {key: fact for key, fact in rows[0].items() if key not in ("name", "classes", "most")}}


def output_types(program: Program) -> list[str]:
    """Of the numbers that come out: int32, and int64 where they may need it; each once."""
    values = [program.spec.values[name] for name in program.spec.sent_values]
    return sorted({"int64" if value.dtype.itemsize == 8 else "int32" for value in values})


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
