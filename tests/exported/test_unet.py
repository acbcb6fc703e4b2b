"""A U-Net and a gate of graded spikes for other systems: the same integers, or a refusal that names the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.export import export
from bitspike.neurons import LIF
from export_c import compare, missing
from lower_nets import WIDE, on_grid
from networks import dyadic
from vision_nets import Gated, UNet, spiking


def folded(made: type[nn.Module], dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """On a grid, so that float32 flips nothing either."""
    torch.manual_seed(0)
    net, x = spiking(made(), "bits")
    x = dyadic(x.double())
    return bitspike.fold(on_grid(net, x).to(dtype), x.to(dtype)), x.to(dtype)


def session(path: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.skipif(bool(missing("gcc")), reason=missing("gcc"))
@pytest.mark.parametrize("made", [pytest.param(UNet, marks=pytest.mark.slow), Gated])
def test_c99_gives_the_integers(made: type[nn.Module], tmp_path: Path) -> None:
    network, x = folded(made)
    compare(bitspike.compile(network, x, activation_bits=16), x[:2].numpy(), tmp_path)


@pytest.mark.parametrize("form", ["unrolled", "scan"])
@pytest.mark.parametrize("made", [UNet, Gated])
def test_onnx_gives_the_integers(made: type[nn.Module], form: str, tmp_path: Path) -> None:
    network, x = folded(made)
    program = bitspike.compile(network, x, activation_bits=16, **WIDE)
    export(program, "onnx", tmp_path / "net.onnx", form=form)
    run = session(tmp_path / "net.onnx")
    found = run.run(None, {"input": program.quantize(x.numpy())})
    digits = [output.name for output in run.get_outputs()]
    got = sum(part.astype(np.int64) << 11 * i for i, part in enumerate(found)) if len(digits) > 1 else found[0]
    assert np.array_equal(got, program(x.numpy()).levels) and got.std() > 0


@pytest.mark.parametrize("made", [UNet, Gated])
def test_onnx_float_gives_the_numbers(made: type[nn.Module], tmp_path: Path) -> None:
    network, x = folded(made, torch.float32)
    export(network, "onnx-float", tmp_path / "net.onnx", shape="2,8,8")
    (got,) = session(tmp_path / "net.onnx").run(None, {"input": x.numpy()})
    assert np.allclose(got, network(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("form", ["unrolled", "scan", "step"])
def test_onnx_float_names_the_layer_that_torch_cannot_say(form: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="not run: onnx is not installed")
    model, x = (
        nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.ChannelShuffle(2), nn.Conv2d(4, 2, 1)),
        torch.rand(2, 2, 4, 4),
    )
    network = bitspike.fold(bitspike.upgrade(model, {nn.ReLU: LIF()}, x, T=2).eval(), x)
    with pytest.raises(ValueError, match=r"aten::channel_shuffle.* in body_2; take --to onnx"):
        export(network, "onnx-float", tmp_path / "net.onnx", shape="2,4,4", form=form)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (UNet, [r"max_pool2d \(MaxPool2d\)", r"body_up \(TransposedConvolution\)", r"cat \(concat\)"]),
        (Gated, [r"body_mul \(Product\)"]),
    ],
)
def test_nir_names_what_it_has_not(made: type[nn.Module], named: list[str], tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="not run: the package nir is not installed")
    network, _ = folded(made)
    for one in (*named, "MultiBit sends"):
        with pytest.raises(ValueError, match=one):
            export(network, "nir", tmp_path / "net.nir", shape="2,8,8")
