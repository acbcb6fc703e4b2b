"""Says whether a program is legal; what it accepts cannot overflow, and reads nothing before it is written."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from . import limits
from .arithmetic import Array
from .echoes import check_echoes
from .errors import fault
from .limits import INT32, INT64
from .ops import OPERATIONS, Operation
from .spec import INPUT, Constant, Grid, Input, Op, Spec, Value


def verify(spec: Spec) -> tuple[Operation, ...]:
    """Prove a program legal; returns its operations, ready to run.

    Checked: names, limits, the constants' alphabets, that every operation is a row of the table with the attributes,
    constants, shapes, ranges, units and steps it must have, that values are written once and read after that, and that
    what is declared of every value is what follows from the operations.

    Raises:
        ProgramError: the program is not legal; names the place.
    """
    _input(spec.input)
    if not 1 <= len(spec.operations) <= limits.MAX_OPERATIONS:
        must = f"it must have 1 to {limits.MAX_OPERATIONS} operations"
        raise fault("program", must, len(spec.operations), "split it")
    for name, constant in spec.constants.items():
        _constant(name, constant)
    known: dict[str, Value] = {INPUT: spec.input.value}
    done: list[Operation] = []
    used: set[str] = set()
    names: set[str] = set()
    closed: set[str] = set()  # means
    numbers = 0
    for op in spec.operations:
        _names(op, names)
        numbers += sum(spec.constants[name].array.size for name in op.tensors.values() if name in spec.constants)
        if numbers > limits.MAX_USED:
            must = f"operations must use at most {limits.MAX_USED} numbers of constants"
            raise fault("program", must, f"more, at {op.name}", "share less")
        done.append(_operation(op, spec, known, closed))
        closed.update(op.outputs if done[-1].final else ())
        used.update(op.tensors.values())
    _declared(spec, known)
    check_echoes(done, known)
    if used != set(spec.constants):
        raise fault("program", "every constant must be used", sorted(set(spec.constants) - used), "leave it out")
    _outputs(spec, known, closed)
    return tuple(done)


def _outputs(spec: Spec, known: dict[str, Value], means: set[str]) -> None:
    if spec.outputs and (spec.output or spec.classes):
        raise fault("program", "it must have one output or outputs with names", "both", "leave one of them out")
    if len(spec.outputs) > limits.MAX_OUTPUTS:
        must = f"it must have at most {limits.MAX_OUTPUTS} outputs"
        raise fault("program", must, len(spec.outputs), "split it")
    for name in spec.outputs:
        _name("outputs", name)
    rows = [(f"output {name}" if name else "the output", each) for name, each in spec.sent.items()]
    for which, each in rows:
        if each.value not in known or each.value == INPUT:
            raise fault("program", f"{which} must be a value that is written", repr(each.value), "correct it")
    lost = sorted(means.difference(spec.sent_values))
    if lost:
        must = "a mean must be an output" if spec.outputs else "a mean must be the output"
        raise fault("program", must, ", ".join(map(repr, spec.sent_values)), f"let {lost[0]} come out")
    for which, each in rows:
        if known[each.value].exponent is None:
            raise fault("program", f"{which} must have a unit", "channels with units of their own", "rescale it")
        _classes(each.classes, known[each.value])


def _operation(op: Op, spec: Spec, known: dict[str, Value], closed: set[str]) -> Operation:
    where = f"{op.kind} {op.name}"
    if op.kind not in OPERATIONS:
        raise fault(where, f"the kind must be one of {', '.join(OPERATIONS)}", repr(op.kind), "correct it")
    for name in op.inputs:
        if name not in known:
            raise fault(where, "an input must be written before it is read", repr(name), "move it, or correct the name")
        if name in closed:
            raise fault(where, "nothing may read a mean", repr(name), "read what the mean reads")
    lost = sorted(name for name in op.tensors.values() if name not in spec.constants)
    if lost:
        raise fault(where, "its constants must exist", lost, "add them")
    arrays = {role: spec.constants[name].array for role, name in op.tensors.items()}
    made = OPERATIONS[op.kind](op, tuple(known[name] for name in op.inputs), arrays)
    for name, value in zip(op.outputs, made.written, strict=True):
        if name in known:
            raise fault(where, "a value must be written once", repr(name), "choose another name")
        _name(where, name)
        _value(f"{where} writes {name}", value)
        known[name] = value
    return made


def _declared(spec: Spec, known: dict[str, Value]) -> None:
    for name, value in spec.values.items():
        if name not in known or name == INPUT:
            raise fault("program", "declared values must be written", repr(name), "leave it out")
        if known[name] != value:
            raise fault(f"value {name}", f"it must be declared as {known[name]}", value, "let a builder declare it")
    lost = sorted(set(known) - set(spec.values) - {INPUT})
    if lost:
        raise fault("program", "written values must be declared", lost, "let a builder declare them")


def _input(given: Input) -> None:
    value = given.value
    _value("input", value)
    if value.exponent is None or value.low < INT32[0] or value.high > INT32[1]:
        raise fault("input", "it must have a unit and fit 32 bits", value, "correct it")
    if given.scale is None:
        return
    multiplier, shift = given.scale
    if not (_whole(multiplier, 1, 2**24) and _whole(shift, 0, 62)):
        raise fault("input", "its scale must be [m, s], 1 <= m <= 2^24, 0 <= s <= 62", given.scale, "correct it")


def _value(where: str, value: Value) -> None:
    shape, exponent = value.shape, value.exponent
    sides = all(_whole(side, 1, limits.MAX_SIDE) for side in shape)
    if not 1 <= len(shape) <= limits.MAX_AXES or not sides or math.prod(shape) > limits.MAX_ELEMENTS:
        must = f"it must have 1 to {limits.MAX_AXES} axes and at most {limits.MAX_ELEMENTS} numbers"
        raise fault(where, must, list(shape)[:8], "make it smaller")
    if not (_whole(value.low, *INT64) and _whole(value.high, *INT64) and value.low <= value.high):
        raise fault(where, "low <= high must be 64-bit integers", f"{value.low}..{value.high}", "correct them")
    if exponent is not None and not _whole(exponent, -1024, 1024):
        raise fault(where, "the exponent must be an integer from -1024 to 1024", exponent, "correct it")
    if not _whole(value.steps, 1, limits.MAX_STEPS):
        raise fault(where, f"it must have 1 to {limits.MAX_STEPS} steps", value.steps, "correct it")


def _constant(name: str, constant: Constant) -> None:
    where = f"constant {name}"
    _name(where, name)
    array, grid = constant.array, constant.grid
    if array.dtype.kind not in "iu" or not 1 <= array.ndim <= MAX_CONSTANT_AXES or not array.size:
        must = f"it must be integers with 1 to {MAX_CONSTANT_AXES} axes, and not empty"
        raise fault(where, must, f"{array.dtype} {list(array.shape)}", "correct it")
    if array.size > limits.MAX_ELEMENTS:
        raise fault(where, f"it must have at most {limits.MAX_ELEMENTS} numbers", array.size, "split the layer")
    if grid is None:
        if array.dtype.name not in ("int8", "int16", "int32"):
            raise fault(where, "it must be int8, int16, int32, or on a grid", array.dtype, "convert it")
        return
    check_grid(where, grid)
    if not on_grid(array, grid):
        raise fault(where, f"it must be on {grid}", f"{array.min()}..{array.max()}", "quantize it")


MAX_CONSTANT_AXES = 4


def check_grid(where: str, grid: Grid) -> None:
    """Raise unless a grid is an alphabet of at least two levels within 32 bits."""
    whole = (
        _whole(grid.low, *INT32) and _whole(grid.high, *INT32) and grid.low < grid.high and _whole(grid.stride, 1, 2)
    )
    if grid.spacing == "uniform":
        legal = whole and (grid.high - grid.low) % grid.stride == 0
    else:
        powers = whole and grid.low <= 0 < grid.high and _power(-grid.low) and _power(grid.high)
        legal = grid.spacing == "power" and powers and (grid.stride == 1 or grid.low < 0)
    if not legal:
        raise fault(where, "its grid must be uniform, or powers of two, with two levels or more", grid, "correct it")


def on_grid(array: Array, grid: Grid) -> bool:
    """Whether all numbers are levels."""
    low, high = int(array.min()), int(array.max())
    if low < grid.low or high > grid.high:
        return False
    if grid.spacing == "power":
        return set(_distinct(array)) <= set(grid.levels)
    return grid.stride == 1 or bool((array & 1 == grid.low & 1).all())


def _distinct(array: Array) -> Iterable[int]:
    import numpy as np

    return np.unique(array).tolist()  # type: ignore[no-any-return]


def _power(k: int) -> bool:
    return k & (k - 1) == 0


def _names(op: Op, seen: set[str]) -> None:
    _name("operation", op.name)
    if op.name in seen:
        raise fault(f"{op.kind} {op.name}", "operations must have names of their own", "a second one", "rename it")
    seen.add(op.name)


def _name(where: str, name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= limits.MAX_NAME or not name.isprintable():
        must = f"a name must be 1 to {limits.MAX_NAME} printable characters"
        raise fault(where, must, repr(name), "rename it")


def _classes(classes: tuple[str, ...], output: Value) -> None:
    for name in classes:
        _name("classes", name)
    if classes and output.shape != (len(classes),):
        must = f"there must be one for each number of an output {list(output.shape)}"
        raise fault("classes", must, len(classes), "correct it")


def _whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
