"""Programs of one step as QONNX: every line is proved; the `qonnx` package gives the program's integers (slow)."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bitspike
from bitspike.export import export
from bitspike.export.qonnx.staircase import Above, Line, Summand, line
from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value
from bitspike.runtime.arithmetic import scaled
from exchange import ran
from networks import NETS, SPIKING, WEIGHTS, liven, make_neuron, samples
from programs.machines import one
from programs.residual import resnet

onnx = pytest.importorskip("onnx", reason="not run: onnx is not installed")
BATCH = 4


def compiled(net: str, neuron: str, weight: str, steps: int = 1) -> tuple[Program, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = NETS[net](make_neuron(neuron), WEIGHTS[weight](), T=steps)
        x = samples(12)
        liven(model, x)
        return bitspike.compile(bitspike.fold(model, x), x), x.numpy()


def summands(data: Any, count: int, wide: int) -> list[Summand]:
    def made(i: int) -> Summand:
        end = wide if i == 0 else 3
        low, high = sorted((data.draw(st.integers(-end, end)), data.draw(st.integers(-end, end))))
        factor = np.array(data.draw(st.lists(st.integers(-(2**24), 2**24), min_size=2, max_size=2)))
        bias = np.array(data.draw(st.lists(st.integers(-(2**20), 2**20), min_size=2, max_size=2)))
        return Summand(f"x{i}", low, high, factor, data.draw(st.integers(0, 20)), bias)

    return [made(i) for i in range(count)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_line_that_is_found_equals_the_staircase_at_every_integer(data: Any) -> None:
    parts = summands(data, data.draw(st.integers(1, 2)), 300)
    count, first = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 2**20))
    steps = first + np.arange(count)[:, None] * data.draw(st.integers(1, 2**20))
    found = line(parts, steps, 0)
    if isinstance(found, str):
        return
    grids = np.meshgrid(*(np.arange(x.low, x.high + 1) for x in parts), indexing="ij")
    u = sum(x.at(grid.reshape(-1, 1)) for grid, x in zip(grids, parts, strict=True))
    expected = sum((u >= step).astype(int) for step in steps)
    y: Any = None
    for grid, slope in zip(grids, found.slopes, strict=True):
        part = grid.reshape(-1, 1).astype(np.float32) * slope
        y = part if y is None else y + part
    assert np.array_equal(np.clip(np.floor(y + found.offset), 0, count), expected)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_step_of_one_sum_always_has_a_line(data: Any) -> None:
    parts = summands(data, 1, 2**20)
    found = line(parts, np.array([[data.draw(st.integers(-(2**31), 2**31))]]), 0)
    assert isinstance(found, Line)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**40), 2**40), st.integers(0, 2**30), st.integers(0, 40), st.integers(-(2**31), 2**31), st.data())
def test_steps_are_seen_through_a_rescale(u: int, m: int, shift: int, step: int, data: Any) -> None:
    low = data.draw(st.integers(-(2**31), 2**31))
    high = data.draw(st.integers(low, 2**31))
    one_ = np.array([m]), np.array([data.draw(st.integers(-99, 99))])
    if abs(u) * max(m, 1) >= 2**62:
        return
    v = np.clip(scaled(np.array([u]), one_[0], shift) + one_[1], low, high)
    below = Above(one_[0], shift, one_[1], low, high).below(np.array([[step]]))
    assert (v[0] >= step) == (u >= below[0, 0])


def test_bits_are_those_of_weights_and_spikes(tmp_path: Path) -> None:
    for weight, neuron, kinds in (
        ("sign-layer", "lif", {"BipolarQuant", "Quant 1 0"}),
        ("ternary-output", "ternary", {"Quant 2 1"}),
        ("uniform4-layer", "multibit", {"Quant 4 1", "Quant 2 0"}),
    ):
        program, _ = compiled("pool_net", neuron, weight)
        found = export(program, "qonnx", tmp_path / "m.onnx")
        graph = onnx.load(found.files[0]).graph
        held = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        names = set()
        for node in graph.node:
            if node.op_type in ("Quant", "BipolarQuant"):
                signed = next((a.i for a in node.attribute if a.name == "signed"), 0)
                names.add(f"Quant {int(held[node.input[3]])} {signed}" if node.op_type == "Quant" else node.op_type)
        assert kinds <= names, (weight, names)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    program, _ = compiled("pool_net", "ternary", "float")
    for name in ("a", "b"):
        export(program, "qonnx", tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="4 steps: QONNX has no time; train or convert with T = 1"):
        export(resnet(steps=4), "qonnx", path)
    lookup = one("lookup", Value((2,), 0, 3), {"first": 0, "exponent": 0}, table=np.arange(4))
    with pytest.raises(ValueError, match=r"lookup\d*: QONNX has no such operation; take --to onnx"):
        export(lookup, "qonnx", path)
    wide = one("linear", Value((2,), 0, 2**20), weight=np.array([[127, 127]]))
    with pytest.raises(ValueError, match=r"266,338,304, and float32 is exact to 2\^24"):
        export(wide, "qonnx", path)
    membrane = one("fire", Value((2,), -9, 9), {"count": [1], "reset": "hard"}, ("s", "u"), first=np.array([3]))
    with pytest.raises(ValueError, match="the membrane that comes out has no place"):
        export(membrane, "qonnx", path)
    floor = {"first": np.array([3]), "floor": np.array([4])}
    with pytest.raises(ValueError, match="its floor changes what it sends"):
        export(one("fire", Value((2,), -9, 9), {"count": [1], "reset": "hard"}, **floor), "qonnx", path)
    assert not path.exists()


def fires() -> list[tuple[str, Program, Any]]:
    """Neurons on integers, with everything that moves a step; inputs are all integers there are."""
    first, found = np.array([7]), []
    for name, attributes, tensors in (
        ("initial", {"count": [1], "decay": [3, 2]}, {"first": first, "initial": np.array([-6])}),
        ("gate", {"count": [5]}, {"first": first, "spacing": np.array([3]), "gate": np.array([12])}),
        ("signed", {"count": [2], "signed": True, "up": 3, "down": 2}, {"first": first, "spacing": np.array([9])}),
        ("far", {"count": [7], "signed": True}, {"first": np.array([1]), "spacing": np.array([40])}),
        ("cancel", {"count": [3], "signed": True, "cancel": True}, {"first": first, "spacing": np.array([14])}),
        ("channels", {"count": [3]}, {"first": np.array([7, -8 + 10]), "spacing": np.array([5, 9])}),
    ):
        program = one("fire", Value((2,), -60, 60), {"reset": "hard", **attributes}, **tensors)
        x = np.repeat(np.arange(-60, 60)[None, :, None], 2, 2)
        found.append((f"fire-{name}", program, x))
    return found


def write(folder: Path, name: str, program: Program, x: Any) -> str:
    """Export one with what it should give; what was refused, or nothing."""
    try:
        export(program, "qonnx", folder / f"{name}.onnx", batch=BATCH)
    except ValueError as error:
        return str(error)
    result = program(x)
    levels = result.levels if any(made.final for made in program.operations) else result.levels[0]
    np.savez(folder / f"{name}.npz", x=program.sequence(x)[0], y=levels)
    return ""


@pytest.mark.slow
def test_the_qonnx_package_gives_the_integers_of_the_program(tmp_path: Path) -> None:
    names, refused = [], {}
    weights = ("float", "sign-layer", "ternary-output", "uniform4-layer", "power4-layer")
    for i, neuron in enumerate(SPIKING):
        for net, weight in [*(("pool_net", w) for w in weights[i % 2 :: 2]), ("study_cnn", "ternary-output")]:
            name = f"{net}-{neuron}-{weight}"
            why = write(tmp_path, name, *compiled(net, neuron, weight))
            names += [] if why else [name]
            refused |= {name: why} if why else {}
    for name, program, x in fires():
        assert not write(tmp_path, name, program, x)
        names.append(name)
    found = ran("qonnx_run.py", str(tmp_path))
    assert found.keys() == set(names) and len(names) >= 22
    assert not {name: row for name, row in found.items() if row[0]}
    assert all("take --to onnx" in why for why in refused.values())


def test_what_is_left_to_the_caller_is_in_the_file(tmp_path: Path) -> None:
    """Class logits of ternary weights are rescaled a channel: the sums come out, and the rescaling as numbers."""
    program, _ = compiled("pool_net", "ternary", "ternary-output")
    found = export(program, "qonnx", tmp_path / "m.onnx")
    entries = {entry.key: json.loads(entry.value) for entry in onnx.load(found.files[0]).metadata_props}
    assert [set(row) for row in entries["bitspike.then"]] == [{"multiplier", "shift", "bias", "low", "high"}]
    assert any("bitspike.then" in note for note in found.notes)


def perceptron() -> tuple[Program, Any]:
    """Ternary weights, spikes of two bits, weights of four; and inputs of four bits."""
    r = np.random.default_rng(0)
    b = Builder(Input(Value((16,), -8, 7)))
    weight = {"weight": b.constant(r.integers(-1, 2, (12, 16)), Grid(-1, 1)), "bias": b.constant(r.integers(-5, 6, 12))}
    x = b.add("linear", [INPUT], {"exponent": None}, weight)
    scale = {"multiplier": b.constant(r.integers(2**26, 2**28, 12))}
    x = b.add("rescale", [x], {"shift": 20, "exponent": 12}, scale)
    stairs = {"first": b.constant(np.array([512])), "spacing": b.constant(np.array([1024]))}
    x = b.add("fire", [x], {"count": [3], "reset": "hard"}, stairs)
    x = b.add("linear", [x], tensors={"weight": b.constant(r.integers(-7, 8, (4, 12)), Grid(-7, 7))})
    return b.finish(b.add("mean", [x])), r.integers(-8, 8, (1, 200, 16))


@pytest.mark.slow
def test_the_c_simulation_of_hls4ml_gives_the_integers_of_the_program(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("not run: hls4ml simulates with g++, which is not installed")
    assert not write(tmp_path, "perceptron", *perceptron())
    assert ran("hls4ml_run.py", str(tmp_path)) == {"perceptron": (0, 800)}
