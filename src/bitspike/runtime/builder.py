"""Writing a program in Python: names and ranges are worked out on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .arithmetic import Array, storage
from .errors import fault
from .limits import INT8, INT16, INT32
from .ops import OPERATIONS
from .program import Program
from .spec import INPUT, Constant, Grid, Input, Op, Output, Spec, Value


class Builder:
    """Collects operations one by one; each is proved when it is added.

    >>> b = Builder(Input(Value((2,), 0, 1), repeat=True))
    >>> y = b.add("linear", [INPUT], tensors={"weight": b.constant(np.array([[1, -1]]), Grid(-1, 1))})
    >>> b.values[y]
    Value(shape=(1,), low=-1, high=1, exponent=0, steps=1)
    >>> b.finish(y)(np.array([1, 0])).levels.tolist()
    [[[1]]]
    """

    def __init__(self, given: Input) -> None:
        self.given = given
        self.values: dict[str, Value] = {INPUT: given.value}
        self.operations: list[Op] = []
        self.constants: dict[str, Constant] = {}

    def constant(self, array: Any, grid: Grid | None = None, name: str = "") -> str:
        """Add a constant; without a grid it is stored as the least of int8, int16 and int32. Returns its name."""
        name = name or f"constant{len(self.constants)}"
        if name in self.constants:
            raise fault(f"constant {name}", "constants must have names of their own", "a second one", "rename it")
        numbers = np.asarray(array)
        if numbers.dtype.kind not in "iu":
            raise fault(f"constant {name}", "it must be integers", numbers.dtype, "quantize it")
        self.constants[name] = Constant(self._stored(name, numbers, grid), grid)
        return name

    @staticmethod
    def _stored(name: str, numbers: Array, grid: Grid | None) -> Array:
        low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
        if low < INT32[0] or high > INT32[1]:
            raise fault(f"constant {name}", "it must fit 32 bits", f"{low}..{high}", "quantize it to fewer bits")
        if grid is not None:
            return numbers.astype(storage(min(low, grid.low), max(high, grid.high)))
        for kind, (least, most) in (("int8", INT8), ("int16", INT16)):
            if least <= low and high <= most:
                return numbers.astype(kind)
        return numbers.astype("int32")

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        tensors: Mapping[str, str] | None = None,
        name: str = "",
        outputs: Sequence[str] = (),
    ) -> str:
        """Add an operation; returns the name of its first output, by default that of the operation."""
        name = name or f"{kind}{len(self.operations)}"
        op = Op(kind, name, tuple(inputs), tuple(outputs) or (name,), dict(attributes or {}), dict(tensors or {}))
        if kind not in OPERATIONS:
            raise fault(name, f"the kind must be one of {', '.join(OPERATIONS)}", repr(kind), "correct it")
        lost = [n for n in op.inputs if n not in self.values] + [
            n for n in op.tensors.values() if n not in self.constants
        ]
        if lost:
            raise fault(f"{kind} {name}", "inputs and constants must exist", lost, "add them first")
        arrays = {role: self.constants[constant].array for role, constant in op.tensors.items()}
        made = OPERATIONS[kind](op, tuple(self.values[n] for n in op.inputs), arrays)
        self.values.update(zip(op.outputs, made.written, strict=True))
        self.operations.append(op)
        return op.outputs[0]

    def finish(
        self,
        output: str | Mapping[str, str],
        classes: Sequence[str] | Mapping[str, Sequence[str]] = (),
        info: Mapping[str, Any] | None = None,
    ) -> Program:
        """The verified program.

        Args:
            output: name of the value that comes out; of several outputs name → value, and then ``classes`` are by name,
                too: output → names of its classes, for those which have some.
        """
        named: dict[str, Output] = {}
        if isinstance(output, Mapping):
            rows = classes if isinstance(classes, Mapping) else {}
            lost = sorted(set(rows) - set(output))
            if not output:
                raise fault("outputs", "there must be one or more", "none", "name what comes out")
            if lost or (classes and not rows):
                must = "classes of outputs with names must be given by the name of one"
                got = ", ".join(map(repr, lost)) if lost else "a list for all"
                raise fault("outputs", must, got, f"pass a dict; outputs are {', '.join(output)}")
            named = {name: Output(value, tuple(rows.get(name, ()))) for name, value in output.items()}
        elif isinstance(classes, Mapping):
            raise fault("classes", "they must be a list where one output has no name", "a mapping", "pass its names")
        declared = {name: value for name, value in self.values.items() if name != INPUT}
        constants = dict(self.constants)
        operations = tuple(self.operations)
        alone = ("", ()) if isinstance(output, Mapping) else (output, tuple(classes))
        return Program(Spec(self.given, operations, declared, constants, *alone, dict(info or {}), named))
