"""Every kind of illegal program is refused in one clear sentence; what is accepted keeps the ranges it was proved."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Constant, Grid, Input, Op, ProgramError, Spec, Value, limits, verify
from bitspike.runtime.interpreter import step
from bitspike.runtime.limits import MAX_OPERATIONS
from bitspike.runtime.ops import OPERATIONS, Operation, Ran
from programs.drawn import drawn
from programs.machines import INT32, arrays, one

HOUSE_FORM = re.compile(r"^[^:]+: .+, got .*; .+[.]$", re.DOTALL)


def legal() -> Spec:
    """conv → rescale → fire → windows → linear → mean."""
    b = Builder(Input(Value((2, 3), -1, 1, 0, 4), repeat=True, scale=(1, 0)))
    place = {"stride": [1], "before": [1], "after": [1], "dilation": [1], "exponent": None}
    y = b.add("convolution", [INPUT], place, {"weight": b.constant(np.ones((2, 2, 3), int), Grid(-1, 1), "w")}, "conv")
    y = b.add(
        "rescale", [y], {"shift": 1, "exponent": 4}, {"multiplier": b.constant(np.array([3, 5]), name="m")}, "scale"
    )
    tensors = {"first": b.constant(np.array([4]), name="f"), "charge": b.constant(np.array([4]), name="c")}
    y = b.add("fire", [y], {"count": [1], "reset": "soft"}, tensors, "fire")
    y = b.add("windows", [y], {"frames": 4, "steps": 1}, name="sum")
    y = b.add("reshape", [y], {"shape": [6]}, name="flat")
    y = b.add("linear", [y], tensors={"weight": b.constant(np.ones((2, 6), int), Grid(-1, 1), "v")}, name="linear")
    return b.finish(b.add("mean", [y], name="mean"), ["a", "b"]).spec


def with_op(spec: Spec, name: str, /, **changes: Any) -> Spec:
    """One operation changed; attributes and tensors are merged in, None leaves one out."""

    def changed(op: Op) -> Op:
        if op.name != name:
            return op
        new = dict(changes)
        for part in ("attributes", "tensors"):
            merged = {**getattr(op, part), **new.get(part, {})}
            new[part] = {key: value for key, value in merged.items() if value is not None or part == "attributes"}
        return replace(op, **new)

    return replace(spec, operations=tuple(map(changed, spec.operations)))


def with_value(spec: Spec, name: str, **changes: Any) -> Spec:
    return replace(spec, values={**spec.values, name: replace(spec.values[name], **changes)})


def with_constant(spec: Spec, name: str, array: Any, grid: Grid | None = None) -> Spec:
    return replace(spec, constants={**spec.constants, name: Constant(np.asarray(array), grid)})


def with_input(spec: Spec, **changes: Any) -> Spec:
    return replace(spec, input=replace(spec.input, **changes))


def without(spec: Spec, part: str, name: str) -> Spec:
    return replace(spec, **{part: {key: value for key, value in getattr(spec, part).items() if key != name}})


def many(spec: Spec) -> Spec:
    more = tuple(Op("latch", f"l{i}", (INPUT,), (f"l{i}",)) for i in range(MAX_OPERATIONS))
    return replace(spec, operations=spec.operations + more)


CASES: dict[str, tuple[Callable[[Spec], Spec], str]] = {
    "no operation": (lambda s: replace(s, operations=()), "1 to 4096 operations"),
    "too many operations": (many, "1 to 4096 operations"),
    "unknown kind": (lambda s: with_op(s, "conv", kind="convolve"), "the kind must be one of"),
    "read before written": (lambda s: replace(s, operations=s.operations[::-1]), "written before it is read"),
    "unknown input": (lambda s: with_op(s, "fire", inputs=("nowhere",)), "written before it is read"),
    "reads itself": (lambda s: with_op(s, "fire", inputs=("fire",)), "written before it is read"),
    "written twice": (lambda s: with_op(s, "fire", outputs=("scale",)), "written once"),
    "writes the input": (lambda s: with_op(s, "fire", outputs=(INPUT,)), "written once"),
    "same name twice": (lambda s: with_op(s, "fire", name="conv"), "names of their own"),
    "name with a line break": (lambda s: with_op(s, "fire", name="a\nb"), "printable"),
    "empty name": (lambda s: with_op(s, "fire", name=""), "printable"),
    "name of a value": (lambda s: with_op(s, "fire", outputs=("x" * 201,)), "printable"),
    "too many inputs": (lambda s: with_op(s, "fire", inputs=("scale", "scale")), "1 to 1 inputs"),
    "too many outputs": (lambda s: with_op(s, "scale", outputs=("scale", "b")), "1 to 1 outputs"),
    "no output": (lambda s: with_op(s, "scale", outputs=()), "1 to 1 outputs"),
    "attribute missing": (lambda s: with_op(s, "scale", attributes={"shift": None}), "integer from 0 to 62"),
    "attribute unknown": (lambda s: with_op(s, "scale", attributes={"rounding": 1}), "its attributes are"),
    "attribute too large": (lambda s: with_op(s, "scale", attributes={"shift": 63}), "integer from 0 to 62"),
    "attribute of another type": (lambda s: with_op(s, "scale", attributes={"shift": 1.0}), "integer from 0 to 62"),
    "truth for an integer": (lambda s: with_op(s, "scale", attributes={"shift": True}), "integer from 0 to 62"),
    "list too long": (lambda s: with_op(s, "conv", attributes={"stride": [1, 1, 1]}), "list of 1 to 2"),
    "list of another length": (lambda s: with_op(s, "conv", attributes={"stride": [1, 1]}), "must have 1 numbers"),
    "unknown word": (lambda s: with_op(s, "fire", attributes={"reset": "none"}), "one of hard, soft"),
    "no flag": (lambda s: with_op(s, "fire", attributes={"signed": 1}), "true or false"),
    "constant missing": (
        lambda s: with_op(s, "scale", tensors={"multiplier": None}),
        "must have the constant multiplier",
    ),
    "constant unknown": (lambda s: with_op(s, "scale", tensors={"offset": "f"}), "its constants are"),
    "constant not there": (lambda s: without(s, "constants", "m"), "constants must exist"),
    "constant unused": (lambda s: with_constant(s, "extra", np.ones(1, np.int8)), "every constant must be used"),
    "constant of floats": (lambda s: with_constant(s, "m", [1.0, 2.0]), "it must be integers"),
    "constant of 64 bits": (lambda s: with_constant(s, "m", np.array([1, 2])), "int8, int16, int32"),
    "constant empty": (lambda s: with_constant(s, "m", np.zeros(0, np.int32)), "not empty"),
    "constant off its grid": (lambda s: with_constant(s, "w", np.full((2, 2, 3), 2), Grid(-1, 1)), "it must be on"),
    "constant between levels": (
        lambda s: with_constant(s, "w", np.zeros((2, 2, 3), int), Grid(-1, 1, 2)),
        "it must be on",
    ),
    "no power of two": (
        lambda s: with_constant(s, "w", np.full((2, 2, 3), 3), Grid(-4, 4, 1, "power")),
        "it must be on",
    ),
    "grid of one level": (lambda s: with_constant(s, "w", np.zeros((2, 2, 3), int), Grid(0, 0)), "two levels"),
    "grid upside down": (lambda s: with_constant(s, "w", np.zeros((2, 2, 3), int), Grid(1, -1)), "two levels"),
    "grid with a wrong stride": (
        lambda s: with_constant(s, "w", np.ones((2, 2, 3), int), Grid(-1, 2, 2)),
        "two levels",
    ),
    "grid with an unknown spacing": (
        lambda s: with_constant(s, "w", np.ones((2, 2, 3), int), Grid(-1, 1, 1, "log")),
        "two levels",
    ),
    "power grid to 3": (
        lambda s: with_constant(s, "w", np.ones((2, 2, 3), int), Grid(-3, 4, 1, "power")),
        "two levels",
    ),
    "weight of another shape": (lambda s: with_constant(s, "v", np.ones((2, 5), int), Grid(-1, 1)), "must be [O, I]"),
    "weight with other channels": (
        lambda s: with_constant(s, "w", np.ones((2, 3, 3), int), Grid(-1, 1)),
        "groups must divide",
    ),
    "weight of 17 bits": (
        lambda s: with_constant(s, "v", np.full((2, 6), 40000, np.int32)),
        "weights must fit 16 bits",
    ),
    "multiplier of another length": (
        lambda s: with_constant(s, "m", np.ones(3, np.int8)),
        "multiplier must be [1], [2]",
    ),
    "multiplier with three axes": (
        lambda s: with_constant(s, "m", np.ones((1, 1, 1), np.int8)),
        "multiplier must be [1], [2]",
    ),
    "threshold of 0": (lambda s: with_constant(s, "f", np.zeros(1, np.int8)), "first must be >= 1"),
    "charge with a hard reset": (lambda s: with_op(s, "fire", attributes={"reset": "hard"}), "with a soft reset only"),
    "two levels without spacing": (
        lambda s: with_op(s, "fire", attributes={"count": [2]}),
        "where count is above 1 only",
    ),
    "decay above 1": (lambda s: with_op(s, "fire", attributes={"decay": [3, 1]}), "m <= 2^s"),
    "cancel without signs": (lambda s: with_op(s, "fire", attributes={"cancel": True}), "come with signed"),
    "down without signs": (lambda s: with_op(s, "fire", attributes={"down": 2}), "come with signed"),
    "gate with signs": (
        lambda s: with_op(s, "fire", attributes={"signed": True}, tensors={"gate": "f"}),
        "without signed",
    ),
    "floor by step": (
        lambda s: with_op(with_constant(s, "g", np.zeros((2, 1), np.int8)), "fire", tensors={"floor": "g"}),
        "same at every step",
    ),
    "low above high": (lambda s: with_op(s, "scale", attributes={"low": 1, "high": 0}), "low must be <= high"),
    "frames of another number": (lambda s: with_op(s, "sum", attributes={"frames": 3}), "frames must be the 4 steps"),
    "shape of another size": (lambda s: with_op(s, "flat", attributes={"shape": [5]}), "must hold 6 numbers"),
    "sums read without a unit": (lambda s: with_op(s, "fire", inputs=("conv",)), "must have a unit"),
    "something behind a mean": (
        lambda s: replace(s, operations=(*s.operations, Op("latch", "l", ("mean",), ("l",)))),
        "nothing may read a mean",
    ),
    "a mean that is no output": (lambda s: replace(s, output="linear"), "a mean must be the output"),
    "output unknown": (lambda s: replace(s, output="nowhere"), "the output must be a value that is written"),
    "output the input": (lambda s: replace(s, output=INPUT), "the output must be a value that is written"),
    "shape declared otherwise": (lambda s: with_value(s, "flat", shape=(7,)), "must be declared as"),
    "range declared narrower": (lambda s: with_value(s, "linear", high=1), "must be declared as"),
    "range declared wider": (lambda s: with_value(s, "linear", low=-99), "must be declared as"),
    "unit declared otherwise": (lambda s: with_value(s, "scale", exponent=5), "must be declared as"),
    "steps declared otherwise": (lambda s: with_value(s, "fire", steps=1), "must be declared as"),
    "value not declared": (lambda s: without(s, "values", "flat"), "must be declared"),
    "value never written": (lambda s: replace(s, values={**s.values, "x": Value((1,), 0, 1)}), "must be written"),
    "input declared again": (lambda s: replace(s, values={**s.values, INPUT: s.input.value}), "must be written"),
    "input without a unit": (lambda s: with_input(s, value=replace(s.input.value, exponent=None)), "have a unit"),
    "input of 64 bits": (lambda s: with_input(s, value=replace(s.input.value, high=2**31)), "fit 32 bits"),
    "input upside down": (lambda s: with_input(s, value=replace(s.input.value, low=2)), "low <= high"),
    "input without axes": (lambda s: with_input(s, value=replace(s.input.value, shape=())), "1 to 4 axes"),
    "input with a side of 0": (lambda s: with_input(s, value=replace(s.input.value, shape=(0, 3))), "1 to 4 axes"),
    "input too large": (lambda s: with_input(s, value=replace(s.input.value, shape=(2**20, 2**20))), "at most"),
    "input of too many steps": (lambda s: with_input(s, value=replace(s.input.value, steps=10001)), "1 to 10000 steps"),
    "scale of 0": (lambda s: with_input(s, scale=(0, 0)), "its scale must be"),
    "scale of 25 bits": (lambda s: with_input(s, scale=(2**25, 0)), "its scale must be"),
    "a class too few": (lambda s: replace(s, classes=("a",)), "one for each number"),
    "class without a name": (lambda s: replace(s, classes=("a", "")), "printable"),
}


def test_the_program_that_cases_change_is_legal() -> None:
    assert [made.op.name for made in verify(legal())] == ["conv", "scale", "fire", "sum", "flat", "linear", "mean"]


@pytest.mark.parametrize("case", CASES)
def test_illegal_programs_are_refused(case: str) -> None:
    change, word = CASES[case]
    with pytest.raises(ProgramError) as caught:
        verify(change(legal()))
    assert word in str(caught.value) and HOUSE_FORM.match(str(caught.value))


WIDE = Value((2,), *INT32)
SUMS: dict[str, tuple[Callable[[], object], str]] = {
    "64-bit sums that are fired on": (
        lambda: wide_then("fire", {"count": [1], "reset": "hard"}, first=[1]),
        "fit 32 bits",
    ),
    "64-bit sums that are added": (lambda: wide_then("latch", {}), "fit 32 bits"),
    "more than 64 bits of sums": (
        lambda: one("linear", Value((2**18,), *INT32), weight=np.full((1, 2**18), 2**15 - 1)),
        "fit 64",
    ),
    "more than 64 bits of product": (
        lambda: wide_then("rescale", {"shift": 9, "exponent": 0}, multiplier=[2**30]),
        "fit 64 bits",
    ),
    "a product of 33 bits": (lambda: square(Value((2,), 0, 2**16)), "fit 32 bits"),
    "a pool of 33 bits": (
        lambda: one("sumpool", Value((1, 4), 0, 2**30), {"kernel": [4], "stride": [4], "padding": [0]}),
        "fit 32 bits",
    ),
    "a window of 33 bits": (
        lambda: one("windows", Value((2,), 0, 2**30, 0, 2), {"frames": 2, "steps": 1}),
        "fit 32 bits",
    ),
    "spikes of 33 bits": (
        lambda: one("fire", WIDE, {"count": [65535], "reset": "hard", "up": 65536}, first=[1], spacing=[1]),
        "fit 32 bits",
    ),
    "a table that is too short": (
        lambda: one("lookup", Value((2,), 0, 3), {"first": 0, "exponent": 0}, table=[1, 2, 3]),
        "lie in 0..2",
    ),
    "a table that begins late": (
        lambda: one("lookup", Value((2,), 0, 2), {"first": 1, "exponent": 0}, table=[1, 2, 3]),
        "lie in 1..3",
    ),
    "a kernel that does not fit": (
        lambda: one(
            "convolution",
            Value((1, 2), 0, 1),
            {"stride": [1], "dilation": [1], "before": [0], "after": [0]},
            weight=np.ones((1, 1, 3), int),
        ),
        "fit into the padded input",
    ),
    "a window beside the input": (
        lambda: one("maxpool", Value((1, 1), 0, 1), {"kernel": [2], "stride": [1], "padding": [1], "dilation": [2]}),
        "every window must meet the input",
    ),
    "padding of more than half": (
        lambda: one("maxpool", Value((1, 4), 0, 1), {"kernel": [2], "stride": [1], "padding": [2], "dilation": [1]}),
        "at most half the kernel",
    ),
    "a divisor that does not divide": (
        lambda: one("sumpool", Value((1, 5), 0, 1), {"kernel": [2], "stride": [2], "padding": [0], "divisor": 3}),
        "must divide 3",
    ),
    "a pool of vectors": (
        lambda: one("maxpool", Value((5,), 0, 1), {"kernel": [2], "stride": [2], "padding": [0], "dilation": [1]}),
        "the input must be [C, L]",
    ),
    "a slice beyond the end": (
        lambda: one("slice", Value((5,), 0, 1), {"start": [0], "stop": [6], "stride": [1]}),
        "start < stop",
    ),
    "an empty slice": (
        lambda: one("slice", Value((5,), 0, 1), {"start": [2], "stop": [2], "stride": [1]}),
        "start < stop",
    ),
    "padding on other axes": (
        lambda: one("pad", Value((5,), 0, 1), {"before": [0, 0], "after": [1, 1]}),
        "must have 1 numbers",
    ),
}


def wide_then(kind: str, attributes: dict[str, Any], **tensors: Any) -> None:
    b = Builder(Input(WIDE))
    y = b.add("linear", [INPUT], tensors={"weight": b.constant(np.full((2, 2), 2))})
    b.add(kind, [y], attributes, {role: b.constant(np.array(numbers)) for role, numbers in tensors.items()})


def square(value: Value) -> None:
    Builder(Input(value)).add("multiply", [INPUT, INPUT])


@pytest.mark.parametrize("case", SUMS)
def test_ranges_and_places_that_cannot_be_are_refused(case: str) -> None:
    build, word = SUMS[case]
    with pytest.raises(ProgramError) as caught:
        build()
    assert word in str(caught.value) and HOUSE_FORM.match(str(caught.value))


def test_the_half_that_rounds_counts_in_the_product() -> None:
    """(2^33 − 4)·(2^30 − 1) fits 63 bits, but not with 2^61 on top."""
    b = Builder(Input(Value((1,), 0, 2**31 - 1)))
    x = b.add("linear", [INPUT], tensors={"weight": b.constant(np.array([[4]]))})
    tensors = {"multiplier": b.constant(np.array([2**30 - 1]))}
    b.add("rescale", [x], {"shift": 31, "exponent": 0}, tensors)
    with pytest.raises(ProgramError, match="the product must fit 64 bits"):
        b.add("rescale", [x], {"shift": 62, "exponent": 0}, tensors)


def test_sums_and_joins_need_one_shape_one_unit_and_equal_steps() -> None:
    b = Builder(Input(Value((2, 2), 0, 1, 0, 2)))
    flat = b.add("reshape", [INPUT], {"shape": [4]})
    once = b.add("windows", [INPUT], {"frames": 2, "steps": 1})
    unit = b.add("rescale", [INPUT], {"shift": 0, "exponent": 3}, {"multiplier": b.constant(np.array([8]))})
    tall = b.add("reshape", [INPUT], {"shape": [1, 4]})
    for kind, other, word in (
        ("add", flat, "shape"),
        ("add", unit, "exponent"),
        ("add", once, "equal steps"),
        ("concat", tall, r"\[C, 2\]"),
        ("concat", unit, "exponent"),
        ("multiply", flat, "the factor must be"),
        ("multiply", once, "equal steps"),
    ):
        with pytest.raises(ProgramError, match=word):
            b.add(kind, [INPUT, other])


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@example(11595, 0)  # a read-out of zeros alone: its range is 0..0, its type int8
def test_values_keep_their_ranges_even_at_the_ends(seed: int, other: int) -> None:
    """Whatever stands at the ends of the alphabet, nothing leaves the range that was proved, and types hold it."""
    program = drawn(seed)
    value, random = program.spec.input.value, np.random.default_rng(other)
    x = random.choice([value.low, value.high], (value.steps, 2, *value.shape)).astype(value.dtype)
    seen: set[str] = set()

    def watch(made: Operation, ran: Ran) -> Ran:
        for name, proved, found in zip(made.op.outputs, made.written, ran.outputs, strict=True):
            assert found.dtype == proved.dtype and found.shape[2:] == proved.shape
            assert not found.size or (proved.low <= found.min() and found.max() <= proved.high)
            seen.add(name)
        return ran

    step(program.operations, x, None, program.spec.sent_values, watch=watch)
    assert seen == set(program.spec.values)


def test_a_constant_that_is_used_often_counts_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifying looks at it every time, so a small file could otherwise keep a loader busy for hours."""
    b = Builder(Input(Value((2, 1), 0, 1)))
    weight, x = b.constant(np.zeros((2, 2, 1), int), Grid(0, 1)), INPUT
    for _ in range(5):
        place = {"stride": [1], "before": [0], "after": [0], "dilation": [1]}
        x = b.add("convolution", [x], place, {"weight": weight})
    spec = b.finish(x).spec
    monkeypatch.setattr(limits, "MAX_USED", 20)
    verify(spec)
    monkeypatch.setattr(limits, "MAX_USED", 19)
    with pytest.raises(ProgramError, match="at most 19 numbers of constants"):
        verify(spec)


