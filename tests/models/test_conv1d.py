"""Convolutions along a row: shapes, counts by hand, folding, streams, programs everywhere; recurrent hidden layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.export import export
from bitspike.fold import Folded
from bitspike.graph import trace
from bitspike.layers import Conv2d, Linear, Recurrent, Synapse
from bitspike.lower import compare
from bitspike.models import Policy, conv1d, inert_parameters, mlp, restimulate
from bitspike.neurons import LIF, Adaptive, MultiBit, Ternary
from bitspike.quantizers import Float, Sign, Uniform
from bitspike.runtime import Program
from builders import count, expect_fold
from export_c import compare as compare_c
from export_c import missing
from exported.modules import job, needs_node, node, said
from networks import liven, rng

ROWS: dict[str, dict[str, Any]] = {
    "one row": {"shape": (1, 1, 37)},
    "features": {"shape": (23,), "stride": 3, "depth": 2},
    "polarities": {"shape": (2, 1, 20), "kernel": 3, "stride": 3, "depth": 2},
    "spectra": {"shape": (1, 4, 16), "kernel": 7, "depth": 2},
    "a high strip": {"shape": (1, 5, 9), "kernel": 1, "stride": 1, "depth": 2},
    "as narrow as can be": {"shape": (3, 2, 1), "depth": 2},
}
NEURONS = {
    "binary": lambda: LIF(decay=0.5, threshold=0.5),
    "ternary": lambda: Ternary(amplitude=0.75),
    "multi-bit": lambda: MultiBit(1, 1, train_amplitude="channel"),
}


def row(kind: str, neuron: nn.Module, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return conv1d(neuron, **{"T": 3, "width": 4, "classes": 5, "encoder": "frames", **ROWS[kind], **options})


def frames(kind: str, count: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 3, *ROWS[kind]["shape"], generator=rng(0), dtype=dtype)


def flips_allowed(found: Any, share: int) -> int:
    return sum(layer.spikes for layer in found.layers.values()) // share  # type: ignore[no-any-return]


def folded(kind: str, neuron: nn.Module, weight: Any = None) -> tuple[Folded, Tensor]:
    x = frames(kind, 16, torch.float32)
    return bitspike.fold(liven(row(kind, neuron, weight=weight), x), x), x


def test_the_first_convolution_spans_the_height_and_the_rest_the_row() -> None:
    net = row("spectra", LIF())
    convs = [m for m in net.modules() if isinstance(m, Conv2d)]
    assert [tuple(m.weight.shape) for m in convs] == [(4, 1, 4, 7), (4, 4, 1, 7)]
    assert [(m.strides(), m.paddings()) for m in convs] == [((1, 2), (0, 3))] * 2
    assert [m.role for m in net.modules() if isinstance(m, Synapse)] == ["first", "hidden", "last"]
    assert "kernel=(4, 7), stride=(1, 2), padding=(0, 3)" in repr(convs[0])


@pytest.mark.parametrize("kind", ROWS)
def test_counts_by_hand(kind: str) -> None:
    given = {"depth": 3, "kernel": 5, "stride": 2, **ROWS[kind]}
    inputs, height, side = (1, 1, *given["shape"])[-3:]
    rows = []
    for _ in range(given["depth"]):
        weights = 8 * inputs * height * given["kernel"]
        side = -(-side // given["stride"])
        rows.append((weights, weights * side))
        inputs, height = 8, 1
    rows.append((8 * side * 10, 8 * side * 10))
    options = {name: value for name, value in given.items() if name != "shape"}
    found = count("conv1d", given["shape"], width=8, classes=10, **options)
    assert [(weights, macs) for _, weights, macs, _ in found.rows] == rows
    assert found.parameters == sum(weights for weights, _ in rows) + 2 * 8 * given["depth"] + 10


@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize("kind", ROWS)
def test_shapes_gradients_and_streams(kind: str, wiring: str) -> None:
    x = frames(kind)
    net = row(kind, MultiBit(1, 1), wiring=wiring, readout="steps").double()
    logits = net(x)
    assert logits.shape == (3, 8, 5)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net = liven(row(kind, MultiBit(1, 1), wiring=wiring), x)
    with torch.no_grad():
        _, states = bitspike.stream(net, x.transpose(0, 1)[:1])
        got, _ = bitspike.stream(net, x.transpose(0, 1)[1:], states)
        torch.testing.assert_close(got, net(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weight", [None, Sign("input"), Uniform(4)], ids=["float", "sign", "4 bit"])
@pytest.mark.parametrize("wiring", ["spike", "input"])
def test_folding_flips_nothing(wiring: str, weight: Any) -> None:
    for kind in ("features", "spectra"):
        expect_fold(
            row(kind, MultiBit(1, 1, train_amplitude="channel"), weight=weight, wiring=wiring), frames(kind, 32)
        )


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("kind", ROWS)
def test_programs_are_the_folded_network_and_all_engines_one_program(kind: str, neuron: str) -> None:
    network, x = folded(kind, NEURONS[neuron](), Uniform(4))
    program = bitspike.compile(network, x, weight_bits=16, input_bits=16)
    found = compare(program, network, [x])
    assert (
        sum(layer.end_to_end for layer in found.layers.values()) <= flips_allowed(found, 500) and found.agreement == 1
    )
    steps = x.transpose(0, 1).contiguous().numpy()
    slow = Program(program.spec, "interpreter")
    assert np.array_equal(program(steps).levels, slow(steps).levels)
    state = None
    for step in slow.sequence(steps):
        result, state = program.stream(step[None], state)
    assert np.array_equal(result.levels, slow(steps).levels)


@pytest.mark.skipif(bool(missing("gcc")), reason="not run: there is no gcc here")
@pytest.mark.parametrize("kind", ["one row", "features", "polarities", "spectra"])
def test_programs_in_c(kind: str, tmp_path: Path) -> None:
    network, x = folded(kind, MultiBit(1, 1), Uniform(4))
    program = bitspike.compile(network, x)
    compare_c(program, program.sequence(x[:2].transpose(0, 1).contiguous().numpy()), tmp_path)


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["polarities", "spectra"])
def test_programs_in_webassembly(kind: str, tmp_path: Path) -> None:
    network, x = folded(kind, MultiBit(1, 1), Uniform(4))
    program = Program(bitspike.compile(network, x).spec, "interpreter")
    levels = program.sequence(x[:2].transpose(0, 1).contiguous().numpy())
    (found,) = node([job(program, tmp_path, [levels[:, k] for k in range(2)])], tmp_path)
    assert found["whole"] == [said(program(levels[:, k : k + 1]), True) for k in range(2)]


@pytest.mark.parametrize("form", ["unrolled", "scan"])
@pytest.mark.parametrize("target", ["onnx", "onnx-float"])
def test_programs_in_onnx_runtime(target: str, form: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="not run: onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")
    network, x = folded("spectra", MultiBit(1, 1), Uniform(4))
    path = tmp_path / "net.onnx"
    if target == "onnx":
        program = bitspike.compile(network, x)
        export(program, target, path, form=form)
        steps = program.sequence(x.transpose(0, 1).contiguous().numpy())
        digits = runtime.InferenceSession(path).run(None, {"input": np.ascontiguousarray(steps)})
        got = sum(part.astype(np.int64) << 11 * i for i, part in enumerate(digits))
        assert np.array_equal(got, program(steps).levels)
        return
    made = export(network, target, path, form=form, shape="3,1,4,16")
    session = runtime.InferenceSession(made.files[0])
    sides = {value.name: value.shape for value in session.get_inputs()}
    states = np.load(made.files[1]) if form == "scan" else {}
    fed = {k: np.repeat(v, len(x), 0) if sides[k][0] == "batch" else v for k, v in states.items()}
    given = x.transpose(0, 1) if form == "scan" else x
    (got,) = session.run(["output"], {"input": given.contiguous().numpy(), **fed})
    np.testing.assert_allclose(got.reshape(len(x), -1), network(x).detach().numpy(), atol=1e-4)


def test_convolutions_that_are_not_square_in_nir(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="not run: the package nir is not installed")
    from bitspike.export import read_nir

    x = frames("spectra", 16, torch.float32)
    net, sent = liven(row("spectra", LIF(decay=0.5, threshold=0.5)), x), x.transpose(0, 1)
    network = bitspike.fold(nn.Sequential(net.body, net.readout), sent)
    export(network, "nir", tmp_path / "net.nir", shape="1,4,16")
    with torch.no_grad():
        torch.testing.assert_close(read_nir(tmp_path / "net.nir")(sent), network(sent))


def test_int8_takes_convolutions_that_are_not_square() -> None:
    net = row("spectra", MultiBit(1, 1), weight=Uniform(4), policy=Policy(first=Float()))
    x = frames("spectra", dtype=torch.float32)
    liven(net, x).to(memory_format=torch.channels_last)
    plain = net(x)
    with bitspike.int8() as record:
        torch.testing.assert_close(net(x), plain, rtol=1e-4, atol=1e-4)
    assert record is not None


def test_a_convolution_of_two_sides_is_that_of_torch() -> None:
    ours = Conv2d(3, 4, (2, 5), stride=(3, 2), padding=(1, 0), bias=True).double()
    other = nn.Conv2d(3, 4, (2, 5), stride=(3, 2), padding=(1, 0)).double()
    with torch.no_grad():
        other.weight.copy_(ours.weight)
        other.bias.copy_(ours.bias)  # type: ignore[union-attr, arg-type]
    x = torch.randn(2, 3, 3, 7, 11, dtype=torch.float64, generator=rng(0))
    torch.testing.assert_close(ours(x).flatten(0, 1), other(x.flatten(0, 1)))
    assert float(ours.weight.detach().std()) == pytest.approx((2 / (10 * 4)) ** 0.5, rel=0.2)
    square = Conv2d(1, 2, (3, 3), (2, 2), (1, 1))
    assert (square.stride, square.padding, square.strides()) == (2, 1, (2, 2))


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"kernel": 4}, ValueError, "conv1d: kernel must be odd, got 4; pass 5"),
        ({"kernel": 131}, ValueError, "conv1d: kernel must lie in"),
        ({"depth": 0}, ValueError, "conv1d: depth must lie in"),
        ({"stride": 0}, ValueError, "conv1d: stride must lie in"),
        ({"stride": (1, 2)}, TypeError, "conv1d: stride must be an int"),
        ({"shape": (7, 100)}, ValueError, r"conv1d: the image must be \(C, H, W\)"),
        ({"wiring": "both"}, ValueError, "wiring must be one of"),
    ],
)
def test_refusals(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        row("one row", LIF(), **given)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((1, 1, (1, 2, 3)), ValueError, r"kernel must be one number or \(height, width\), got \(1, 2, 3\)"),
        ((1, 1, (1, 0)), ValueError, "kernel of width must lie in"),
        ((1, 1, 3, (1, 65)), ValueError, "stride of width must lie in"),
        ((1, 1, 3, 1, (-1, 0)), ValueError, "padding of height must lie in"),
        ((1, 1, 3, 1, "same"), TypeError, "padding must be an int"),
    ],
)
def test_bad_sides(arguments: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"Conv2d: {words}"):
        Conv2d(*arguments)


def test_only_the_amplitude_in_front_of_the_classifier_acts() -> None:
    with pytest.warns(UserWarning, match="inert"):
        net = row("spectra", MultiBit(train_amplitude="layer"))
    every = {name for name, _ in net.named_parameters() if "amplitude" in name}
    assert every - set(inert_parameters(net)) == {"body.conv2.neuron.emission.raw_amplitude"}


def test_strides_that_differ_are_no_way_for_a_stimulus() -> None:
    with pytest.raises(ValueError, match="a convolution whose strides differ"):
        restimulate(row("spectra", LIF()), "body.conv2.neuron")


def test_a_loop_through_a_convolution_along_the_row() -> None:
    loop = Recurrent(LIF(), Conv2d(3, 3, (1, 5), padding=(0, 2)))
    assert loop(torch.randn(4, 2, 3, 1, 9, generator=rng(0))).shape == (4, 2, 3, 1, 9)
    for wrong in (Conv2d(3, 3, (3, 5), padding=(0, 2)), Conv2d(3, 3, (1, 3), (1, 2), (0, 1)), Conv2d(3, 3, (2, 1))):
        with pytest.raises(ValueError, match="keep the size"):
            Recurrent(LIF(), wrong)


def heard(neuron: nn.Module, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    given = {"T": 5, "shape": (6,), "hidden": (8, 7), "classes": 3, "encoder": "frames", "recurrent": True}
    return mlp(neuron, **{**given, **options})


def test_recurrent_hidden_layers_hear_themselves() -> None:
    net = heard(LIF(), weight=Sign("input"))
    loops = [m for m in net.modules() if isinstance(m, Recurrent)]
    assert [tuple(m.synapse.weight.shape) for m in loops] == [(8, 8), (7, 7)]
    assert [m.synapse.quantizer.format.label() for m in loops] == ["±1·α"] * 2 and net.body[1].weight.shape == (8, 6)
    assert len([node for node in trace(net) if node.kind == "neuron"]) == 2
    plain = heard(LIF(), recurrent=False)
    assert not [m for m in plain.modules() if isinstance(m, Recurrent)]


@pytest.mark.parametrize("neuron", NEURONS)
def test_recurrent_layers_stream_fold_and_compile(neuron: str) -> None:
    x = torch.randn(32, 5, 6, generator=rng(0), dtype=torch.float64)
    net = liven(heard(NEURONS[neuron](), weight=Uniform(4)), x)
    with torch.no_grad():
        _, states = bitspike.stream(net, x.transpose(0, 1)[:2])
        got, _ = bitspike.stream(net, x.transpose(0, 1)[2:], states)
        torch.testing.assert_close(got, net(x), rtol=1e-10, atol=1e-10)
        silent = heard(NEURONS[neuron](), weight=Uniform(4), recurrent=False)
    assert silent(x.float()).shape == (32, 3)
    network = bitspike.fold(net.float(), x.float())
    program = bitspike.compile(network, x.float(), weight_bits=16, input_bits=16)
    found = compare(program, network, [x.float()])
    assert sum(layer.end_to_end for layer in found.layers.values()) <= flips_allowed(found, 200)
    assert sum(op.kind == "echo" for op in program.spec.operations) == 2


@pytest.mark.parametrize(
    ("neuron", "given", "kind", "words"),
    [
        (nn.ReLU(), {}, TypeError, "mlp: neurons of recurrent layers must be plain Neurons, got ReLU"),
        (Adaptive(), {}, ValueError, "bits and step sizes must be fixed"),
        (Recurrent(LIF(), Linear(8, 8)), {}, TypeError, "plain Neuron"),
        (LIF(), {"recurrent": "yes"}, ValueError, "mlp: recurrent must be one of"),
    ],
)
def test_what_cannot_hear_itself(neuron: nn.Module, given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        heard(neuron, **{"hidden": (8,), **given})
