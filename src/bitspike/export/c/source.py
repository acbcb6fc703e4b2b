"""The source file: constants, helpers, one function a group, the step, the interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bitspike.runtime import INPUT, Program
from bitspike.runtime.echoes import echoes_of
from bitspike.runtime.ops import Operation

from .groups import Group, grouped
from .header import header
from .moves import concat, pad, slicing, take, windows
from .names import comment, literal
from .outputs import functions, sent_of
from .places import places
from .pools import maxpool, sumpool, tally
from .quantize import quantizer
from .scalars import scalar_rules
from .schedule import Schedule, Task, schedule
from .sums import convolution, linear
from .writing import Function, Unit

RULES: dict[str, Callable[[Function, Task, Any], None]] = {
    **scalar_rules(),
    **{"convolution": convolution, "linear": linear, "sumpool": sumpool, "maxpool": maxpool, "tally": tally},
    **{"windows": windows, "concat": concat, "slice": slicing, "pad": pad, "take": take},
}
"""Kind of a task → what writes it."""


@dataclass(frozen=True)
class Written:
    """Both files, and bytes of constants and of a context's arrays.

    Attributes:
        operations: names by P_clamped's number. observed: names by P_OBSERVE's index.
    """

    source: str
    header: str
    constant_bytes: int
    context_bytes: int
    operations: tuple[str, ...]
    observed: tuple[str, ...]


def written(program: Program, prefix: str) -> Written:
    """A program as C."""
    found = schedule(program)
    groups = grouped(found, program)
    unit = Unit(program, found, places(program, found, groups), prefix)
    functions = [_function(unit, group, number) for number, group in enumerate(groups)]
    interface = _interface(unit)
    fields, size = _fields(unit)
    lines = [
        f"/* {prefix}: written by bitspike from a program; see {prefix}.h. */",
        f'#include "{prefix}.h"',
        "#include <string.h>",
        "",
        *unit.constants.lines,
        *"".join(unit.kernels.values()).split("\n"),
        *(line for lines in functions for line in lines),
        *_step(unit, groups),
        *interface,
        *quantizer(program.spec.input, prefix),
    ]
    source = "\n".join(lines).rstrip("\n") + "\n"
    return Written(source, header(unit, fields), unit.constants.size_bytes, size, tuple(unit.clamps), tuple(unit.fires))


def _function(unit: Unit, group: Group, number: int) -> list[str]:
    f = Function(unit, group, number)
    for task in group.tasks:
        RULES[task.kind](f, task, task.made)
    head = group.tasks[0].kind
    if head in ("convolution", "linear", "sumpool", "maxpool", "tally", "windows", "concat", "slice", "pad", "take"):
        pass
    else:
        _elementwise(f, group)
    for task in group.tasks:
        if task.kind == "fire" and task.made is not None:
            _observed(f, task.made.op.name, task.writes[0])
    names = ", ".join(comment(task.made.op.name if task.made else task.kind) for task in group.tasks)
    return [f"/* {names} */", *f.text()]


def _elementwise(f: Function, group: Group) -> None:
    channels, size = group.space
    if size == 1:
        f.body = [f"for (uint32_t o = 0; o < {channels}u; o++) {{", "const uint32_t i = o;", *f.body]
        f.tail = ["}", *f.tail]
    elif channels == 1:
        f.body = [f"for (uint32_t i = 0; i < {size}u; i++) {{", "const uint32_t o = 0; (void)o;", *f.body]
        f.tail = ["}", *f.tail]
    else:
        f.head.append("uint32_t i = 0;")
        start = [f"for (uint32_t o = 0; o < {channels}u; o++) {{", f"for (uint32_t q = 0; q < {size}u; q++, i++) {{"]
        f.body = [*start, *f.body]
        f.tail = ["}", "}", *f.tail]


def _observed(f: Function, name: str, value: str) -> None:
    found = f.value(value)
    macro = f"{f.unit.prefix.upper()}_OBSERVE"
    signed = int(found.dtype.kind == "i")
    place = f.unit.places.values[value]
    where = f"c->{place.arena} + {place.offset}{f._slot(value, place)}"
    call = (
        f"{macro}({f.unit.fires.index(name)}, (const void *)({where}), {found.size}, {found.dtype.itemsize}, {signed});"
    )
    f.tail += [f"#ifdef {macro}", call, "#endif"]


def _step(unit: Unit, groups: list[Group]) -> list[str]:
    p, found = unit.prefix, unit.found
    many = len(found.clocks) > 1
    lines = [f"static void {p}_advance({p}_context *c, const {p}_input *x, {unit.output_type} *y)", "{"]
    for number, group in enumerate(groups):
        first = number == 0 or groups[number - 1].loop != group.loop
        last = number == len(groups) - 1 or groups[number + 1].loop != group.loop
        clock, mode = group.loop.clock, group.loop.mode
        open_, close = _brackets(unit, clock, mode)
        if first and open_:
            lines.append(f"    {open_}")
        lines.append(f"    {'    ' if open_ else ''}{p}_g{number}(c, x, y);")
        if last and open_:
            lines += [f"    {'    ' if line != '}' else ''}{line}" for line in close]
    lines += ["    " + line for line in (*_echoed(unit), *_counted(unit, 0))]
    if many or _held(unit):
        lines.append(f"    if (c->done[0] == {found.clocks[0].steps}u) {{")
        lines.append("        memset(c->done, 0, sizeof c->done);")
        if many:
            lines.append("        memset(c->ready, 0, sizeof c->ready);")
        if any(group.loop.mode == "once" for group in groups):
            lines.append("        memset(c->once, 0, sizeof c->once);")
        lines.append("    }")
    return [*lines, "}", ""]


def _echoed(unit: Unit) -> list[str]:
    """At the end of a step what the next one reads of it is put aside."""
    lines = []
    for at, name in echoes_of(unit.program.operations).items():
        made, root = unit.program.operations[at], unit.found.alias[name]
        to, x = unit.places.states[f"{made.op.name}.last"], "x"
        if root != INPUT:
            place = unit.places.values[root]
            now = "(c->held ? 0u : c->done[0])" if unit.found.mode[root] == "held" else "c->done[0]"
            slot = f" + {place.size}u * {now}" if place.slots > 1 else ""
            x = f"c->{place.arena} + {place.offset}{slot}"
        lines.append(f"memcpy(c->{to.arena} + {to.offset}, {x}, {to.size}u * sizeof c->{to.arena}[0]);")
    return lines


def _held(unit: Unit) -> bool:
    return any(loop.mode == "held" for loop in unit.found.loops)


def _counted(unit: Unit, clock: int) -> list[str]:
    lines = []
    if len(unit.found.clocks) > 1 or (_held(unit) and clock == 0):
        lines.append(f"c->done[{clock}]++;")
    if clock in unit.timed:
        lines.append(f"if (c->time[{clock}] < {unit.timed[clock]}u) c->time[{clock}]++;")
    return lines


def _brackets(unit: Unit, clock: int, mode: str) -> tuple[str, list[str]]:
    """What stands around the groups of a loop: (first line or none, last lines)."""
    if clock == 0:
        return ("if (!c->held || c->done[0] == 0u) {", ["}"]) if mode == "held" else ("", [])
    bases = unit.found.clocks[clock].bases
    own = [f"c->done[{clock}] < c->ready[{base}]" if base else f"c->done[{clock}] <= c->done[0]" for base in bases]
    if mode == "once":
        ready = [f"c->ready[{base}] > 0u" for base in bases]
        return f"if (!c->once[{clock}] && {' && '.join(ready)}) {{", [f"c->once[{clock}] = 1;", "}"]
    return f"while ({' && '.join(own)}) {{", [*_counted(unit, clock), "}"]


def _fields(unit: Unit) -> tuple[list[str], int]:
    """Members of the context, wide ones first so that nothing lies between them, and its bytes."""
    clocks, arenas = len(unit.found.clocks), unit.places.totals
    several, held = clocks > 1, _held(unit)
    once = any(loop.mode == "once" for loop in unit.found.loops)
    members = [
        ("uint64_t", "clamped", len(unit.clamps)),
        ("int64_t", "d", arenas["d"]),
        ("int32_t", "w", arenas["w"]),
        *(("uint32_t", name, unit.scratch.get(name, 0)) for name in ("far", "planes")),
        ("int32_t", "wide", unit.scratch.get("wide", 0)),
        ("uint32_t", "done", clocks if several or held else 0),
        ("uint32_t", "ready", clocks if several else 0),
        ("uint32_t", "time", clocks if unit.timed else 0),
        *_counters(unit),
        ("int16_t", "h", arenas["h"]),
        ("uint16_t", "at", unit.scratch.get("at", 0)),
        ("int16_t", "number", unit.scratch.get("number", 0)),
        ("int8_t", "b", arenas["b"]),
        ("uint8_t", "once", clocks if once else 0),
        ("uint8_t", "held", -held),
    ]
    members = [member for member in members if member[2]]
    lines = [f"{kind} {name};" if count < 0 else f"{kind} {name}[{count}];" for kind, name, count in members]
    widths = [int(re.sub(r"[^0-9]", "", kind)) // 8 for kind, _, _ in members]
    size = sum(width * abs(count) for width, (_, _, count) in zip(widths, members, strict=True))
    return lines, -(-size // widths[0]) * widths[0]


def _counters(unit: Unit) -> list[tuple[str, str, int]]:
    """Members for steps that were summed, and rows that came in a step; one of one output without a name."""
    means = {made.op.outputs[0] for made in unit.program.operations if made.final}
    if not unit.program.spec.outputs:
        return [("uint32_t", "counted" if means else "rows", -1)]
    names = unit.program.spec.sent_values
    rows = 0 if means.issuperset(names) else len(names)
    return [("uint32_t", "counted", len(names) if means else 0), ("uint32_t", "rows", rows)]


def _interface(unit: Unit) -> list[str]:
    p, macro, spec = unit.prefix, unit.prefix.upper(), unit.program.spec
    lines = [*_reset(unit), *(_named_outputs(unit) if spec.outputs else _one_output(unit))]
    lines += [f"uint64_t {p}_clamped(const {p}_context *c, int operation)", "{"]
    if unit.clamps:
        lines.append(f"    return operation >= 0 && operation < {macro}_OPERATIONS ? c->clamped[operation] : 0;")
    else:
        lines += ["    (void)c;", "    (void)operation;", "    return 0;"]
    return [*lines, "}", ""]


def _named_outputs(unit: Unit) -> list[str]:
    """Functions that write outputs, where these have names."""
    sent, limits, totals = sent_of(unit.program, unit.found), dict[str, None](), dict[int, str]()
    for each in sent:
        if each.mean is not None:
            place = unit.places.states[f"{each.mean.op.name}.total"]
            totals[each.number] = f"(c->d + {place.offset})"
            limits[_limit(unit, each.mean)] = None
    return functions(unit.prefix, sent, list(limits), totals, _held(unit), unit.program.spec.input.repeat)


def _limit(unit: Unit, mean: Operation) -> str:
    """The line that refuses a step which a read-out could not count."""
    clock = next(loop.clock for loop in unit.found.loops for task in loop.tasks if task.made is mean)
    return f"    if (c->time[{clock}] > {2**31 - 1 - _most_steps(unit, clock)}u) return -1;"


def _reset(unit: Unit) -> list[str]:
    p = unit.prefix
    lines = [f"void {p}_reset({p}_context *c)", "{", "    memset(c, 0, sizeof *c);"]
    for made in unit.program.operations:
        table = made.tables.get("initial") if made.op.kind == "fire" else None  # type: ignore[attr-defined]
        if table is not None:
            place = unit.places.states[f"{made.op.name}.v"]
            inner = place.size // made.read[0].shape[0]
            value = literal(int(table.flat[0]))
            if table.size > 1:
                value = f"{unit.constants.table(table)}[i / {inner}u]"
            lines.append(f"    for (uint32_t i = 0; i < {place.size}u; i++) c->w[{place.offset} + i] = {value};")
    return [*lines, "}", ""]


def _one_output(unit: Unit) -> list[str]:
    """Functions that write the output, where it has no name."""
    p, macro, spec = unit.prefix, unit.prefix.upper(), unit.program.spec
    final = next((made for made in unit.program.operations if made.final), None)
    lines = [f"int {p}_step({p}_context *c, const {p}_input *x, {p}_output *y)", "{"]
    if final is not None:
        place = unit.places.states[f"{final.op.name}.total"]
        wide = final.written[0].dtype.itemsize == 8
        lines.append(_limit(unit, final))
        lines.append(f"    {p}_advance(c, x, y);")
        cast = "" if wide else "(int32_t)"
        lines.append(f"    for (uint32_t i = 0; i < {place.size}u; i++) y[i] = {cast}c->d[{place.offset} + i];")
        lines.append("    return 1;")
    else:
        lines += ["    c->rows = 0;", f"    {p}_advance(c, x, y);", "    return (int)c->rows;"]
    lines += ["}", "", f"void {p}_run({p}_context *c, const {p}_input *x, {p}_output *y)", "{", f"    {p}_reset(c);"]
    repeat = spec.input.repeat
    if _held(unit):
        lines.append("    c->held = 1;")
    lines.append(f"    for (int t = 0; t < {macro}_STEPS; t++) {{")
    lines.append(f"        const int rows = {p}_step(c, x, y);")
    if final is None:
        lines.append(f"        y += rows * {macro}_OUTPUT_SIZE;")
    else:
        lines.append("        (void)rows;")
    if not repeat:
        lines.append(f"        x += {macro}_INPUT_SIZE;")
    lines.append("    }")
    if _held(unit):
        lines.append("    c->held = 0;")
    counted = "c->counted ? c->counted : 1u" if final is not None else "1u"
    unused = [] if final is not None else ["    (void)c;"]
    return [
        *lines,
        "}",
        "",
        f"uint32_t {p}_steps(const {p}_context *c)",
        "{",
        *unused,
        f"    return {counted};",
        "}",
        "",
    ]


def _most_steps(unit: Unit, clock: int) -> int:
    """Steps of a clock that one step of the input brings at most."""
    return 1 if clock == 0 else max(unit.found.clocks[clock].steps, 1)


__all__ = ["Schedule", "Written", "written"]
