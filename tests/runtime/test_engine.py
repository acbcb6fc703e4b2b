"""The native engine gives the integers of the interpreter, and counts the same clamped numbers, bit for bit."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value
from bitspike.runtime.engine import available_isas
from bitspike.runtime.engine.forms import I16, U8, form_of
from bitspike.runtime.ops import OPERATIONS
from programs.drawn import drawn, input_of
from programs.golden import golden, images
from programs.machines import one
from programs.residual import resnet

ISAS = available_isas()
pytestmark = pytest.mark.skipif(not ISAS, reason="no native engine")


def both(program: Program, isa: str, threads: int) -> tuple[Program, Program]:
    return Program(program.spec, "interpreter"), Program(program.spec, "native", threads, isa)


def check(program: Program, seed: int, isa: str, threads: int, cuts: list[int] | None = None) -> None:
    """A whole batch, and two windows as a stream cut there, by both engines."""
    slow, fast = both(program, isa, threads)
    x = input_of(program, seed, batch=3)
    equal(slow(x), fast(x))
    x = input_of(program, seed + 1, batch=2, windows=2)
    states: list[Any] = [None, None]
    for chunk in np.split(x, cuts or []):
        if len(chunk):
            parts = []
            for i, engine in enumerate((slow, fast)):
                part, states[i] = engine.stream(chunk, states[i])
                parts.append(part)
            equal(*parts)


def equal(a: Any, b: Any) -> None:
    assert a.levels.dtype == b.levels.dtype and a.levels.shape == b.levels.shape
    assert np.array_equal(a.levels, b.levels)
    assert (a.steps, a.exponent, dict(a.clamped)) == (b.steps, b.exponent, dict(b.clamped))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("wide", [False, True])
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_program(seed: int, data: st.DataObject, wide: bool, isa: str) -> None:
    program = drawn(seed, wide=wide)
    length = program.spec.input.value.steps * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=4)))
    check(program, seed, isa, data.draw(st.integers(1, 4)), cuts)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_many_programs_and_what_they_hold(isa: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every operation, alone and behind every other one, on narrow and wide values; the counts are printed."""
    alone, pairs = Counter[str](), Counter[tuple[str, str]]()
    for seed in range(3000):
        program = drawn(seed, wide=seed % 4 == 0)
        check(program, seed, isa, 1 + seed % 3, [1 + seed % 2])
        kind = {name: made.op.kind for made in program.operations for name in made.op.outputs} | {INPUT: INPUT}
        for made in program.operations:
            alone[made.op.kind] += 1
            pairs.update((kind[name], made.op.kind) for name in made.op.inputs)
    with capsys.disabled():
        print(f"\n{isa}: 3,000 programs; {dict(alone)}; {len(pairs)} pairs of neighbours")
    assert set(alone) == set(OPERATIONS)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_golden_and_residual(isa: str, threads: int) -> None:
    slow, fast = both(golden(), isa, threads)
    equal(slow(images()), fast(images()))
    slow, fast = both(resnet(steps=2), isa, threads)
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    equal(slow(x), fast(x))


def test_neurons_are_fused_with_their_scalings() -> None:
    """Else the kernel for it would be tested by nothing; `drawn` has neurons on scaled values and sums of two."""
    found = Counter[bool]()
    for seed in range(60):
        program = drawn(seed)
        current = {made.op.outputs[0]: made.op.kind for made in program.operations}
        found.update(
            made.op.kind == "fire" and current.get(made.op.inputs[0]) in ("rescale", "add")
            for made in program.operations
        )
    assert found[True] > 60


