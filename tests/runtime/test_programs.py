"""Whole programs: in chunks as at once, in any batch, through a file, and by the memory plan of one arena."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, ProgramError, State, Value, load, save
from bitspike.runtime.ops import OPERATIONS
from programs import arena
from programs.drawn import drawn, input_of
from programs.machines import pieces
from programs.residual import resnet

SEEDS = st.integers(0, 10**6)


def test_drawn_programs_hold_every_operation_and_say_something() -> None:
    programs = [drawn(seed) for seed in range(80)]
    found = {made.op.kind for program in programs for made in program.operations}
    assert found == set(OPERATIONS)
    alive = [np.unique(p(input_of(p, 1)).levels).size > 1 for p in programs]
    assert sum(alive) > 30
    assert sum(len({made.read[0].steps for made in p.operations}) > 1 for p in programs) > 10
    assert any(len(p.plan.loops) > 3 for p in programs)


@given(SEEDS, st.data())
def test_chunks_equal_the_whole_run(seed: int, data: st.DataObject) -> None:
    """Two windows in chunks of any length, into which an input of several steps is cut anywhere."""
    program = drawn(seed)
    x = input_of(program, seed, windows=2)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    whole, _ = program.stream(x)
    again, clamped = pieces(program, x, cuts)
    assert np.array_equal(again, whole.levels) and clamped == whole.clamped


@pytest.mark.parametrize("join", ["add", "multiply", "concat"])
def test_a_branch_waits_for_the_other(join: str) -> None:
    """x + (Σ x, held): the steps of x wait until the window is full, wherever a stream is cut, in the next one too."""
    b = Builder(Input(Value((2,), -9, 9, 0, 3)))
    total = b.add("windows", [INPUT], {"frames": 3, "steps": 1})
    held = b.add("windows", [total], {"frames": 1, "steps": 3})
    program = b.finish(b.add(join, [INPUT, held]))
    x = np.random.default_rng(0).integers(-9, 10, (6, 2, 2))
    sums = np.repeat(np.stack([x[:3].sum(0), x[3:].sum(0)]), 3, 0)
    expected = {"add": x + sums, "multiply": x * sums, "concat": np.concatenate([x, sums], 2)}[join]
    for cuts in range(2**5):
        assert np.array_equal(pieces(program, x, [i + 1 for i in range(5) if cuts >> i & 1])[0], expected)
    part, state = program.stream(x[:2])
    assert len(part.levels) == 0
    if isinstance(state, State):
        assert [len(left) for left in next(iter(state.waiting.values()))] == [2, 0]


@pytest.mark.parametrize("top", [9, 0])
def test_before_the_first_window_a_mean_is_zeros_of_its_type(top: int) -> None:
    b = Builder(Input(Value((2,), -top, top, 0, 3)))
    program = b.finish(b.add("mean", [b.add("windows", [INPUT], {"frames": 3, "steps": 1})]))
    x = np.full((3, 2, 2), top)
    first, state = program.stream(x[:2])
    second, _ = program.stream(x[2:], state)
    assert first.levels.dtype == second.levels.dtype and first.levels.shape == second.levels.shape == (2, 2)
    assert (first.steps, second.steps) == (1, 1) and not first.levels.any() and (second.levels == 3 * top).all()


@given(SEEDS)
def test_any_batch_gives_the_same_integers(seed: int) -> None:
    program = drawn(seed)
    x = input_of(program, seed, batch=5)
    axis = 0 if program.spec.input.repeat else 1
    whole = program(x)
    one_by_one = [program(np.take(x, [i], axis)) for i in range(5)]
    axis = 0 if program.operations[-1].final else 1
    assert np.array_equal(np.concatenate([r.levels for r in one_by_one], axis), whole.levels)
    total = {name: sum(r.clamped.get(name, 0) for r in one_by_one) for name in whole.clamped}
    assert total == whole.clamped
    assert np.array_equal(program(x, batch=2).levels, whole.levels)


@given(SEEDS)
def test_a_repeated_input_equals_a_sequence_of_it(seed: int) -> None:
    """What is the same at every step is computed once, which nothing shows."""
    program = drawn(seed)
    if program.spec.input.repeat:
        x = input_of(program, seed)
        streamed, _ = program.stream(np.stack([x] * program.spec.input.value.steps))
        whole = program(x)
        assert np.array_equal(streamed.levels, whole.levels) and streamed.clamped == whole.clamped


@given(SEEDS, st.booleans())
def test_the_memory_plan_runs_every_program(seed: int, several: bool) -> None:
    program = drawn(seed, several=several)
    x = input_of(program, seed, batch=1)
    steps = program.spec.input.value.steps
    sample = np.repeat(x, steps, 0) if program.spec.input.repeat else x[:, 0]
    means = {name for made in program.operations if made.final for name in made.op.outputs}
    found = zip(program.spec.sent_values, program.run(x).values(), arena.run(program, sample), strict=True)
    for name, expected, got in found:
        assert np.array_equal(got, expected.levels if name in means else expected.levels[:, 0])


@given(SEEDS)
def test_values_that_live_together_lie_apart(seed: int) -> None:
    """States lie before values; an input and an output of one operation never share a byte."""
    program = drawn(seed)
    plan = program.plan
    spans = sorted((place.offset, place.offset + place.size_bytes) for place in plan.states.values())
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert all(end <= plan.state_bytes for _, end in spans)
    for made in program.operations:
        places = [plan.values[name] for name in {*made.op.inputs, *made.op.outputs}]
        spans = sorted((place.offset, place.offset + place.size_bytes) for place in places)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert sorted(i for loop in plan.loops for i in loop.operations) == list(range(len(program.operations)))


@settings(max_examples=15)
@given(SEEDS)
def test_a_file_holds_the_same_program(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("file") / "MODEL.bitspike"
    program = drawn(seed)
    size = save(program, path)
    assert size == path.stat().st_size
    again = load(path)
    assert again.spec.values == program.spec.values and again.spec.info == program.spec.info
    assert again.spec.classes == program.spec.classes and again.spec.input == program.spec.input
    assert again.plan == program.plan
    x = input_of(program, seed)
    assert np.array_equal(again(x).levels, program(x).levels)
    data = path.read_bytes()
    save(again, path)
    assert path.read_bytes() == data


def test_a_residual_network_streams_batches_and_reports() -> None:
    program = resnet((4, 8), blocks=1, steps=3, side=8)
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    whole = program(x, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)] and whole.levels.shape == (3, 10) and whole.steps == 3 and not whole.clamped
    state: State | None = None
    for _ in range(3):
        part, state = program.stream(x[None], state)
    assert np.array_equal(part.levels, whole.levels) and part.steps == 3
    alone = program(x[0])
    assert np.array_equal(alone.levels, whole.levels[:1])
    first = whole.top(2)[0]
    assert first[0] == (f"class {whole.levels[0].argmax()}", whole.values[0].max()) and first[0][1] >= first[1][1]
    text = program.report()
    assert "arena" in text and "16-bit sums" in text and "states" in text


def test_layers_of_the_residual_network_neither_fall_silent_nor_fire_always() -> None:
    program = resnet((8, 16), blocks=1, steps=3, side=8)
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    values, rates = {INPUT: np.stack([program.quantize(x)] * 3)}, {}
    for made in program.operations:
        ran = made.run(tuple(values[name] for name in made.op.inputs), None)
        values.update(zip(made.op.outputs, ran.outputs, strict=True))
        if made.op.kind == "fire":
            rates[made.op.name] = float((ran.outputs[0] != 0).mean())
    assert all(0.02 < rate < 0.98 for rate in rates.values()), rates


def test_streams_are_pure() -> None:
    """A state can be used twice: nothing in it is written to."""
    for seed in range(20):
        program = drawn(seed)
        x = input_of(program, seed, windows=2)
        _, state = program.stream(x[:2])
        if len(x) > 2:
            first, _ = program.stream(x[2:], state)
            again, _ = program.stream(x[2:], state)
            assert np.array_equal(first.levels, again.levels) and first.clamped == again.clamped


def small() -> Program:
    b = Builder(Input(Value((2,), -128, 127, 7, 2), scale=(128, 0)))
    y = b.add("linear", [INPUT], tensors={"weight": b.constant(np.eye(2, dtype=int), Grid(0, 1))})
    return b.finish(b.add("mean", [y]), ["no", "yes"])


def test_real_numbers_enter_rounded_half_away_from_zero() -> None:
    program = small()
    x = np.array([0.5, -0.5, 1.5, -1.5, 0.49, 200.0, -200.0, 0.0]) / 128
    assert program.quantize(x).tolist() == [1, -1, 2, -2, 0, 127, -128, 0]
    assert program.quantize(np.float64(0.5 - 2**-40) / 128) == 1  # rounded to float32 first
    assert program(np.full((2, 1, 2), 0.5 / 128, np.float32)).levels.tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (np.zeros((2, 1, 3), int), "samples must be"),
        (np.zeros((0, 1, 2), int), "not empty"),
        (np.zeros((2, 0, 2), int), "not empty"),
        (np.full((2, 1, 2), 128), "lie in -128..127"),
        (np.full((2, 1, 2), np.nan), "finite"),
        (np.zeros((2, 1, 2), complex), "integers or real"),
        (np.array("a"), "integers or real"),
    ],
)
def test_wrong_inputs_are_refused(x: np.ndarray, word: str) -> None:
    with pytest.raises(ProgramError, match=word):
        small()(x)


def test_calls_that_make_no_sense_are_refused() -> None:
    program = small()
    _, state = program.stream(np.zeros((1, 2, 2), int))
    with pytest.raises(ProgramError, match="2 samples of the state"):
        program.stream(np.zeros((1, 3, 2), int), state)
    with pytest.raises(ProgramError, match="a chunk must be"):
        program.stream(np.zeros((0, 2, 2), int))
    with pytest.raises(ProgramError, match="batch must be"):
        program(np.zeros((2, 1, 2), int), batch=0)
    with pytest.raises(ProgramError, match="1 <= k"):
        program(np.zeros((2, 1, 2), int)).top(3)
    assert program(np.zeros((5, 1, 2), int)).steps == 5  # no window in it: sequences of any length
    b = Builder(Input(Value((2,), 0, 1, 0, 2)))
    whole = b.finish(b.add("windows", [INPUT], {"frames": 2, "steps": 1}))
    with pytest.raises(ProgramError, match="must have 2 steps"):
        whole(np.zeros((3, 1, 2), int))
    b = Builder(Input(Value((2,), 0, 1)))
    integers = b.finish(b.add("latch", [INPUT]))
    with pytest.raises(ProgramError, match="takes no real numbers"):
        integers(np.zeros((1, 1, 2)))
