"""A program as one graph: a step with its state, or a whole window, unrolled or as a loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitspike.export.onnx import memoryless, stateful
from bitspike.export.onnx.nodes import Nodes
from bitspike.export.onnx.numbers import BASE, LIMIT, Exact, Num
from bitspike.export.onnx.states import Kept, States
from bitspike.export.onnx.values import Clock, Sequence
from bitspike.runtime import INPUT, Program
from bitspike.runtime.ops import Operation
from bitspike.runtime.spec import Value

BATCH = "batch"
OUTPUT = "output"


@dataclass
class Written:
    """The graph of a program, and what is to be said of it."""

    graph: Any
    nodes: Nodes
    states: list[Kept] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Out:
    """An output: what it is called in a graph, its value by name, what is known of it, the read-out that makes it."""

    called: str
    name: str
    value: Value
    classes: tuple[str, ...]
    mean: Operation | None


def outs_of(program: Program) -> dict[str, Out]:
    """All outputs by name, in order; the only one is called "output" where it has none."""
    means = {made.op.outputs[0]: made for made in program.operations if made.final}
    return {
        name: Out(
            f"{OUTPUT}.{name}" if name else OUTPUT,
            each.value,
            program.spec.values[each.value],
            each.classes,
            means.get(each.value),
        )
        for name, each in program.spec.sent.items()
    }


def emit(exact: Exact, made: Operation, inputs: list[Sequence], states: States) -> list[Sequence]:
    """An operation over all steps of its inputs."""
    kind, (y, *_) = made.op.kind, made.written
    if kind in stateful.ROWS:
        return stateful.ROWS[kind](exact, made, inputs, states)
    row, count = memoryless.ROWS[kind], inputs[0].count
    if made.steady and (all(x.held for x in inputs) or not any(x.held for x in inputs)):
        held = inputs[0].held
        return [_checked(exact, y, count, row(exact, made, [x.merged for x in inputs], Clock(exact)), held)]
    clock = Clock(exact)
    if not made.steady:
        rows = (len(made.table),) if kind == "lookup" else (len(made.multiplier), len(made.bias))  # type: ignore[attr-defined]
        clock = states.clock(made.op.name, max(rows) - 1, count)
    steps = [row(exact, made, [x.steps[t] for x in inputs], clock.after(t)) for t in range(count)]
    return [Sequence(exact, y.shape, count, steps=[_narrowed(exact, y, step) for step in steps])]


def _checked(exact: Exact, y: Value, count: int, x: Num, held: bool) -> Sequence:
    return Sequence(exact, y.shape, count, merged=_narrowed(exact, y, x), held=held)


def _narrowed(exact: Exact, y: Value, x: Num) -> Num:
    """A number in the range that the program proves, too."""
    return exact.folded(x, max(x.low, y.low), min(x.high, y.high))


def entered(exact: Exact, name: str, value: Value) -> Num:
    """Integers of the input as a number."""
    nodes, low, high = exact.nodes, value.low, value.high
    if max(-low, high) <= LIMIT:
        return Num((nodes.cast(name, np.float32),), low, high)
    lower = nodes.add("BitwiseAnd", name, nodes.const(np.array(2**BASE - 1), np.int32))
    above = nodes.cast(nodes.add("Sub", name, lower), np.float32)
    return Num((nodes.cast(lower, np.float32), exact.by(above, 2.0**-BASE)), low, high)


def entry_type(value: Value) -> str:
    """Type of the input: that of its alphabet, int32 where that would be uint32."""
    return value.dtype.name


def left(exact: Exact, x: Num) -> tuple[str, str]:
    """(a number as int32, or as int64 where its range is wider; that type)."""
    nodes = exact.nodes
    kind = "int32" if x.low >= -(2**31) and x.high < 2**31 else "int64"
    total = nodes.cast(x.digits[-1], kind)
    for digit in reversed(x.digits[:-1]):  # where the number has 32 bits, so has all on the way
        above = nodes.add("Mul", total, nodes.const(np.array(2**BASE), kind))
        total = nodes.add("Add", above, nodes.cast(digit, kind))
    return total, kind


def sent(exact: Exact, last: Sequence, flat: bool, int64: bool, name: str) -> tuple[list[Any], str]:
    """(what comes out: int32, or where numbers are wider int64 or their digits; the type).

    flat: without an axis of steps. int64: no digits. name: what it is called.
    """
    nodes, whole = exact.nodes, last.merged
    if int64 or (whole.low >= -(2**31) and whole.high < 2**31):
        total, kind = left(exact, whole)
        parts = [(total, name, kind)]
    else:
        kind = "float32"
        parts = [(digit, f"{name}.{i}", kind) for i, digit in enumerate(whole.digits)]
    shape: tuple[Any, ...] = (BATCH, *last.shape) if flat else (last.count, BATCH, *last.shape)
    for found, called, _ in parts:
        nodes.named(found if flat else _stacked(nodes, found, last), called)
    return [nodes.info(called, np.dtype(type_), shape) for _, called, type_ in parts], kind


def _stacked(nodes: Nodes, name: str, sequence: Sequence) -> str:
    """A value of all steps as [steps, B, ...]."""
    if sequence.held:
        whole = nodes.add("Unsqueeze", name, nodes.const(np.array([0]), np.int64))
        sides = nodes.const(np.array([sequence.count, *[1] * (1 + len(sequence.shape))]), np.int64)
        return nodes.add("Expand", whole, sides)
    return nodes.add("Reshape", name, nodes.const(np.array([sequence.count, -1, *sequence.shape]), np.int64))


def straight(program: Program, step: bool, int64: bool = False) -> Written:
    """One step, or one window where the number of steps changes on the way, with states; or a window without."""
    given, nodes = program.spec.input, Nodes()
    exact, value = Exact(nodes), given.value
    single = step and not changes(program)
    count = 1 if single else value.steps
    states = States(exact, fresh=not step)
    held = given.repeat and not step
    lead = (BATCH,) if single or held else (value.steps, BATCH)
    source = INPUT
    if len(lead) == 2:
        source = nodes.add("Reshape", INPUT, nodes.const(np.array([-1, *value.shape]), np.int64))
    first = Sequence(exact, value.shape, count, merged=entered(exact, source, value), held=held)
    sequences = {INPUT: first}
    for made in program.operations:
        found = emit(exact, made, [sequences[name] for name in made.op.inputs], states)
        sequences.update(zip(made.op.outputs, found, strict=True))
    outs, types = list[Any](), dict[str, str]()
    for name, out in outs_of(program).items():
        infos, types[name] = sent(exact, sequences[out.name], out.mean is not None or single, int64, out.called)
        outs += infos
    for state in states.kept:
        nodes.named(state.written, state.next)
    ins = [nodes.info(INPUT, entry_type(value), (*lead, *value.shape))]
    ins += [nodes.info(state.name, np.float32, state.shape) for state in states.kept]
    outs += [nodes.info(state.next, np.float32, state.shape) for state in states.kept]
    return Written(nodes.graph("program", ins, outs), nodes, states.kept, types)


def changes(program: Program) -> bool:
    """Whether the number of steps changes on the way."""
    return any(made.rates for made in program.operations)
