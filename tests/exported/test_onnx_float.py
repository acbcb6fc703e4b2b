"""Folded networks as ONNX in float32: the network's logits, flips counted, on real digits too."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bitspike
from bitspike.export import export
from bitspike.export.onnx_float import FORMS, freed
from bitspike.layers import AvgPool2d, Linear, MeanReadout, Repeat
from bitspike.neurons import LIF
from bitspike.upgrade.layers import Convolution, Merged
from networks import NETS, SPIKING, WEIGHTS, liven, make_neuron, samples

onnx = pytest.importorskip("onnx", reason="not run: onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")
SHAPE = "2,8,8"


def folded(net: str, neuron: str, weight: str, steps: int) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = samples(32)
        model = liven(NETS[net](make_neuron(neuron), WEIGHTS[weight](), T=steps), x).float()
        return bitspike.fold(model, x.float()), x.float()


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def stepped(network: Any, x: Any, path: Path, steps: int) -> Any:
    """Mean of the logits of all steps of the step form."""
    files = export(network, "onnx-float", path, form="step", shape=SHAPE).files
    run = session(files[0])
    states = {name: np.repeat(start, len(x), 0) for name, start in np.load(files[1]).items()}
    names, total = [output.name for output in run.get_outputs()], 0.0
    for _ in range(steps):
        found = dict(zip(names, run.run(names, {"input": x, **states}), strict=True))
        total, states = total + found["output"], {name: found[f"{name}.next"] for name in states}
    return total / steps


def scanned(network: Any, x: Any, path: Path, shape: str = SHAPE) -> Any:
    """What the form `scan` returns for samples, from the states at the start."""
    files = export(network, "onnx-float", path, form="scan", shape=shape).files
    run = session(files[0])
    sides = {value.name: value.shape for value in run.get_inputs()}
    states = {k: np.repeat(v, len(x), 0) if sides[k][0] == "batch" else v for k, v in np.load(files[1]).items()}
    return run.run(["output"], {"input": x, **states})[0]


@pytest.mark.parametrize(
    "neuron", [name if name == "multibit" else pytest.param(name, marks=pytest.mark.slow) for name in SPIKING]
)
def test_logits_are_those_of_the_network(neuron: str, tmp_path: Path) -> None:
    """A sample with a flipped spike differs by a weight; no more than one of 32 has one."""
    for net, weight, steps in (("study_cnn", "float", 3), ("pool_net", "ternary-input", 1)):
        network, x = folded(net, neuron, weight, steps)
        with torch.no_grad():
            expected = network(x).numpy()
        export(network, "onnx-float", tmp_path / "m.onnx", shape=SHAPE)
        found = session(tmp_path / "m.onnx").run(None, {"input": x.numpy()})[0]
        looped = scanned(network, x.numpy(), tmp_path / "l.onnx")
        for got in (found, looped, stepped(network, x.numpy(), tmp_path / "s.onnx", steps)):
            far = np.abs(got - expected).max(1) > 1e-4 * max(1.0, np.abs(expected).max())
            assert far.sum() <= 1, (net, weight)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    network, _ = folded("pool_net", "ternary", "float", 2)
    for form in ("scan", "step"):
        for name in ("a", "b"):
            export(network, "onnx-float", tmp_path / f"{name}.onnx", form=form, shape=SHAPE)
        for end in (".onnx", ".start.npz"):
            assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_the_network_stays_in_evaluation_mode(tmp_path: Path) -> None:
    """torch's exporter gives modules back in the mode of the outermost one, dropout included."""
    network, _ = folded("pool_net", "lif", "float", 2)
    for form in FORMS:
        export(network, "onnx-float", tmp_path / "m.onnx", form=form, shape=SHAPE)
        assert not any(module.training for module in network.modules())


def test_pools_of_sums_are_sums(tmp_path: Path) -> None:
    """torch's exporter writes the mean where an average has a divisor of its own, and says nothing."""
    model = nn.Sequential(
        Repeat(2), LIF(decay=1.0), AvgPool2d(2, ceil=True), bitspike.layers.Flatten(), Linear(8, 3), MeanReadout()
    )
    x = torch.rand(16, 2, 3, 3) * 2
    network = bitspike.fold(model, x)
    assert any(getattr(node.module, "divisor", 0) for node in network.graph)
    export(network, "onnx-float", tmp_path / "m.onnx", shape="2,3,3")
    with torch.no_grad():
        expected = network(x).numpy()
    found = session(tmp_path / "m.onnx").run(None, {"input": x.numpy()})[0]
    for got in (found, scanned(network, x.numpy(), tmp_path / "l.onnx", "2,3,3")):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_divisor_that_the_exporter_forgets_is_refused(tmp_path: Path) -> None:
    """Where the drawn samples of the check let no neuron fire, nothing else would notice."""
    pool = Merged(nn.AvgPool2d(2, divisor_override=8), "pool", scaling="linear")
    model = nn.Sequential(Repeat(2), LIF(threshold=99.0), pool, bitspike.layers.Flatten(), Linear(8, 3), MeanReadout())
    network = bitspike.fold(model.eval(), torch.rand(16, 2, 4, 4) * 200)
    for form in FORMS:
        with pytest.raises(ValueError, match="averages by a divisor of its own"):
            export(network, "onnx-float", tmp_path / "m.onnx", form=form, shape="2,4,4")


