"""The native engine gives the integers of the interpreter, and counts the same clamped numbers, bit for bit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value
from bitspike.runtime.engine import available_isas
from bitspike.runtime.engine.forms import BITS, I16, U8, form_of
from bitspike.runtime.ops import OPERATIONS
from programs.corpus import wherever
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES, fed, planes
from programs.golden import golden, images
from programs.machines import one
from programs.residual import resnet

ISAS = available_isas()
ONE = {"kernel": [1], "stride": [1], "padding": [0], "dilation": [1]}
pytestmark = pytest.mark.skipif(not ISAS, reason="no native engine")


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    """These tests choose their engines, so once is enough."""
    return "native"


def both(program: Program, isa: str, threads: int) -> tuple[Program, Program]:
    return Program(program.spec, "interpreter"), Program(program.spec, "native", threads, isa)


def check(program: Program, seed: int, isa: str, threads: int, cuts: list[int] | None = None) -> None:
    """A whole batch, and two windows as a stream cut there, by both engines."""
    slow, fast = both(program, isa, threads)
    x = input_of(program, seed, batch=3)
    equal(slow.run(x), fast.run(x))
    x = input_of(program, seed + 1, batch=2, windows=2)
    states: list[Any] = [None, None]
    for chunk in np.split(x, cuts or []):
        if len(chunk):
            parts = []
            for i, engine in enumerate((slow, fast)):
                part, states[i] = engine.feed(chunk, states[i])
                parts.append(part)
            equal(*parts)


def equal(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        for name, each in a.items():
            equal(each, b[name])
        return
    assert a.levels.dtype == b.levels.dtype and a.levels.shape == b.levels.shape
    assert np.array_equal(a.levels, b.levels)
    assert (a.steps, a.exponent, dict(a.clamped)) == (b.steps, b.exponent, dict(b.clamped))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("wide", [False, True])
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_program(seed: int, data: st.DataObject, wide: bool, isa: str) -> None:
    program = drawn(seed, wide=wide, several=data.draw(st.booleans()))
    length = program.spec.input.value.steps * 2
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=4)))
    check(program, seed, isa, data.draw(st.integers(1, 4)), cuts)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_many_programs_and_what_they_hold(isa: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every operation, alone and behind every other one, on narrow and wide values; the counts are printed."""
    alone, pairs = Counter[str](), Counter[tuple[str, str]]()
    for seed in range(1500):
        program = drawn(seed, wide=seed % 4 == 0, several=seed % 3 == 2)
        check(program, seed, isa, 1 + seed % 3, [1 + seed % 2])
        kind = {name: made.op.kind for made in program.operations for name in made.op.outputs} | {INPUT: INPUT}
        for made in program.operations:
            alone[made.op.kind] += 1
            pairs.update((kind[name], made.op.kind) for name in made.op.inputs)
    with capsys.disabled():
        print(f"\n{isa}: 1,500 programs; {dict(alone)}; {len(pairs)} pairs of neighbours")
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


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_numbers_at_the_ends_of_their_widths(family: Callable[..., Any], isa: str) -> None:
    """Nothing saturates on the way that the interpreter does not saturate, and tails of rows of lanes are right."""
    for i, case in enumerate(FAMILIES[family]):
        for program, x in family(*case):
            slow, fast = both(program, isa, 1 + i % 2)
            equal(slow(x), fast(x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("family", "case"),
    [
        pytest.param(family, case, id=f"{family.__name__}-{case}")
        for family in (planes, fed)
        for case in FAMILIES[family]
    ],
)
def test_planes_of_bits(
    monkeypatch: pytest.MonkeyPatch, family: Callable[..., Any], case: tuple[Any, ...], isa: str
) -> None:
    """Taken wherever they hold the numbers, whether they are fast there or not."""
    monkeypatch.setattr("bitspike.runtime.engine.planner.form_of", wherever)
    for i, (program, x) in enumerate(family(*case)):
        slow, fast = both(program, isa, 1 + i % 2)
        assert "planes of bits" in str(fast.engine)
        equal(slow(x), fast(x))
        _, state = fast.stream(x[:1])
        assert np.array_equal(fast.stream(x[1:], state)[0].levels, slow(x).levels[1:])


def test_planes_of_bits_are_taken_where_they_are_faster() -> None:
    def number(channels: int, levels: list[int], high: int, isa: str, steps: int = 16) -> int:
        if isa == "amx":
            weight = np.resize(levels, (channels, channels))
            made = one("linear", Value((channels,), 0, high, 0, steps), weight=weight)
        else:
            weight = np.resize(levels, (channels, channels, 3, 3))
            place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
            made = one("convolution", Value((channels, 8, 8), 0, high, 0, steps), place, weight=weight)
        return form_of(made.operations[0], isa).number

    for isa in ("scalar", "avx2", "avx512popcnt", "neon", "neondot"):
        assert number(64, [-1, 1], 1, isa) == number(64, [-1, 0, 1], 1, isa) == BITS
        assert number(64, [-1, 0, 1, 2, 3], 1, isa) != BITS
    assert number(64, [-1, 1], 15, "avx512popcnt") == number(64, [-1, 1], 15, "avx2") == U8
    assert number(128, [-1, 1], 1, "avx512vnni") == BITS and number(128, [-1, 0, 1], 1, "avx512vnni") == U8
    assert number(512, [-1, 1], 1, "amx", 16) == U8 and number(512, [-1, 1], 1, "amx", 4) == BITS


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


def test_what_the_engine_cannot_address_is_left_to_the_interpreter() -> None:
    """A border of 1,000 around 600 channels: one operand of gigabytes, though the program itself is small."""
    b = Builder(Input(Value((600, 1, 1), 0, 100, 0, 1)))  # too many bits for planes on any instruction set
    place = {"stride": [1, 1], "before": [1000, 1000], "after": [1000, 1000], "dilation": [1, 1]}
    weight = b.constant(np.full((1, 600, 1, 1), 100))
    spec = b.finish(b.add("convolution", [INPUT], place, {"weight": weight})).spec
    assert "interpreter" in str(Program(spec).engine) and Program(spec).engine.name == "interpreter"
    with pytest.raises(ProgramError, match="the native engine must hold a sample"):
        Program(spec, "native")


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


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "ends", [(-127, 127), (0, 255), (-(2**15), 2**15 - 1), (0, 65535), (-(2**31), 2**31 - 1), (0, 1)]
)
@pytest.mark.parametrize("scale", [(128, 0), (1, 0), (2**24 - 1, 30), (3, 1), (1, 62), (2**24, 0)])
def test_real_inputs_become_the_same_levels(scale: tuple[int, int], ends: tuple[int, int], isa: str) -> None:
    """Halves, ends, the smallest and largest numbers; and a call of real numbers is that of their levels."""
    b = Builder(Input(Value((7,), *ends, 0, 3), repeat=True, scale=scale))
    slow, fast = both(b.finish(b.add("maxpool", [b.add("reshape", [INPUT], {"shape": [1, 7]})], ONE)), isa, 2)
    random = np.random.default_rng(1)
    halves = random.integers(-2000, 2000, (50, 7)) * 0.5 / scale[0] * 2.0 ** scale[1]
    ends32 = np.array([3e38, -3e38, 1e-45, 0.49999997, -0.49999997, 0.5, -0.5])
    spread = random.standard_normal((50, 7)) * 10.0 ** random.integers(-3, 12, (50, 7))
    x = np.concatenate([halves, ends32[None], spread]).astype(np.float32)
    assert np.array_equal(slow.quantize(x), fast.quantize(x)) and slow.quantize(x).dtype == fast.quantize(x).dtype
    equal(slow(x), fast(x))
    equal(fast(x, batch=1000), fast(slow.quantize(x)))
    for bad in (np.nan, np.inf, -np.inf):
        x[3, 2] = bad
        with pytest.raises(ProgramError, match="finite"):
            fast(x, batch=1000)
