"""Records programs, inputs and what the interpreter makes of them, for csrc/engine/test/replay.cpp.

``python -m programs.corpus FILE [RANDOM PROGRAMS]`` (with src and tests in PYTHONPATH) writes a corpus by hand.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.runtime import Program
from bitspike.runtime.engine.events import gathered
from bitspike.runtime.engine.forms import BITS, DEPTHWISE, WIDE, Form, bits_form, form_of
from bitspike.runtime.engine.grouping import grouped
from bitspike.runtime.engine.layout import Layout, laid_out
from bitspike.runtime.engine.library import ISAS, number_of
from bitspike.runtime.engine.words import Words
from bitspike.runtime.interpreter import State, step
from bitspike.runtime.ops import Operation

from .drawn import drawn, input_of
from .edges import FAMILIES
from .golden import golden, images
from .residual import resnet

_MAGIC = 0x62737263


def corpus(random: int) -> Iterator[tuple[Program, Any]]:
    """(program, input) pairs: ends of their widths, two whole networks, so many programs drawn at random."""
    for family, cases in FAMILIES.items():
        yield from (pair for case in cases for pair in family(*case))
    yield golden(), images()
    yield resnet(steps=2), np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    for seed in range(random):
        program = drawn(seed, wide=seed % 3 == 0, several=seed % 2 == 1)
        yield program, input_of(program, seed, batch=1 + seed % 3)


def record(file: Path, pairs: Iterable[tuple[Program, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Write a corpus; returns how often it has every operation, and every form of a convolution by instruction set."""
    kinds, forms, count = Counter[str](), Counter[str](), 0
    with file.open("wb") as out:
        out.write(np.array([_MAGIC, 0], "<i8").tobytes())
        for program, x in pairs:
            for events in (False, True)[: 1 + (count % 3 == 0 and any(map(gathered, weighted(program).values())))]:
                _program(out, program, x, count, forms, events)
                kinds.update(made.op.kind for made in program.operations)
                count += 1
        out.seek(8)
        out.write(np.array([count], "<i8").tobytes())
    return kinds, forms


def means_of(program: Program) -> dict[str, str]:
    """Value that a mean read-out writes → the operation."""
    return {made.op.outputs[0]: made.op.name for made in program.operations if made.final}


def weighted(program: Program) -> dict[int, Operation]:
    """Operations with weights, by number."""
    return {i: made for i, made in enumerate(program.operations) if "weight" in made.constants}


def _program(out: Any, program: Program, x: Any, seed: int, forms: Counter[str], events: bool) -> None:
    value, operations = program.spec.input.value, program.operations
    sent, means = program.spec.sent_values, means_of(program)
    sizes = [program.spec.values[name].size for name in sent]
    chunk = 64
    _longs(out, value.dtype.itemsize, value.size, len(sent), *sizes, len(operations), len(ISAS))
    for isa in ISAS:
        layout, words = _words(program, isa, forms, events_wherever if events else form_of if seed % 2 else wherever)
        chunk = min(chunk, layout.chunk)
        capacities = [1 if name in means else layout.capacity[name] for name in sent]
        _longs(out, number_of(isa), layout.state_bytes, *capacities, len(words.words), *words.words, len(words.tables))
        for table in words.tables:
            _longs(out, len(table))
            _bytes(out, table.astype("<i4"))
    levels = program.sequence(x)
    pieces = [] if len(levels) > chunk else [(True, levels)]
    random = np.random.default_rng(seed)
    at = 0
    while at < len(levels):
        n = int(random.integers(1, chunk + 1))
        pieces.append((False, np.ascontiguousarray(levels[at : at + n])))
        at += n
    _longs(out, len(pieces))
    state: State | None = None
    for i, (whole, piece) in enumerate(pieces):
        fresh = whole or i == 0 or pieces[i - 1][0]
        state = _call(out, program, piece, None if fresh else state, whole)


def _call(out: Any, program: Program, x: Any, before: State | None, whole: bool) -> State:
    sent, means = program.spec.sent_values, means_of(program)
    parts, after = step(program.operations, x, before, sent)
    held = len(x) > 1 and x.strides[0] == 0
    _longs(out, before is None, whole, len(x), held, x.shape[1])
    _bytes(out, (x[:1] if held else x).astype(x.dtype.newbyteorder("<")))
    for name, part in zip(sent, parts, strict=True):
        summed = after.parts.get(means[name]) if name in means else None
        steps = len(part) if name not in means else 0 if summed is None else summed.counted
        _longs(out, steps, len(part))
        _bytes(out, part.swapaxes(0, 1).astype("<i8"))
    was = {} if before is None else before.clamped
    _longs(out, *(after.clamped.get(op.op.name, 0) - was.get(op.op.name, 0) for op in program.operations))
    return after


def wherever(made: Operation, isa: str) -> Form:
    """The form of a convolution: planes of bits wherever they hold its numbers."""
    form = form_of(made, isa)
    return form if form.number in (WIDE, DEPTHWISE, BITS) else bits_form(made, isa, form) or form


def events_wherever(made: Operation, isa: str) -> Form:
    """The form of a convolution: events wherever they hold its numbers."""
    return gathered(made) or form_of(made, isa)


def _words(program: Program, isa: str, forms: Counter[str], choose: Callable[..., Form]) -> tuple[Layout, Words]:
    operations, sent = program.operations, program.spec.sent_values
    found = grouped(program.spec.input, operations, sent)
    chosen = {i: choose(made, isa) for i, made in weighted(program).items()}
    forms.update(f"{isa} {str(form).partition(':')[0]}" for form in chosen.values())
    layout = laid_out(found, operations, sent, chosen)
    return layout, Words(found, operations, sent, layout, chosen)


def _longs(out: Any, *numbers: int) -> None:
    out.write(np.array(numbers, "<i8").tobytes())


def _bytes(out: Any, array: Any) -> None:
    data = np.ascontiguousarray(array).tobytes()
    out.write(data + bytes(-len(data) % 8))


if __name__ == "__main__":
    print(*record(Path(sys.argv[1]), corpus(int(sys.argv[2]) if len(sys.argv) > 2 else 200)), sep="\n")
