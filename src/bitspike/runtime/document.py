"""The JSON graph of a program: written and read field by field, nothing unknown passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import limits
from .errors import fault
from .spec import Constant, Grid, Input, Op, Output, Spec, Value
from .verifier import MAX_CONSTANT_AXES, check_grid

FORMAT = "bitspike.program"
VERSION = (1, 2)
"""(major, minor): a reader takes its own major up to its own minor."""


@dataclass(frozen=True)
class Document:
    """What the JSON says; the constants' numbers are beside it."""

    input: Input
    operations: tuple[Op, ...]
    values: dict[str, Value]
    constants: dict[str, tuple[tuple[int, ...], Grid | None]]
    output: str
    classes: tuple[str, ...]
    outputs: dict[str, Output]
    info: dict[str, Any]
    sha256: str

    def spec(self, constants: Mapping[str, Constant]) -> Spec:
        """The spec, with the numbers."""
        names = self.output, self.classes
        return Spec(self.input, self.operations, self.values, constants, *names, self.info, self.outputs)


_SINCE = {"echo": 1}
"""Kind of an operation → the minor version that brought it."""
_OUTPUTS_SINCE = 2
"""The minor version that brought outputs with names."""


def _minor(spec: Spec) -> int:
    """The least that a file needs, so that older readers take what they know."""
    named = _OUTPUTS_SINCE if spec.outputs else 0
    return max(named, *(_SINCE.get(op.kind, 0) for op in spec.operations))


def write_document(spec: Spec, sha256: str) -> dict[str, Any]:
    """The JSON of a spec."""
    given = spec.input
    return {
        "format": FORMAT,
        "version": [VERSION[0], _minor(spec)],
        "sha256": sha256,
        "input": {
            **_value_out(given.value),
            "repeat": given.repeat,
            "scale": None if given.scale is None else list(given.scale),
        },
        **_sent_out(spec),
        "info": dict(spec.info),
        "constants": {
            name: {
                "shape": list(constant.array.shape),
                "grid": None if constant.grid is None else _grid_out(constant.grid),
            }
            for name, constant in spec.constants.items()
        },
        "values": {name: _value_out(value) for name, value in spec.values.items()},
        "operations": [
            {
                "kind": op.kind,
                "name": op.name,
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
                "attributes": {
                    name: list(value) if isinstance(value, tuple) else value for name, value in op.attributes.items()
                },
                "constants": dict(op.tensors),
            }
            for op in spec.operations
        ],
    }


def _sent_out(spec: Spec) -> dict[str, Any]:
    if not spec.outputs:
        return {"output": spec.output, "classes": list(spec.classes)}
    rows = {name: {"value": each.value, "classes": list(each.classes)} for name, each in spec.outputs.items()}
    return {"outputs": rows}


def _value_out(value: Value) -> dict[str, Any]:
    shape, ends = list(value.shape), {"low": value.low, "high": value.high}
    return {"shape": shape, **ends, "exponent": value.exponent, "steps": value.steps}


def _grid_out(grid: Grid) -> dict[str, Any]:
    return {"low": grid.low, "high": grid.high, "stride": grid.stride, "spacing": grid.spacing}


def read_document(raw: dict[str, Any]) -> Document:
    """The JSON of a file, checked for form; what it means is the verifier's to judge."""
    if raw.get("format") != FORMAT:
        raise fault("program", f"its format must be {FORMAT}", raw.get("format"), "check what file it is")
    version = raw.get("version")
    if not isinstance(version, list) or [type(part) for part in version] != [int, int]:
        raise fault("program", "its version must be two integers", version, "fetch the file again")
    if version[0] != VERSION[0] or not 0 <= version[1] <= VERSION[1]:
        must = f"its version must be {VERSION[0]}.0 to {VERSION[0]}.{VERSION[1]}"
        raise fault("program", must, f"{version[0]}.{version[1]}", "use the release that wrote it, or a newer one")
    named = version[1] >= _OUTPUTS_SINCE and "outputs" in raw
    keys = "format version sha256 input info constants values operations "
    top = _record("program", raw, keys + ("outputs" if named else "output classes"))
    given = _record("input", top["input"], "shape low high exponent steps repeat scale")
    if not isinstance(given["repeat"], bool):
        raise fault("input", "repeat must be true or false", given["repeat"], "correct it")
    scale = None if given["scale"] is None else _integers("input", given["scale"], 2)
    if scale is not None and len(scale) != 2:
        raise fault("input", "its scale must be [m, s]", given["scale"], "correct it")
    value = _value("input", {key: part for key, part in given.items() if key not in ("repeat", "scale")})
    return Document(
        Input(value, given["repeat"], None if scale is None else (scale[0], scale[1])),
        tuple(_op(entry) for entry in _list("program", top["operations"], limits.MAX_OPERATIONS)),
        {name: _value(f"value {name}", entry) for name, entry in _mapping("values", top["values"]).items()},
        {name: _constant(f"constant {name}", entry) for name, entry in _mapping("constants", top["constants"]).items()},
        "" if named else _text("output", top["output"]),
        () if named else _classes("classes", top["classes"]),
        _outputs(top["outputs"]) if named else {},
        _mapping("info", top["info"]),
        _text("sha256", top["sha256"]),
    )