EDGES = [-(2**31), -(2**31) + 1, -(2**30), -41, -40, -1, 0, 1, 39, 40, 41, 2**30, 2**31 - 41, 2**31 - 2, 2**31 - 1]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("count", [1, 3, 65535])
@pytest.mark.parametrize("decay", [[1, 0], [0, 0], [1, 1], [1, 30], [2**30 - 1, 30], [5, 3]])
def test_neurons_at_the_ends_of_32_bits(decay: list[int], count: int, signed: bool, reset: str, isa: str) -> None:
    """Currents that overflow the membrane, membranes at the ends, every width of a row of lanes."""
    for channels in (1, 15, 16, 33):
        tensors: dict[str, Any] = {"first": np.array([40])}
        if count > 1:
            tensors["spacing"] = np.array([64])
        if reset == "soft":
            tensors["charge"] = np.array([2**31 - 1 if count < 3 else 64])
        attributes = {"count": [count], "signed": signed, "reset": reset, "decay": decay}
        if signed:
            attributes |= {"up": 3, "down": 2, "cancel": True} if count == 3 else {}
        program = one("fire", Value((channels,), -(2**31), 2**31 - 1, 0, 6), attributes, ("s", "u"), **tensors)
        x = np.random.default_rng(channels).choice(EDGES, (6, 7, channels))
        slow, fast = both(program, isa, 1)
        equal(slow(x), fast(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shift", [0, 1, 30, 31, 45])
@pytest.mark.parametrize("low", [-(2**31), -100])
def test_scalings_at_the_ends(low: int, shift: int, isa: str) -> None:
    for channels in (1, 16, 21):
        random = np.random.default_rng(channels)
        multiplier = random.choice([-(2**30), 2**30 - 1, 1, 0, -3], channels)
        bias = random.choice([-(2**31), 2**31 - 1, 0, 5], channels)
        attributes = {"shift": shift, "low": low, "high": 2**31 - 1, "exponent": 0}
        program = one(
            "rescale", Value((channels,), -(2**31), 2**31 - 1, 0, 4), attributes, multiplier=multiplier, bias=bias
        )
        slow, fast = both(program, isa, 1)
        x = random.choice(EDGES, (4, 5, channels))
        equal(slow(x), fast(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("low", "high", "weights"),
    [(0, 255, 128), (-128, 127, 128), (-1, 1, 1), (0, 31, 128), (0, 127, 128), (0, 65535, 32768), (-32768, 32767, 3)],
)
@pytest.mark.parametrize("outputs", [1, 16, 17, 48, 64, 80, 150])
def test_sums_of_full_range_products(outputs: int, low: int, high: int, weights: int, isa: str) -> None:
    """Whatever the products are, nothing saturates on the way, and borders are 0 for any alphabet."""
    random = np.random.default_rng(outputs)
    for inputs, side, kernel, stride, dilation in ((3, 5, 3, 1, 1), (5, 9, 2, 2, 1), (16, 4, 3, 1, 2), (7, 1, 1, 1, 1)):
        weight = random.choice([-weights, weights - 1, 0], (outputs, inputs, kernel, kernel))
        place = {"stride": [stride] * 2, "before": [1, 2], "after": [1, 1], "dilation": [dilation] * 2}
        program = one("convolution", Value((inputs, side, side), low, high, 0, 2), place, weight=weight)
        x = random.choice([low, high, 0], (2, 3, inputs, side, side))
        slow, fast = both(program, isa, 2)
        equal(slow(x), fast(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("most", [1, 5, 31, 32, 63, 127, 128, 129, 254, 255, 32768])
@pytest.mark.parametrize("depth", [1, 2, 4, 7, 130, 4100])
def test_products_that_just_fit_their_width(depth: int, most: int, isa: str) -> None:
    """All weights and all numbers at their ends at once: sums of two products reach ±2^15 in 16 bits and 2^31 in 32."""
    ends = (-128, 127) if most < 32768 else (-32768, 32767)
    if depth * most * -ends[0] > 2**31:
        depth = 2  # sums of 32 bits
    weight = np.array([[ends[0]] * depth, [ends[1]] * depth, [*ends] * (depth // 2) + [1] * (depth % 2)])
    for low in {0, -(most // 2)}:
        program = one("linear", Value((depth,), low, low + most, 0, 3), weight=weight)
        x = np.stack([np.full((4, depth), end) for end in (low, low + most, 0)])
        slow, fast = both(program, isa, 1)
        equal(slow(x), fast(x))


def test_bytes_are_taken_where_no_two_products_saturate() -> None:
    def number(most: int, lowest: int, highest: int, isa: str) -> int:
        value = Value((2,), 0, most, 0, 1)
        made = one("linear", value, weight=np.array([[lowest, highest]])).operations[0]
        return form_of(made, isa).number

    for isa in ("avx512vnni", "neon", "neondot"):
        assert number(255, -128, 127, isa) == U8
    assert number(128, -128, 127, "avx2") == number(255, -64, 64, "avx2") == U8
    assert number(129, -128, 0, "avx2") == number(130, 0, 127, "avx2") == number(255, 0, 65, "avx2") == I16


@pytest.mark.parametrize("cap", ["scalar", "avx2", "avx512", "avx512vnni", "neon", "neondot"])
def test_a_cap_leaves_out_what_is_above_it(monkeypatch: pytest.MonkeyPatch, cap: str) -> None:
    monkeypatch.delenv("BITSPIKE_ISA", raising=False)
    every = available_isas()
    monkeypatch.setenv("BITSPIKE_ISA", cap)
    capped = available_isas()
    assert capped == tuple(isa for isa in every if isa in capped) and capped[0] == "scalar"
    if cap in every:
        assert capped[-1] == cap
    if "neon" in cap or cap == "scalar":
        assert not {"avx2", "avx512vnni"} & set(capped)
    monkeypatch.setenv("BITSPIKE_ISA", "sse9")
    with pytest.raises(ProgramError, match="BITSPIKE_ISA must be one of scalar, avx2"):
        available_isas()


def test_several_callers_at_once() -> None:
    """Each has memory of its own; who finds the workers taken runs alone."""
    program = Program(resnet(steps=2).spec, "native", 2)
    x = np.random.default_rng(1).normal(size=(4, 3, 32, 32)).astype(np.float32)
    expected = program(x).levels
    wrong: list[int] = []

    def call() -> None:
        for _ in range(5):
            wrong.append(int((program(x).levels != expected).sum()))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == [0] * 20


def test_states_stay_as_they_are_and_belong_to_their_engine() -> None:
    program = Program(golden().spec, "native")
    x = images()[None]
    _, first = program.stream(x)
    kept = first.memory.copy()
    again = [program.stream(x, first)[0].levels for _ in range(2)]
    assert np.array_equal(*again) and np.array_equal(kept, first.memory)
    for other in (Program(golden().spec, "native"), Program(golden().spec, "interpreter")):
        with pytest.raises(ProgramError, match="the state must come from this program and engine"):
            other.stream(x, first)


def test_wrong_choices_are_refused() -> None:
    spec = golden().spec
    for options, word in (
        ({"engine": "gpu"}, "engine must be one of"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 2.0}, "threads must be"),
        ({"isa": "neon9"}, "isa must be one of"),
    ):
        with pytest.raises(ProgramError, match=word):
            Program(spec, **options)  # type: ignore[arg-type]
    assert Program(spec, "native").engine.name == "native" and "uint8" in str(
        Program(spec, "native", isa=ISAS[-1]).engine
    )


@settings(max_examples=20)
@given(st.integers(2, 40))
def test_long_sequences_run_in_pieces(steps: int) -> None:
    """A program of one step takes a sequence, and a read-out sums all of it."""
    b = Builder(Input(Value((3,), -9, 9, 0, 1)))
    first = {"first": b.constant(np.array([4])), "charge": b.constant(np.array([4]))}
    program = b.finish(b.add("mean", [b.add("fire", [INPUT], {"count": [1], "reset": "soft"}, first)]))
    x = np.random.default_rng(steps).integers(-9, 10, (steps, 2, 3))
    slow, fast = both(program, ISAS[-1], 1)
    equal(slow(x), fast(x))
