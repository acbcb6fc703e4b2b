"""What operations do to one number: channel o, place i of the group's space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bitspike.runtime.arithmetic import half
from bitspike.runtime.limits import INT32
from bitspike.runtime.ops import Operation

from .names import literal, scalar
from .schedule import Task
from .writing import Function


def shifted(expression: str, shift: int, low: int) -> str:
    """``expression >> shift``, rounded down, of a number of type int64_t that is at least ``low``.

    No right shift of a negative number: what is shifted has a multiple of 2^shift added that keeps it from being one.
    """
    if shift == 0:
        return expression
    more = max(-(low >> shift), 0)
    if not more:
        return f"(int64_t)((uint64_t)({expression}) >> {shift})"
    return f"((int64_t)(((uint64_t)({expression}) + UINT64_C({more << shift})) >> {shift}) - {literal(more)})"


def shifted32(expression: str, shift: int, low: int) -> str:
    """The same of a number of type int32_t."""
    more = max(-(low >> shift), 0)
    if not more:
        return f"(int32_t)((uint32_t)({expression}) >> {shift})"
    return f"((int32_t)(((uint32_t)({expression}) + {more << shift}u) >> {shift}) - {more})"


def saturated(f: Function, task: Task, name: str, expression: str, low: int, high: int) -> None:
    """Declare ``name``, the expression clamped to low..high; what is clamped is counted."""
    count = f.count(task)
    f.body += [
        f"int64_t w{name} = {expression};",
        f"if (w{name} > {literal(high)}) {{ w{name} = {literal(high)}; {count}++; }}",
        f"else if (w{name} < {literal(low)}) {{ w{name} = {literal(low)}; {count}++; }}",
        f"int32_t {name} = (int32_t)w{name};",
    ]


def rescale(f: Function, task: Task, made: Any) -> None:
    (x,), at = made.read, made.attributes
    m, shift = f.constant(made.multiplier), at["shift"]
    factors = [int(made.multiplier.min()), int(made.multiplier.max())]
    ends = [end * factor for end in (x.low, x.high) for factor in factors]
    low, high = min(*ends, 0), max(*ends, 0) + half(shift)
    bias = f.constant(made.bias) if "bias" in made.constants else ""
    biases = [int(made.bias.min()), int(made.bias.max())] if bias else [0, 0]
    name = f"t{f.unit.numbers[made.op.outputs[0]]}"
    small = (low >> shift) + min(*biases, 0) >= INT32[0] and (high >> shift) + max(*biases, 0) <= INT32[1]
    narrow = low >= INT32[0] and high <= INT32[1] and small and shift < 31 and scalar(x.low, x.high) == "int32_t"
    number = f.load(task.reads[0])
    if narrow:
        product = number if m == "1" else f"{number} * {m}"
        rounded = f"{product} + {half(shift)}" if shift else product
        y = shifted32(rounded, shift, low) if shift else product
    else:
        product = f"(int64_t){number} * {m}"
        y = shifted(f"{product} + {literal(half(shift))}", shift, low) if shift else product
    if bias:
        y = f"{y} + {bias}"
    kind = "int32_t" if narrow else "int64_t"
    f.body.append(f"{kind} {name} = {y};")
    if made.clamps:
        low, high = at["low"], at["high"]
        count = f.count(task)
        f.body += [
            f"if ({name} > {literal(high)}) {{ {name} = {literal(high)}; {count}++; }}",
            f"else if ({name} < {literal(low)}) {{ {name} = {literal(low)}; {count}++; }}",
        ]
    f.result(made.op.outputs[0], name if narrow else f"(int32_t){name}")


def add(f: Function, task: Task, made: Any) -> None:
    numbers, (name,) = [f.load(read) for read in task.reads], made.op.outputs
    if made.clamps:
        t = f"t{f.unit.numbers[name]}"
        saturated(f, task, t, " + ".join(f"(int64_t){number}" for number in numbers), *INT32)
        f.result(name, t)
        return
    low, high = 0, 0  # partial sums may leave the range of the whole
    for value in made.read:
        low, high = low + min(value.low, 0), high + max(value.high, 0)
    if scalar(low, high) == "int32_t":
        f.result(name, " + ".join(numbers))
    else:
        f.result(name, "(int32_t)(" + " + ".join(f"(int64_t){number}" for number in numbers) + ")")


def multiply(f: Function, task: Task, made: Operation) -> None:
    x, a = task.reads
    index = "i" if made.read[1].shape == made.read[0].shape else "o"
    f.result(made.op.outputs[0], f"{f.load(x)} * {f.load(a, index)}")


def lookup(f: Function, task: Task, made: Any) -> None:
    rows, channels, size = made.table.shape
    name = f.unit.constants.table(made.table)
    index = f"(uint32_t)({f.load(task.reads[0])} - {literal(made.attributes['first'])})"
    if abs(made.attributes["first"]) >= 2**30:
        index = f"(uint32_t)((int64_t){f.load(task.reads[0])} - {literal(made.attributes['first'])})"
    if channels > 1:
        index += f" + o * {size}u"
    if rows > 1:
        index += f" + {f.row(rows)} * {channels * size}u"
    f.result(made.op.outputs[0], f"{name}[{index}]")


def latch(f: Function, task: Task, made: Operation) -> None:
    state, (x,) = f.state(f"{made.op.name}.first"), made.read
    first = f"f{f.unit.numbers[made.op.outputs[0]]}"
    f.head.append(f"const int {first} = {f.time(1)} == 0u;")
    kind = scalar(x.low, x.high)
    f.body.append(f"if ({first}) {state}[i] = ({x.dtype.name}_t)({f.load(task.reads[0])});")
    f.result(made.op.outputs[0], f"({kind}){state}[i]")


def echo(f: Function, task: Task, made: Operation) -> None:
    """What waits since the end of the step before."""
    (y,) = made.written
    f.result(made.op.outputs[0], f"({scalar(y.low, y.high)}){f.state(f'{made.op.name}.last')}[i]")


def mean(f: Function, task: Task, made: Operation) -> None:
    keep, state = made.attributes["keep"], f.state(f"{made.op.name}.total")
    f.unit.timed[f.clock] = INT32[1]
    number, spec = f.load(task.reads[0]), f.unit.program.spec
    place = spec.sent_values.index(made.op.outputs[0])
    counted = f"c->counted[{place}]" if spec.outputs else "c->counted"
    if len(keep) == 1 and keep[0]:
        f.body.append(f"{state}[i] += {number};")
        f.tail.append(f"{counted}++;")
        return
    weight, kept = f.constant(np.array(keep).reshape(-1, 1)), f"keep{place}" if spec.outputs else "keep"
    f.head.append(f"const int32_t {kept} = {weight};")
    f.body.append(f"if ({kept}) {state}[i] += {number};")
    f.tail.append(f"{counted} += (uint32_t){kept};")


def emit(f: Function, task: Task, _: Any) -> None:
    spec, macro, k = f.unit.program.spec, f.unit.prefix.upper(), task.number
    wide = f.value(spec.sent_values[k]).dtype.itemsize == 8
    number = f"{'(int64_t)' if wide else ''}{f.load(task.reads[0])}"
    if spec.outputs:
        kind = "int64_t" if wide else "int32_t"
        f.head.append(f"{kind} *out{k} = y->y{k} + {macro}_OUTPUT{k}_SIZE * c->rows[{k}];")
        f.body.append(f"out{k}[i] = {number};")
        f.tail.append(f"c->rows[{k}]++;")
        return
    f.head.append(f"y += (uint32_t){macro}_OUTPUT_SIZE * c->rows;")
    f.body.append(f"y[i] = {number};")
    f.tail.append("c->rows++;")


def scalar_rules() -> dict[str, Callable[[Function, Task, Any], None]]:
    """Kind → what it does to one number; fire has a file of its own."""
    from .neuron import fire

    return {
        "rescale": rescale,
        "add": add,
        "multiply": multiply,
        "lookup": lookup,
        "latch": latch,
        "echo": echo,
        "mean": mean,
        "emit": emit,
        "fire": fire,
    }
