"""The contract of an operation: its row of the table, its proof and its meaning, in one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..errors import ProgramError, fault
from ..fields import REQUIRED, Fields, Roles
from ..limits import INT32, MAX_STEPS
from ..spec import Op, Value


@dataclass(frozen=True)
class Slot:
    """State that an operation keeps for one sample: a tensor that lives from step to step."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "int32"

    @property
    def size_bytes(self) -> int:
        """Bytes for one sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Ran:
    """What a run gives: outputs [n, B, ...], the state after it, and how many numbers were clamped."""

    outputs: tuple[Array, ...]
    state: Any = None
    clamped: int = 0


class Operation(ABC):
    """One verified operation of one program. A leaf class sets the parts named here; making one proves it legal.

    Attributes:
        kind: name of the row. fields: attributes. roles: constants it takes → whether it must have them.
        arity, results: least and greatest number of inputs and outputs.
        reads_wide: it takes numbers beyond int32 and values without a common unit.
        final: what it writes can only be the output of the program.
        rates: it changes the number of steps.
        written: what it proves of its outputs.
    """

    kind: ClassVar[str]
    fields: ClassVar[Fields] = {}
    roles: ClassVar[Roles] = {}
    arity: ClassVar[tuple[int, int]] = (1, 1)
    results: ClassVar[tuple[int, int]] = (1, 1)
    reads_wide: ClassVar[bool] = False
    final: ClassVar[bool] = False
    rates: ClassVar[bool] = False

    def __init__(self, op: Op, read: tuple[Value, ...], constants: Mapping[str, Array]) -> None:
        self.op: Op = op
        self.read: tuple[Value, ...] = read
        self.constants: Mapping[str, Array] = constants
        self.where: str = f"{op.kind} {op.name}"
        self.attributes: dict[str, Any] = self._attributes()
        self._check_edges()
        self.written: tuple[Value, ...] = self.prove()

    @abstractmethod
    def prove(self) -> tuple[Value, ...]:
        """Check shapes, widths and units; return what holds of the outputs."""

    @abstractmethod
    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        """The meaning: inputs [n, B, ...], n >= 1, and the state before (None: afresh) → outputs and state. Pure."""

    def slots(self) -> tuple[Slot, ...]:
        """State kept for one sample."""
        return ()

    @property
    def steady(self) -> bool:
        """Whether equal steps in give equal steps out: no state, and no constants that differ by step."""
        return not self.slots()

    def bad(self, must: str, got: object, todo: str) -> ProgramError:
        """An error that names this operation."""
        return fault(self.where, must, got, todo)

    def _attributes(self) -> dict[str, Any]:
        given = self.op.attributes
        unknown = sorted(set(given) - set(self.fields))
        if unknown:
            raise self.bad(f"its attributes are {', '.join(self.fields) or 'none'}", unknown, "leave it out")
        found: dict[str, Any] = {}
        for name, rule in self.fields.items():
            value = given.get(name, rule.default)
            if value is REQUIRED:
                raise self.bad(f"it must have the attribute {name}", "none", "write it")
            found[name] = value if name not in given and value is None else rule.check(f"{self.where} {name}", value)
        return found

    def _check_edges(self) -> None:
        for what, count, (least, most) in (
            ("inputs", len(self.read), self.arity),
            ("outputs", len(self.op.outputs), self.results),
        ):
            if not least <= count <= most:
                raise self.bad(f"it must have {least} to {most} {what}", count, "correct it")
        for role, needed in self.roles.items():
            if needed and role not in self.constants:
                raise self.bad(f"it must have the constant {role}", "none", "write it")
        unknown = sorted(set(self.constants) - set(self.roles))
        if unknown:
            raise self.bad(f"its constants are {', '.join(self.roles) or 'none'}", unknown, "leave it out")
        for value in self.read:
            if value.exponent is None and not self.reads_wide:
                raise self.bad("its inputs must have a unit", "channels with units of their own", "rescale first")
            if not self.reads_wide and (value.low < INT32[0] or value.high > INT32[1]):
                raise self.bad("its inputs must fit 32 bits", f"{value.low}..{value.high}", "rescale first")
        if len({value.steps for value in self.read}) > 1:
            raise self.bad("its inputs must have equal steps", [v.steps for v in self.read], "put windows between")

    def fits(self, low: int, high: int, what: str = "its output") -> None:
        """Raise unless a range fits 32 bits."""
        if low < INT32[0] or high > INT32[1]:
            raise self.bad(f"{what} must fit 32 bits", f"{low}..{high}", "rescale first, to fewer bits")

    def per_channel(self, role: str, value: Value) -> Array | None:
        """A constant [1] or [C], or by step [steps, 1] or [steps, C], as [steps or 1, C or 1]; None where not given."""
        array = self.constants.get(role)
        if array is None:
            return None
        channels = value.shape[0]
        if array.ndim > 2 or array.shape[-1] not in (1, channels):
            must = f"{role} must be [1], [{channels}], [steps, 1] or [steps, {channels}]"
            raise self.bad(must, list(array.shape), "correct it")
        rows: Array = array.reshape(-1, array.shape[-1]).astype(np.int64)
        if len(rows) > MAX_STEPS:
            raise self.bad(f"{role} must have at most {MAX_STEPS} steps", len(rows), "leave equal ones at the end out")
        return rows


def row(table: Array, time: int, axes: int) -> Array:
    """The row of a step (the last one for all later steps), to broadcast over [B, C, ...] of so many axes from C on."""
    found: Array = table[min(time, len(table) - 1)].reshape(-1, *[1] * (axes - 1))
    return found


def advance(time: int, steps: int) -> int:
    """A counter of steps that stops before it could overflow; rows of constants end long before."""
    return min(time + steps, INT32[1])
