"""Programs of several outputs: by name, each with its shape, unit and steps; whole, streamed, in files, refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, ProgramError, Value, load, save
from bitspike.runtime.__main__ import predictions
from bitspike.runtime.file import from_bytes, to_bytes
from bitspike.runtime.limits import MAX_OUTPUTS
from bitspike.runtime.spec import Output, Spec
from programs.drawn import drawn, input_of
from programs.golden import golden

SEEDS = st.integers(0, 10**6)


def heads(names: tuple[str, str, str] = ("logits", "map", "slow")) -> Program:
    """Three steps of [2, 3]: sums in halves behind a mean, a map a step, one map a window."""
    b = Builder(Input(Value((2, 3), -9, 9, 0, 3)))
    weight = b.constant(np.array([[[1], [-1]]]), Grid(-1, 1))
    at = {"stride": [1], "before": [0], "after": [0], "dilation": [1], "exponent": 1}
    y = b.add("convolution", [INPUT], at, {"weight": weight}, "difference")
    flat = b.add("reshape", [y], {"shape": [3]})
    rows = [b.add("mean", [flat], {"keep": [0, 1]}), y, b.add("windows", [INPUT], {"frames": 3, "steps": 1})]
    return b.finish(dict(zip(names, rows, strict=True)), {names[0]: ["a", "b", "c"]})


def test_outputs_are_a_dict_by_name_each_with_its_own_unit_and_steps() -> None:
    program = heads()
    x = np.arange(-9, 9).reshape(3, 1, 2, 3)
    found = program(x)
    assert list(found) == ["logits", "map", "slow"] == list(program.outputs)
    difference = x[:, :, :1] - x[:, :, 1:]
    assert np.array_equal(found["map"].levels, difference) and found["map"].exponent == 1
    assert np.array_equal(found["map"].values, difference / 2)
    assert np.array_equal(found["logits"].levels, difference[1:].sum(0)[:, 0])
    assert found["logits"].steps == 2 and found["map"].steps == found["slow"].steps == 1
    assert np.array_equal(found["slow"].levels, x.sum(0, keepdims=True))
    assert found["logits"].top()[0][0][0] == "a" and found["map"].classes == ()
    assert [found[name].levels.dtype for name in found] == ["int64", "int8", "int8"]


def test_a_stream_gives_each_output_the_steps_that_it_has() -> None:
    program = heads()
    x = np.random.default_rng(0).integers(-9, 10, (6, 2, 2, 3))
    whole, _ = program.stream(x)
    state, parts = None, list[dict[str, Any]]()
    for i in range(6):
        part, state = program.stream(x[i : i + 1], state)
        parts.append(part)
    assert [len(part["slow"].levels) for part in parts] == [0, 0, 1, 0, 0, 1]
    for name in ("map", "slow"):
        assert np.array_equal(np.concatenate([part[name].levels for part in parts]), whole[name].levels)
    assert np.array_equal(parts[-1]["logits"].levels, whole["logits"].levels)
    assert [part["logits"].steps for part in parts] == [1, 1, 2, 3, 4, 5]
    assert not parts[0]["logits"].levels.any()


def test_one_output_with_a_name_is_a_dict_of_one_and_without_a_name_as_ever() -> None:
    b = Builder(Input(Value((2,), 0, 9), repeat=True))
    y = b.add("mean", [INPUT])
    named, alone = b.finish({"p3": y}), b.finish(y)
    assert list(named(np.array([1, 2]))) == ["p3"] and named.outputs == ("p3",) and alone.outputs == ("",)
    assert alone(np.array([1, 2])).levels.tolist() == named(np.array([1, 2]))["p3"].levels.tolist() == [[1, 2]]
    assert list(alone.run(np.array([1, 2]))) == [""]
    assert b'\\"version\\":[1,0]' in to_bytes(alone.spec) and b'\\"version\\":[1,2]' in to_bytes(named.spec)


def test_two_names_may_mean_one_value() -> None:
    b = Builder(Input(Value((2,), 0, 9)))
    y, m = b.add("add", [INPUT, INPUT]), b.add("mean", [INPUT])
    found = b.finish({"a": y, "b": y, "c": m, "d": m})(np.ones((1, 1, 2), int))
    assert [found[name].levels.ravel().tolist() for name in "abcd"] == [[2, 2], [2, 2], [1, 1], [1, 1]]


@given(SEEDS, st.data())
def test_chunks_and_batches_equal_the_whole_run(seed: int, data: st.DataObject) -> None:
    program = drawn(seed, several=True)
    means = [
        each.value in {n for made in program.operations if made.final for n in made.op.outputs}
        for each in program.spec.sent.values()
    ]
    x = input_of(program, seed, windows=2)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    whole, _ = program.stream(x)
    state, parts = None, list[dict[str, Any]]()
    for chunk in np.split(x, cuts):
        if len(chunk):
            part, state = program.stream(chunk, state)
            parts.append(part)
    for name, mean in zip(program.outputs, means, strict=True):
        levels = [part[name].levels for part in parts]
        assert np.array_equal(levels[-1] if mean else np.concatenate(levels), whole[name].levels)
        assert parts[-1][name].clamped == whole[name].clamped and parts[-1][name].steps == whole[name].steps
    x = input_of(program, seed, batch=5)
    once, again = program(x), program(x, batch=2)
    assert all(np.array_equal(once[name].levels, again[name].levels) for name in program.outputs)


@settings(max_examples=15)
@given(SEEDS)
def test_each_output_is_that_of_a_program_with_it_alone(seed: int) -> None:
    program = drawn(seed, several=True)
    x = input_of(program, seed, batch=3)
    whole = program(x)
    for name, each in program.spec.sent.items():
        rows = [op for op in program.spec.operations if op.kind != "mean" or each.value in op.outputs]
        values = {key: value for key, value in program.spec.values.items() if any(key in op.outputs for op in rows)}
        alone = Program(Spec(program.spec.input, tuple(rows), values, program.spec.constants, each.value))
        assert np.array_equal(alone(x).levels, whole[name].levels) and alone(x).steps == whole[name].steps


@settings(max_examples=15)
@given(SEEDS)
def test_values_that_come_out_are_held_to_the_end(seed: int) -> None:
    plan = (program := drawn(seed, several=True)).plan
    places = [plan.values[name] for name in dict.fromkeys(program.spec.sent_values)]
    spans = sorted((place.offset, place.offset + place.size_bytes) for place in places)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


@settings(max_examples=15)
@given(SEEDS)
def test_a_file_holds_the_same_program(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("file") / "MODEL.bitspike"
    program = drawn(seed, several=True)
    save(program, path)
    again, x = load(path), input_of(program, seed)
    assert again.spec.outputs == program.spec.outputs and list(again.spec.outputs) == list(program.spec.outputs)
    assert again.plan == program.plan
    wanted, got = program(x), again(x)
    assert all(np.array_equal(wanted[name].levels, got[name].levels) for name in program.outputs)
    data = path.read_bytes()
    save(again, path)
    assert path.read_bytes() == data and copy.deepcopy(program).outputs == program.outputs


def test_a_file_of_one_output_is_what_it_was() -> None:
    data = to_bytes(golden().spec)
    assert b'outputs\\":{' not in data and to_bytes(from_bytes(data)) == data


BAD: dict[str, tuple[Callable[[Spec], Spec], str]] = {
    "both": (lambda s: replace(s, output="difference"), "it must have one output or outputs with names"),
    "classes of one": (lambda s: replace(s, classes=("a",)), "it must have one output or outputs with names"),
    "no such value": (lambda s: replace(s, outputs={**s.outputs, "x": Output("no")}), "output x must be a value that"),
    "the input": (lambda s: replace(s, outputs={**s.outputs, "x": Output(INPUT)}), "output x must be a value that"),
    "a mean left out": (lambda s: replace(s, outputs={"map": s.outputs["map"]}), "a mean must be an output"),
    "classes too many": (
        lambda s: replace(s, outputs={**s.outputs, "map": Output("difference", ("a", "b"))}),
        "there must be one for each number",
    ),
    "a name of nothing": (lambda s: replace(s, outputs={**s.outputs, "": Output("difference")}), "a name must be 1 to"),
    "a name unprintable": (lambda s: replace(s, outputs={**s.outputs, "\n": Output("difference")}), "a name must be"),
    "too many": (
        lambda s: replace(s, outputs={**s.outputs, **{str(i): Output("difference") for i in range(MAX_OUTPUTS)}}),
        f"at most {MAX_OUTPUTS} outputs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_outputs_that_are_refused(case: str) -> None:
    change, words = BAD[case]
    with pytest.raises(ProgramError, match=words):
        Program(change(heads().spec))


def test_channels_with_units_of_their_own_do_not_come_out() -> None:
    b = Builder(Input(Value((2,), 0, 9)))
    y = b.add("linear", [INPUT], {"exponent": None}, {"weight": b.constant(np.ones((1, 2), int), Grid(0, 1))})
    with pytest.raises(ProgramError, match="output x must have a unit"):
        b.finish({"x": y, "y": b.add("add", [INPUT, INPUT])})


@pytest.mark.parametrize(
    ("output", "classes", "words"),
    [
        ({}, (), "there must be one or more"),
        ({"a": "difference"}, ["x"], "given by the name of one"),
        ({"a": "difference"}, {"b": ["x"]}, "given by the name of one"),
        ("difference", {"a": ["x"]}, "they must be a list"),
    ],
)
def test_a_builder_refuses_names_that_do_not_fit(output: Any, classes: Any, words: str) -> None:
    b = Builder(Input(Value((2,), 0, 9)))
    b.add("add", [INPUT, INPUT], name="difference")
    with pytest.raises(ProgramError, match=words):
        b.finish(output, classes)


def test_predictions_of_the_command_are_by_output() -> None:
    """Maps have no classes to name: their numbers are shown as shape and range."""
    b = Builder(Input(Value((2, 2), 0, 9), repeat=True))
    flat = b.add("reshape", [INPUT], {"shape": [4]})
    program = b.finish({"kind": b.add("mean", [flat]), "map": b.add("add", [INPUT, INPUT])}, {"kind": list("abcd")})
    (row,) = predictions(program, np.array([[1, 2], [4, 3]]), 2)
    assert row["outputs"]["kind"]["top"] == [{"class": "c", "logit": 4.0}, {"class": "d", "logit": 3.0}]
    assert row["outputs"]["map"] == {"shape": [1, 2, 2], "low": 2.0, "high": 8.0}
