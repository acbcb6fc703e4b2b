"""Windows over space: sums, maxima, and maxima of what was sent so far."""

from __future__ import annotations

from typing import Any

from bitspike.runtime.limits import INT32

from .names import ctype, literal, scalar
from .scalars import saturated
from .schedule import Task
from .writing import Function


def sides_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """The last two axes; a line is one row."""
    return (shape[1], shape[2]) if len(shape) > 2 else (1, shape[1])


def two(numbers: Any, default: int) -> tuple[int, int]:
    """A number an axis → for rows and columns."""
    return (numbers[0], numbers[1]) if len(numbers) > 1 else (default, numbers[0])


def _window(f: Function, made: Any, made_of: str, body: list[str], start: str, after: list[str]) -> None:
    """Loops over outputs and over the places of their windows that are inside; the place is x[j]."""
    at, x = made.attributes, made.read[0]
    (height, width), (rows, columns) = sides_of(x.shape), two(made.sides_out, 1)
    kernel, stride = two(at["kernel"], 1), two(at["stride"], 1)
    padding, dilation = two(at["padding"], 0), two(at.get("dilation", (1, 1)), 1)
    f.head.append("uint32_t i = 0;")
    inner = [
        f"for (uint32_t o = 0; o < {x.shape[0]}u; o++) {{",
        f"for (uint32_t qy = 0; qy < {rows}u; qy++) {{",
        f"for (uint32_t qx = 0; qx < {columns}u; qx++, i++) {{",
        start,
        f"for (uint32_t ky = 0; ky < {kernel[0]}u; ky++) {{",
        f"const uint32_t iy = qy * {stride[0]}u + ky * {dilation[0]}u - {padding[0]}u;",
        f"if (iy >= {height}u) continue;",
        f"for (uint32_t kx = 0; kx < {kernel[1]}u; kx++) {{",
        f"const uint32_t ix = qx * {stride[1]}u + kx * {dilation[1]}u - {padding[1]}u;",
        f"if (ix >= {width}u) continue;",
        f"const uint32_t j = (o * {height}u + iy) * {width}u + ix;",
        *body,
        "}",
        "}",
        *after,
    ]
    f.body = [*f.body, *inner]
    f.tail = ["}", "}", "}", *f.tail]


def maxpool(f: Function, task: Task, made: Any) -> None:
    """The maximum over a window."""
    (x,) = made.read
    name = made.op.outputs[0]
    kind, t = scalar(x.low, x.high), f"t{f.unit.numbers[name]}"
    made.sides_out = made.pool.sides
    number = f.load(task.reads[0], "j")
    body = [f"if ({number} > {t}) {t} = {number};"]
    _window(f, made, name, body, f"{kind} {t} = {literal(x.low)};", [])
    f.result(name, t)


def tally(f: Function, task: Task, made: Any) -> None:
    """Sums of what was sent; the maximum over a window, less what it was before."""
    (x,), name = made.read, made.op.outputs[0]
    sums, sent = f.state(f"{made.op.name}.sums"), f.state(f"{made.op.name}.sent")
    t = f"t{f.unit.numbers[name]}"
    f.body.append(f"for (uint32_t j = 0; j < {x.size}u; j++) {{")
    saturated(f, task, "sum", f"(int64_t){sums}[j] + {f.load(task.reads[0], 'j')}", *INT32)
    f.body += [f"{sums}[j] = sum;", "}"]
    made.sides_out = made.pool.sides
    body = [f"if ({sums}[j] > {t}) {t} = {sums}[j];"]
    _window(f, made, name, body, f"int32_t {t} = {literal(INT32[0])};", [])
    difference = f"(int64_t){t} - {sent}[i]"
    wide = scalar(made.written[0].low, made.written[0].high) == "int64_t"
    f.result(name, difference if wide else f"(int32_t)({difference})")
    f.body.append(f"{sent}[i] = {t};")


def sumpool(f: Function, task: Task, made: Any) -> None:
    """The sum over a window, times a factor that evens out windows which are cut off."""
    name = made.op.outputs[0]
    t = f"t{f.unit.numbers[name]}"
    made.sides_out = made.sides
    number = f.load(task.reads[0], "j")
    _window(f, made, name, [f"{t} += {number};"], f"int32_t {t} = 0;", [])
    divisor = made.attributes["divisor"]
    if divisor:
        kernel, last = two(made.attributes["kernel"], 1), two(made.last, 1)
        rows, columns = two(made.sides, 1)

        def across(height: int) -> str:
            inside, edge = divisor // (height * kernel[1]), divisor // (height * last[1])
            if columns == 1 or inside == edge:
                return str(edge)
            return f"(qx == {columns - 1}u ? {edge} : {inside})"

        inside, edge = across(kernel[0]), across(last[0])
        factor = edge if rows == 1 or inside == edge else f"(qy == {rows - 1}u ? {edge} : {inside})"
        if factor != "1":
            f.body.append(f"{t} *= {factor};")
    f.result(name, t)


__all__ = ["ctype", "maxpool", "sides_of", "sumpool", "tally", "two"]