def test_a_padding_that_keeps_the_size_is_written_as_numbers(tmp_path: Path) -> None:
    """ONNX Runtime takes no automatic padding beside a dilation."""
    for kernel, dilation in ((3, 2), (4, 1), (2, 3)):
        first = Convolution(nn.Conv2d(2, 4, kernel, padding="same", dilation=dilation))
        model = nn.Sequential(Repeat(2), first, LIF(), bitspike.layers.Flatten(), Linear(252, 3), MeanReadout())
        x = torch.rand(16, 2, 7, 9) * 4
        network = bitspike.fold(model.eval(), x)
        export(network, "onnx-float", tmp_path / "m.onnx", shape="2,7,9")
        with torch.no_grad():
            expected = network(x).numpy()
        found = session(tmp_path / "m.onnx").run(None, {"input": x.numpy()})[0]
        for got in (found, scanned(network, x.numpy(), tmp_path / "l.onnx", "2,7,9")):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    network, _ = folded("pool_net", "lif", "float", 2)
    with pytest.raises(ValueError, match="give that of one sample, as in shape=1,28,28"):
        export(network, "onnx-float", tmp_path / "m.onnx", shape="2x8x8")
    with pytest.raises(ValueError, match=r"shape 1,8,8: the network does not take it(; it was shown [\d,]+)?: "):
        export(network, "onnx-float", tmp_path / "m.onnx", shape="1,8,8")
    with pytest.raises(ValueError, match="steps=3 says nothing here: leave it out"):
        export(network, "onnx-float", tmp_path / "m.onnx", shape=SHAPE, steps=3)
    with pytest.raises(ValueError, match="give that of one sample, as in shape=1,28,28"):
        export(bitspike.graph.trace(NETS["pool_net"](make_neuron("lif"), T=2)), "onnx-float", tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="choose one of unrolled, scan, step"):
        export(network, "onnx-float", tmp_path / "m.onnx", form="loop", shape=SHAPE)
    model = nn.Sequential(bitspike.layers.Poisson(3), Linear(4, 2), MeanReadout())
    drawn = bitspike.fold(model, torch.rand(5, 4))
    with pytest.raises(ValueError, match=r"\(Poisson\) makes its own spikes: encode outside"):
        export(drawn, "onnx-float", tmp_path / "m.onnx", shape="4")
    assert not list(tmp_path.iterdir())


def test_a_batch_that_a_layer_fixes_is_refused() -> None:
    def model(batch: int, kind: str) -> Any:
        shape = onnx.helper.make_node(
            "Constant", [], ["shape"], "shape", value=onnx.numpy_helper.from_array(np.array([batch, 4]))
        )
        node = onnx.helper.make_node(kind, ["x", "shape"], ["y"], "used")
        info = onnx.helper.make_tensor_value_info
        ends = [info("x", 1, ["batch", 4])], [info("y", 1, ["batch", 4])]
        return onnx.helper.make_model(onnx.helper.make_graph([shape, node], "g", *ends), ir_version=9)

    freed(model(2, "Reshape"), model(3, "Reshape"))
    with pytest.raises(ValueError, match="no layer may fix the size of the batch, got shape"):
        freed(model(2, "Expand"), model(3, "Expand"))


@pytest.mark.data
def test_fashion_mnist(tmp_path: Path) -> None:
    """Both ONNX targets on real images: the program's integers, the float network's logits with flips counted."""
    from bitspike.data import load

    splits = load("fashion_mnist")
    x, y = splits.train.normalise(splits.train.images[:3000]), splits.train.labels[:3000].long()
    shown = splits.test.normalise(splits.test.images[:500])
    torch.manual_seed(0)
    size = x[0].numel()
    layers = [Repeat(4), bitspike.layers.Flatten(), Linear(size, 64), LIF(), Linear(64, 10), MeanReadout()]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for part in torch.arange(3000).split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    network = bitspike.fold(model, x[:64])
    export(network, "onnx-float", tmp_path / "m.onnx", shape=",".join(map(str, x.shape[1:])))
    with torch.no_grad():
        expected = network(shown).numpy()
    found = session(tmp_path / "m.onnx").run(None, {"input": shown.numpy()})[0]
    looped = scanned(network, shown.numpy(), tmp_path / "l.onnx", ",".join(map(str, x.shape[1:])))
    for got in (found, looped):
        assert (np.abs(got - expected).max(1) > 1e-4).sum() <= 3
    program = bitspike.compile(network, x[:128])
    export(program, "onnx", tmp_path / "p.onnx", int64=True)
    levels = np.ascontiguousarray(program.sequence(shown.numpy())[0])
    found = session(tmp_path / "p.onnx").run(None, {"input": levels})[0]
    assert np.array_equal(found, program(shown.numpy()).levels)


def test_digits(tmp_path: Path) -> None:
    """A network trained for a moment on real digits: predictions agree, flips are counted."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)
    torch.manual_seed(0)
    layers = [Repeat(4), bitspike.layers.Flatten(), Linear(64, 48), LIF(), Linear(48, 10), MeanReadout()]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:1200]), y[:1200]).backward()
        optimizer.step()
    network = bitspike.fold(model, x[:64])
    export(network, "onnx-float", tmp_path / "m.onnx", shape="1,8,8")
    with torch.no_grad():
        expected = network(x[1200:]).numpy()
    found = session(tmp_path / "m.onnx").run(None, {"input": x[1200:].numpy()})[0]
    for got in (found, scanned(network, x[1200:].numpy(), tmp_path / "l.onnx", "1,8,8")):
        flipped = int((np.abs(got - expected).max(1) > 1e-4).sum())
        assert (got.argmax(1) == y[1200:].numpy()).mean() > 0.8
        assert flipped <= 3 and (got.argmax(1) != expected.argmax(1)).sum() <= flipped
