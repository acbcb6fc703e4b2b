"""Programs as ONNX graphs: the integers of the interpreter, in ONNX Runtime and in the reference evaluator of onnx."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.export import export
from bitspike.runtime import INPUT, Builder, Input, Program, Value
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES
from programs.golden import golden, images
from programs.machines import one

onnx = pytest.importorskip("onnx", reason="not run: onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")

Run = Callable[[dict[str, Any]], dict[str, Any]]
FORMS = ("unrolled", "scan", "step")


def metadata(path: Path, key: str) -> str:
    return next(entry.value for entry in onnx.load(path).metadata_props if entry.key == f"bitspike.{key}")


def in_onnxruntime(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda fed: dict(zip(names, session.run(names, fed), strict=True))


def in_reference(path: Path) -> Run:
    from onnx.reference import ReferenceEvaluator

    found = ReferenceEvaluator(str(path))
    return lambda fed: dict(zip(found.output_names, found.run(None, fed), strict=True))


def whole(found: dict[str, Any], output: str = "") -> Any:
    """The integers that came out, or those of their digits."""
    called = f"output.{output}" if output else "output"
    digits = [part for name, part in found.items() if name.rpartition(".")[0] == called]
    return found[called] if called in found else sum(part.astype(np.int64) << 11 * i for i, part in enumerate(digits))


def check(program: Program, x: Any, form: str, path: Path, make: Callable[[Path], Run] = in_onnxruntime) -> None:
    """Export, run, compare every integer; a step is fed two windows."""
    export(program, "onnx", path, form=form)
    run, levels = make(path), program.sequence(x)
    given, many = program.spec.input, any(made.rates for made in program.operations)
    if form != "step":
        found = run({"input": np.ascontiguousarray(levels[0] if given.repeat else levels)})
        for name, result in program.run(x).items():
            assert np.array_equal(whole(found, name), result.levels), name
        return
    inputs = onnx.load(path).graph.input
    states = {
        value.name: np.zeros(
            [side.dim_value or levels.shape[1] for side in value.type.tensor_type.shape.dim], np.float32
        )
        for value in inputs
        if value.name != "input"
    }
    steps = np.concatenate([levels, levels[::-1]])
    size, state = given.value.steps if many else 1, None
    for start in range(0, len(steps), size):
        chunk = np.ascontiguousarray(steps[start : start + size])
        found = run({"input": chunk if many else chunk[0], **states})
        expected, state = program.feed(chunk, state)
        for name, result in expected.items():
            got = whole(found, name)
            assert np.array_equal(got if result.mean or many else got[None], result.levels), name
        states = {name: found[f"{name}.next"] for name in states}


def can(program: Program, form: str) -> bool:
    return form != "scan" or not any(made.rates for made in program.operations)


@pytest.mark.parametrize("form", FORMS)
def test_drawn_programs(form: str, tmp_path: Path) -> None:
    known = [program for seed in range(32) if can(program := drawn(seed, echoes=False), form)]
    assert len(known) >= 6
    for seed, program in enumerate(known):
        check(program, input_of(program, seed, batch=1 + seed % 3), form, tmp_path / "m.onnx")


@pytest.mark.parametrize("form", FORMS)
def test_several_outputs(form: str, tmp_path: Path) -> None:
    """Each under its own name, with its own digits, divisor and classes."""
    known = [program for seed in range(14) if can(program := drawn(seed, echoes=False, several=True), form)]
    assert max(len(program.outputs) for program in known) > 2
    for seed, program in enumerate(known):
        check(program, input_of(program, seed, batch=1 + seed % 3), form, tmp_path / "m.onnx")
        told = json.loads(metadata(tmp_path / "m.onnx", "outputs"))
        assert {name: tuple(facts["classes"]) for name, facts in told.items()} == {
            name: each.classes for name, each in program.spec.sent.items()
        }
        means = {name: form == "step" or result.steps for name, result in program.run(input_of(program, 0)).items()}
        divided = {name: form == "step" or facts["divide_by"] for name, facts in told.items() if "divide_by" in facts}
        assert divided.items() <= means.items()


def test_digits_do_not_take_the_name_of_another_output(tmp_path: Path) -> None:
    b = Builder(Input(Value((2,), -1, 1)))
    program = b.finish({"a": b.add("mean", [INPUT]), "a.0": b.add("add", [INPUT, INPUT])})
    with pytest.raises(ValueError, match=r"output a\.0: the digits of output a would have its name; rename a key"):
        export(program, "onnx", tmp_path / "m.onnx")


def test_drawn_programs_in_the_reference_evaluator(tmp_path: Path) -> None:
    for seed in range(6):
        program = drawn(seed, echoes=False)
        for form in FORMS:
            if can(program, form):
                check(program, input_of(program, seed, batch=2), form, tmp_path / "m.onnx", in_reference)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_numbers_at_the_ends_of_their_widths(family: Any, tmp_path: Path) -> None:
    pairs = [pair for case in FAMILIES[family] for pair in family(*case)]
    for i, (program, x) in enumerate(pairs[:: max(1, len(pairs) // 12)]):
        check(program, x, FORMS[i % 3], tmp_path / "m.onnx")


def test_the_golden_program(tmp_path: Path) -> None:
    for form in ("unrolled", "step"):
        check(golden(), images(), form, tmp_path / "m.onnx")


def test_one_file_serves_every_batch(tmp_path: Path) -> None:
    program = golden()
    export(program, "onnx", tmp_path / "m.onnx")
    run, x = in_onnxruntime(tmp_path / "m.onnx"), program.sequence(images())
    x = x[0] if program.spec.input.repeat else x.swapaxes(0, 1)
    for size in (1, 2, 5):
        part = np.resize(x, (size, *x.shape[1:]))
        fed = part if program.spec.input.repeat else np.ascontiguousarray(part.swapaxes(0, 1))
        assert np.array_equal(whole(run({"input": fed})), program(fed).levels)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for form in FORMS:
        seed = next(seed for seed in range(32) if can(drawn(seed, echoes=False), form))
        for name in ("a", "b"):
            export(drawn(seed, echoes=False), "onnx", tmp_path / f"{name}.onnx", form=form)
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("shift", [0, 1, 11, 22, 31, 45, 62])
def test_every_product_of_a_rescale_rounds_half_up(shift: int, tmp_path: Path) -> None:
    """Ties, both signs, factors of both signs and 0, and numbers whose product needs all the bits there are."""
    top = min(2**31 - 1, 2 ** (63 - 31) - 1)
    factors = np.array([2**30, -(2**30), 1, 0, -1, 3, 2**11, 2**22 - 1])
    x = np.array([0, 1, -1, 2**11, 2**22, -(2**22) - 1, top, -top, 2**30, 12345678])
    program = one(
        "rescale",
        Value((8,), -top, top, 0, 1),
        {"shift": shift, "exponent": 0},
        multiplier=factors,
        bias=np.arange(8) - 4,
    )
    check(program, np.repeat(x[None, :, None], 8, 2), "unrolled", tmp_path / "m.onnx")


def test_membranes_saturate_and_constants_change_with_steps(tmp_path: Path) -> None:
    end = 2**31 - 1
    tensors = {"first": np.array([[5], [end], [2**24 + 1]]), "charge": np.array([[2**31 - 1], [7], [2**24]])}
    attributes = {"count": [1], "signed": True, "reset": "soft", "decay": [2**30 - 1, 30]}
    program = one("fire", Value((1,), -end, end, 0, 5), attributes, ("s", "u"), **tensors)
    x = np.array([[end, -end, 5, 4, -5], [end, -end, 2, 1, 0], [0, 0, end, 2**24 + 1, 2**24], [1] * 5, [-end] * 5])
    for form in FORMS:
        check(program, x[:, :, None], form, tmp_path / "m.onnx")


def test_sums_beyond_24_bits_are_cut(tmp_path: Path) -> None:
    """One output reaches 2^24 + 1, which float32 does not have."""
    weight = np.full((2, 129, 1, 1), 127)
    weight[1, 0] = 126
    program = one(
        "convolution",
        Value((129, 1, 1), 0, 2**10 + 1),
        {"stride": [1, 1], "before": [0, 0], "after": [0, 0], "dilation": [1, 1]},
        weight=weight,
    )
    assert program.operations[0].written[0].high > 2**24
    x = np.full((1, 2, 129, 1, 1), 2**10 + 1)
    x[0, 1, 5] = 0
    check(program, x, "unrolled", tmp_path / "m.onnx")


def test_numbers_beyond_32_bits_come_in_digits_or_as_int64(tmp_path: Path) -> None:
    """OpenVINO computes int64 in 32 bits: nothing of that type is in a graph unless it is asked for."""
    top = 2**31 - 1
    b = Builder(Input(Value((1,), -top, top, 0, 3)))
    program = b.finish(b.add("mean", [INPUT]))
    for levels in (np.full((3, 1, 1), top), np.full((3, 1, 1), -top)):
        for form in FORMS:
            check(program, levels, form, tmp_path / "m.onnx")
            found = export(program, "onnx", tmp_path / "n.onnx", form=form, int64=True)
            assert any("OpenVINO" in note and "64 bits" in note for note in found.notes)
            if form != "step":
                run = in_onnxruntime(tmp_path / "n.onnx")({"input": levels.astype(np.int32)})
                assert list(run) == ["output"] and run["output"].tolist() == [[3 * int(levels[0, 0, 0])]]


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    b = Builder(Input(Value((1,), 0, 1, 0, 2)))
    program = b.finish(b.add("windows", [INPUT], {"frames": 2, "steps": 1}, name="squeeze"))
    with pytest.raises(ValueError, match=r"squeeze changes the number of steps, .*form=unrolled"):
        export(program, "onnx", tmp_path / "m.onnx", form="scan")
    with pytest.raises(ValueError, match="choose one of unrolled, scan, step"):
        export(program, "onnx", tmp_path / "m.onnx", form="loop")
    assert not list(tmp_path.iterdir())


def test_notes_say_what_a_user_has_to_know(tmp_path: Path) -> None:
    found = export(golden(), "onnx", tmp_path / "m.onnx", form="step")
    text = " ".join(found.notes)
    assert "INFERENCE_PRECISION_HINT" in text and "not counted" in text and "zeros at the start" in text
    assert found.facts is not None and found.facts["states"] > 0
    kinds = {node.op_type for node in onnx.load(found.files[0]).graph.node}
    assert not kinds & {"MatMulInteger", "ConvInteger", "QuantizeLinear", "DequantizeLinear", "Mod", "Div", "Clip"}