@given(st.data())
def test_bounds_of_sums_are_met(data: st.DataObject) -> None:
    """The range of a sum is no wider than an input can make it, so accumulators are as narrow as they can be."""
    d = data.draw
    weight = d(arrays((2, 4), st.integers(-9, 9)))
    bias = d(arrays((2,), st.integers(-50, 50)))
    low, high = d(st.sampled_from([(0, 1), (-1, 1), (0, 255), (-128, 127)]))
    program = one("linear", Value((4,), low, high), weight=weight, bias=bias)
    value = program.spec.values["linear0"]
    most = [np.where(w > 0, high, low) for w in weight]
    least = [np.where(w > 0, low, high) for w in weight]
    ends = [program(np.array(x)[None, None]).levels[0, 0] for x in (*most, *least)]
    reached = [int(ends[o][o]) - min(int(bias[o]), 0) for o in range(2)]
    fallen = [int(ends[2 + o][o]) - max(int(bias[o]), 0) for o in range(2)]
    assert value.high == max(reached) and value.low == min(fallen)


def test_builders_refuse_what_is_not_there() -> None:
    b = Builder(Input(Value((2,), 0, 1)))
    b.constant(np.array([1]), name="one")
    for build, word in (
        (lambda: b.add("convolve", [INPUT]), "the kind must be one of"),
        (lambda: b.add("latch", ["nowhere"]), "must exist"),
        (lambda: b.add("rescale", [INPUT], {"shift": 0, "exponent": 0}, {"multiplier": "none"}), "must exist"),
        (lambda: b.constant(np.array([1]), name="one"), "names of their own"),
        (lambda: b.constant(np.array([1.0])), "it must be integers"),
        (lambda: b.constant(np.array([2**31])), "it must fit 32 bits"),
    ):
        with pytest.raises(ProgramError, match=word):
            build()


def test_every_row_says_what_it_needs() -> None:
    for kind, row in OPERATIONS.items():
        assert row.kind == kind and row.__doc__ and row.arity[0] >= 1
        assert row.results in ((1, 1), (1, 2))
