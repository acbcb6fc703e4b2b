"""What only moves numbers, and windows over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime import INPUT
from bitspike.runtime.ops.windows import overlaps

from .names import ctype
from .schedule import Task
from .writing import Function


def take(f: Function, task: Task, made: Any) -> None:
    """Keep the input for clocks that come later."""
    value = f.value(INPUT)
    to = f.pointer(INPUT, True)
    f.body.append(f"memcpy({to}, x, {value.size}u * sizeof *x);")


def windows(f: Function, task: Task, made: Any) -> None:
    """Sums over time; one frame is held, and nothing moves."""
    frames, steps = made.attributes["frames"], made.attributes["steps"]
    clock = f.unit.found.made_by[made.op.outputs[0]]
    if frames == 1:
        f.body.append(f"c->ready[{clock}] = {steps};")
        return
    parts = overlaps(frames, steps)
    first = np.cumsum([0, *map(len, parts)])
    weights = [weight for part in parts for weight, _ in part]
    closes = [int(end) for part in parts for _, end in part]
    table, total = f.unit.constants.table, f.state(f"{made.op.name}.total")
    name, size = made.op.outputs[0], made.read[0].size
    value = f.value(name)
    weight = table(np.array(weights)) + "[p]" if set(weights) != {1} else ""
    number = f.load(task.reads[0])
    added = f"{number} * (int32_t){weight}" if weight else number
    begin = table(first, np.uint16 if first[-1] < 65536 else np.uint32)
    f.head.append(f"const uint32_t frame = c->done[{f.clock}];")
    f.head.append(f"uint32_t step = frame * {steps}u / {frames}u;")
    f.body += [
        f"for (uint32_t p = {begin}[frame]; p < {begin}[frame + 1]; p++) {{",
        f"for (uint32_t i = 0; i < {size}u; i++) {total}[i] += {added};",
        f"if ({table(np.array(closes))}[p]) {{",
    ]
    if name in f.unit.places.values:
        place = f.unit.places.values[name]
        f.body += [
            f._declared("to", place, f" + {place.size}u * step" if place.slots > 1 else "", True),
            f"for (uint32_t i = 0; i < {size}u; i++) to[i] = ({ctype(value.dtype)}){total}[i];",
        ]
    f.body += [f"memset({total}, 0, {size}u * sizeof *{total});", "step++;", "}", "}"]
    f.tail.append(f"c->ready[{clock}] = step;")


def concat(f: Function, task: Task, made: Any) -> None:
    """Channels side by side."""
    name, at = made.op.outputs[0], 0
    kind, to = ctype(f.value(name).dtype), f.pointer(name, True)
    for read, value in zip(task.reads, made.read, strict=True):
        from_ = f.pointer(read)
        line = f"{to}[{at}u + i] = ({kind}){from_}[i];" if at else f"{to}[i] = ({kind}){from_}[i];"
        f.body.append(f"for (uint32_t i = 0; i < {value.size}u; i++) {line}")
        at += value.size


def slicing(f: Function, task: Task, made: Any) -> None:
    """Part of a value."""
    at, (x,), (y,), name = made.attributes, made.read, made.written, made.op.outputs[0]
    source = "+".join(
        _term(f"(a{k} * {at['stride'][k]}u + {at['start'][k]}u)", int(np.prod(x.shape[k + 1 :], dtype=np.int64)))
        for k in range(len(x.shape))
    )
    _copied(f, task, name, y.shape, source, "i")


def pad(f: Function, task: Task, made: Any) -> None:
    """Zeros around a value."""
    (x,), (y,), name, before = made.read, made.written, made.op.outputs[0], made.attributes["before"]
    to = f.pointer(name, True)
    f.body.append(f"memset({to}, 0, {y.size}u * sizeof *{to});")
    target = "+".join(
        _term(f"(a{k} + {before[k]}u)", int(np.prod(y.shape[k + 1 :], dtype=np.int64))) for k in range(len(y.shape))
    )
    _copied(f, task, name, x.shape, "i", target)


def _term(index: str, stride: int) -> str:
    return f" {index} * {stride}u " if stride > 1 else f" {index} "


def _copied(f: Function, task: Task, name: str, shape: tuple[int, ...], source: str, target: str) -> None:
    kind, to, from_ = ctype(f.value(name).dtype), f.pointer(name, True), f.pointer(task.reads[0])
    f.head.append("uint32_t i = 0;")
    last = len(shape) - 1
    for axis, side in enumerate(shape):
        step = ", i++" if axis == last else ""
        f.body.append(f"for (uint32_t a{axis} = 0; a{axis} < {side}u; a{axis}++{step}) {{")
    f.body.append(f"{to}[{target.strip()}] = ({kind}){from_}[{source.strip()}];")
    f.body += ["}"] * len(shape)