def _outputs(entry: object) -> dict[str, Output]:
    rows = _mapping("outputs", entry)
    if not 1 <= len(rows) <= limits.MAX_OUTPUTS:
        raise fault("outputs", f"there must be 1 to {limits.MAX_OUTPUTS}", len(rows), "split the program")
    found = {}
    for name, row in rows.items():
        where = f"output {name}"
        parts = _record(where, row, "value classes")
        found[name] = Output(_text(where, parts["value"]), _classes(where, parts["classes"]))
    return found


def _classes(where: str, entry: object) -> tuple[str, ...]:
    return tuple(_text(where, name) for name in _list(where, entry, limits.MAX_SIDE))


def _op(entry: object) -> Op:
    row = _record("operation", entry, "kind name inputs outputs attributes constants")
    name = _text("operation", row["name"])
    where = f"operation {name}"
    inputs, outputs = (
        tuple(_text(where, item) for item in _list(where, row[key], 1024)) for key in ("inputs", "outputs")
    )
    roles = {role: _text(where, constant) for role, constant in _mapping(where, row["constants"]).items()}
    return Op(_text(where, row["kind"]), name, inputs, outputs, _mapping(where, row["attributes"]), roles)


def _value(where: str, entry: object) -> Value:
    row = _record(where, entry, "shape low high exponent steps")
    numbers = [row[key] for key in ("low", "high", "steps")]
    if any(type(number) is not int for number in numbers) or type(row["exponent"]) not in (int, type(None)):
        raise fault(where, "low, high, exponent and steps must be integers", numbers, "correct them")
    return Value(
        _integers(where, row["shape"], limits.MAX_AXES), row["low"], row["high"], row["exponent"], row["steps"]
    )


def _constant(where: str, entry: object) -> tuple[tuple[int, ...], Grid | None]:
    row = _record(where, entry, "shape grid")
    shape = _integers(where, row["shape"], MAX_CONSTANT_AXES)
    if any(side < 0 for side in shape):
        raise fault(where, "its shape must be lengths", list(shape), "correct it")
    if row["grid"] is None:
        return shape, None
    parts = _record(where, row["grid"], "low high stride spacing")
    if any(type(parts[key]) is not int for key in ("low", "high", "stride")):
        raise fault(where, "its grid must be integers", parts, "correct it")
    grid = Grid(parts["low"], parts["high"], parts["stride"], _text(where, parts["spacing"]))
    check_grid(where, grid)
    return shape, grid


def _record(where: str, entry: object, keys: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or set(entry) != set(keys.split()):
        got = sorted(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise fault(where, f"it must have the keys {keys} and no others", got, "correct it")
    return entry


def _mapping(where: str, entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise fault(where, "it must be an object", type(entry).__name__, "correct it")
    return entry


def _list(where: str, entry: object, most: int) -> list[Any]:
    if not isinstance(entry, list) or len(entry) > most:
        raise fault(where, f"it must be a list of at most {most}", type(entry).__name__, "correct it")
    return entry


def _integers(where: str, entry: object, most: int) -> tuple[int, ...]:
    items = _list(where, entry, most)
    if any(type(item) is not int for item in items):
        raise fault(where, "it must be a list of integers", items, "correct it")
    return tuple(items)


def _text(where: str, entry: object) -> str:
    if not isinstance(entry, str):
        raise fault(where, "it must be a text", type(entry).__name__, "correct it")
    return entry
