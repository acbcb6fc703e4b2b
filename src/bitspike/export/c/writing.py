"""One function in the making, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bitspike.runtime import INPUT, Program
from bitspike.runtime.arithmetic import Array
from bitspike.runtime.spec import Value

from .groups import Group, values_of
from .names import Constants, ctype, literal, scalar
from .places import Place, Places
from .schedule import Schedule, Task


@dataclass
class Unit:
    """What the functions of one program share.

    Attributes:
        prefix: of names. clamps: operations that count, in order. kernels: helpers that are called, by name.
        scratch: bytes or numbers that a kernel needs, by member of the scratch union.
        timed: clocks whose steps since the start of a stream are counted, with the number they stop at.
        fires: operations that send spikes, in order.
    """

    program: Program
    found: Schedule
    places: Places
    prefix: str
    constants: Constants = field(default_factory=Constants)
    clamps: list[str] = field(default_factory=list)
    fires: list[str] = field(default_factory=list)
    kernels: dict[str, str] = field(default_factory=dict)
    scratch: dict[str, int] = field(default_factory=dict)
    timed: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values: dict[str, Value] = values_of(self.program)
        self.numbers: dict[str, int] = {name: i for i, name in enumerate(self.values)}

    @property
    def output_type(self) -> str:
        """Of what functions write outputs to."""
        return f"{self.prefix}_outputs" if self.program.spec.outputs else f"{self.prefix}_output"

    def counter(self, name: str) -> int:
        """Number of the counter of an operation."""
        if name not in self.clamps:
            self.clamps.append(name)
        return self.clamps.index(name)


class Function:
    """One group as a C function."""

    def __init__(self, unit: Unit, group: Group, number: int) -> None:
        self.unit: Unit = unit
        self.group: Group = group
        self.number: int = number
        self.clock: int = group.loop.clock
        self.head: list[str] = []
        self.body: list[str] = []
        self.tail: list[str] = []
        self.scalars: dict[str, str] = {}
        self._rows: set[int] = set()
        self._pointers: dict[str, str] = {}
        self._counts: dict[str, str] = {}

    def value(self, name: str) -> Value:
        """What is known of a value."""
        return self.unit.values[name]

    def pointer(self, name: str, write: bool = False) -> str:
        """Name of a pointer to the numbers of a value at this step."""
        if name in self._pointers:
            return self._pointers[name]
        place = self.unit.places.values.get(name)
        found = f"p{self.unit.numbers[name]}"
        if name == INPUT and (place is None or (self.clock == 0 and not write)):
            found = "x"
        else:
            assert place is not None  # everything that another group reads has a place
            self.head.append(self._declared(found, place, self._slot(name, place), write))
        self._pointers[name] = found
        return found

    def _slot(self, name: str, place: Place) -> str:
        if place.slots == 1:
            return ""
        index = f"c->done[{self.clock}]"
        if self.unit.found.mode[name] == "held":
            index = f"(c->held ? 0u : {index})"
        return f" + {place.size}u * {index}"

    @staticmethod
    def _declared(name: str, place: Place, slot: str, write: bool) -> str:
        const = "" if write else "const "
        base = {"b": "int8_t", "h": "int16_t", "w": "int32_t", "d": "int64_t"}[place.arena]
        where = f"c->{place.arena}" + (f" + {place.offset}" if place.offset else "") + slot
        cast = f"({const}{place.type} *)({where})" if base != place.type else where
        return f"{const}{place.type} *{name} = {cast};"

    def state(self, slot: str) -> str:
        """Name of a pointer to a state of an operation, by "operation.slot"."""
        if slot not in self._pointers:
            place = self.unit.places.states[slot]
            name = self._pointers[slot] = f"s{list(self.unit.places.states).index(slot)}"
            self.head.append(self._declared(name, place, "", True))
        return self._pointers[slot]

    def load(self, name: str, index: str = "i") -> str:
        """Expression of a number of a value: one of this group, or one in memory."""
        if name in self.scalars:
            return self.scalars[name]
        value = self.value(name)
        kind = scalar(value.low, value.high)
        plain = f"{self.pointer(name)}[{index}]"
        return plain if ctype(value.dtype) == kind else f"({kind}){plain}"

    def result(self, name: str, expression: str, index: str = "i") -> str:
        """Let a value of this group be so; it is stored where others read it. Returns the name of the number."""
        value = self.value(name)
        kind, found = scalar(value.low, value.high), f"v{self.unit.numbers[name]}"
        self.body.append(f"{kind} {found} = {expression};")
        self.scalars[name] = found
        if name in self.unit.places.values:
            to = ctype(value.dtype)
            self.body.append(f"{self.pointer(name, True)}[{index}] = {'' if to == kind else f'({to})'}{found};")
        elif not self._is_read(name):
            self.body.append(f"(void){found};")
        return found

    def _is_read(self, name: str) -> bool:
        return any(name in task.reads for task in self.group.tasks)

    def count(self, task: Task) -> str:
        """Name of the count of what an operation clamps."""
        assert task.made is not None
        name = task.made.op.name
        if name not in self._counts:
            at, found = self.unit.counter(name), f"n{self.unit.counter(name)}"
            self.head.append(f"uint32_t {found} = 0;")
            times = {"held": f" * (c->held ? {self.unit.found.clocks[0].steps}u : 1u)", "step": ""}.get(
                self.group.loop.mode, f" * {self.unit.found.clocks[self.clock].steps}u"
            )
            self.tail.append(f"c->clamped[{at}] += {f'(uint64_t){found}{times}' if times else found};")
            self._counts[name] = found
        return self._counts[name]

    def row(self, rows: int) -> str:
        """Name of the number of the row of a constant that differs by step, at this step."""
        name = f"r{rows}"
        if rows not in self._rows:
            self._rows.add(rows)
            self.head.append(f"const uint32_t {name} = {self.time(rows - 1)};")
        return name

    def time(self, most: int) -> str:
        """Expression of the steps since a stream began, at most so many."""
        self.unit.timed[self.clock] = max(self.unit.timed.get(self.clock, 0), most)
        now = f"c->time[{self.clock}]"
        return f"({now} < {most}u ? {now} : {most}u)"

    def constant(self, table: Array, unsigned: bool = False) -> str:
        """Expression of a constant [steps or 1, C or 1] for channel o at this step, of type int32_t or uint32_t."""
        rows, channels = table.shape
        if table.size == 1 or (table == table.flat[0]).all():
            return literal(int(table.flat[0])) + "u" * unsigned
        name = self.unit.constants.table(table, np.min_scalar_type(int(table.max())) if unsigned else None)
        index = "o" if channels > 1 else ""
        if rows > 1:
            at = self.row(rows)
            index = f"{at} * {channels}u + o" if channels > 1 else at
        return f"({'u' * unsigned}int32_t){name}[{index}]"

    def text(self) -> list[str]:
        """The whole function."""
        counted = sorted(self.head, key=lambda line: not line.startswith(("const", "int", "uint")))
        lines = [f"    {line}" for line in counted]
        lines += _indented([*self.body, *self.tail], 1)
        uses_x = any(_uses(line, "x") for line in lines)
        uses_y = any(_uses(line, "y") for line in lines)
        uses_c = any("c->" in line for line in lines)
        unused = [f"    (void){name};" for name, used in (("c", uses_c), ("x", uses_x), ("y", uses_y)) if not used]
        p = self.unit.prefix
        start = f"static void {p}_g{self.number}({p}_context *c, const {p}_input *x, {self.unit.output_type} *y)"
        return [start, "{", *lines, *unused, "}", ""]


def _uses(line: str, name: str) -> bool:
    import re

    return re.search(rf"(?<![\w>.]){name}(?!\w)", line) is not None


def _indented(lines: list[str], depth: int) -> list[str]:
    """Indent by braces."""
    out = []
    for line in lines:
        if line.startswith("}"):
            depth -= 1
        out.append("    " * depth + line)
        if line.endswith("{"):
            depth += 1
    return out
