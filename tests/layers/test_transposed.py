"""Transposed convolutions and nearest upsampling written by hand: against torch, and through every pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.layers import BatchNorm, Conv2d, ConvTranspose2d, MeanReadout, Repeat, Upsample
from bitspike.neurons import LIF, MultiBit, Neuron, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.testing import check_program, finite_differences
from lower_nets import WIDE, on_grid
from networks import dyadic, rng

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1, "output_padding": 1},
    "oblong": {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1), "bias": True},
    "groups": {"groups": 2, "stride": (3, 1)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_the_transposed_convolution_of_torch(name: str) -> None:
    options = {"kernel": 3, **OPTIONS[name]}
    kernel = options.pop("kernel")
    layer = ConvTranspose2d(4, 6, kernel, **options).double()
    other = nn.ConvTranspose2d(4, 6, kernel, **{"bias": False, **options}).double()
    groups = layer.groups
    weight = layer.weight.detach().unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    other.weight.data = weight.clone()
    if layer.bias is not None and other.bias is not None:
        layer.bias.data.copy_(other.bias.data)
    x = torch.randn(2, 3, 4, 5, 7, generator=rng(0), dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(y, torch.stack([other(step) for step in x]), rtol=1e-12, atol=1e-12)
    assert layer.weight.shape == (6, 4 // groups, *((kernel, kernel) if isinstance(kernel, int) else kernel))
    assert layer.macs(tuple(y.shape)) == 35 * other.weight.numel()


def test_its_start_keeps_the_size_of_values() -> None:
    """Behind rectified normal numbers, half of whose squares are gone, the variance is 1."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 64, 8, 8).relu()
    for options in ({"kernel": 4, "stride": 2, "padding": 1}, {"kernel": 3, "groups": 4}):
        layer = ConvTranspose2d(64, 64, **options)  # type: ignore[arg-type]
        assert 0.7 < layer(x)[..., 3:-3, 3:-3].std() < 1.4


@pytest.mark.parametrize("factor", [1, 2, (3, 1)])
def test_upsampling_is_that_of_torch(factor: Any) -> None:
    x = torch.randn(2, 3, 4, 5, 7, generator=rng(0), dtype=torch.float64)
    wanted = torch.stack([F.interpolate(step, scale_factor=factor, mode="nearest") for step in x])
    assert torch.equal(Upsample(factor)(x), wanted)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConvTranspose2d(4, 6, 3, groups=4), "ConvTranspose2d: groups must divide both .* got 4 of 4 and 6"),
        (lambda: ConvTranspose2d(4, 6, 3, stride=2, output_padding=2), "output_padding must be below the stride"),
        (lambda: ConvTranspose2d(4, 6, (3, 3, 3)), "ConvTranspose2d: kernel must be one number or"),  # type: ignore
        (lambda: ConvTranspose2d(4, 6, 3)(torch.zeros(1, 1, 3, 4, 4)), "the input must have 4 channels"),
        (lambda: Upsample(0), r"Upsample: factor must lie in"),
        (lambda: Upsample(2)(torch.zeros(1, 1, 3)), r"Upsample: the input must be \[T, B, C, H, W\]"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


class Enlarging(nn.Module):
    """Down by a stride, up by a transposed convolution and by repetition; a map for every place."""

    def __init__(self, neuron: Neuron, weight: Quantizer | None = None) -> None:
        super().__init__()
        self.encoder, self.readout = Repeat(3), MeanReadout()
        parts = [
            *(Conv2d(2, 4, 3, 2, 1), BatchNorm(4), neuron.replicate(4)),
            *(ConvTranspose2d(4, 6, 2, 2, groups=2, weight=weight), BatchNorm(6), neuron.replicate(6)),
            *(Upsample(2), ConvTranspose2d(6, 3, 3, padding=1, bias=True, weight=weight)),
        ]
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(self.encoder(x)))  # type: ignore[no-any-return]


NEURONS: dict[str, Neuron] = {
    "binary": LIF(decay=0.5),
    "ternary": Ternary(decay=0.5, train_amplitude="layer"),
    "ternary by channel": Ternary(decay=0.5, train_amplitude="channel"),
    "graded": MultiBit(1, 1, decay=0.5, train_amplitude="layer", amplitude=0.5),
}


@pytest.mark.parametrize(
    "weight", [None, Sign(), TernaryWeight(), Uniform(4)], ids=["float", "sign", "ternary", "4bit"]
)
@pytest.mark.parametrize("kind", NEURONS)
def test_passes_and_programs_agree(kind: str, weight: Quantizer | None) -> None:
    torch.manual_seed(0)
    x = dyadic(torch.randn(4, 2, 6, 6, generator=rng(1), dtype=torch.float64))
    net = on_grid(Enlarging(NEURONS[kind], weight).double(), x).eval()
    folded = bitspike.fold(net, x)
    plain = weight is None or "channel" not in kind  # which integer weights cannot take in
    assert folded.report.forced_flips == 0 and bool(folded.report.gains) != plain
    torch.testing.assert_close(folded(x), net(x), rtol=1e-9, atol=1e-9)
    counted = bitspike.cost(folded, x)
    assert not counted.uncounted and [row.macs for row in counted.synapses] == [9 * 72, 9 * 48, 144 * 162]
    assert all(row.multiplications == 0 for row in counted.synapses[1:]) or not plain
    graph = bitspike.trace(net)
    sequence = net.encoder(x)
    _, states = bitspike.stream(graph, sequence[:1])
    torch.testing.assert_close(bitspike.stream(graph, sequence[1:], states)[0], net(x), rtol=1e-9, atol=1e-9)
    program, found = check_program(folded, x, activation_bits=16, exact=False, **WIDE)
    assert found.forced_flips == 0
    assert np.allclose(program(x.numpy()).values, folded(x).detach().numpy(), atol=1e-3)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    net = Enlarging(MultiBit(1, 1, decay=0.5, surrogate="sigmoid")).double().train()
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    named = {"x": x, **{n: p for n, p in net.named_parameters() if n.endswith(("3.weight", "7.weight", "7.bias"))}}
    assert len(named) == 4

    def loss() -> Tensor:
        return net(x).square().sum()  # type: ignore[no-any-return]

    found = torch.autograd.grad(loss(), list(named.values()))
    for name, one, other in zip(named, found, finite_differences(loss, named.values(), net), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        assert one.abs().max() > 0


def test_exports(tmp_path: Any) -> None:
    """ONNX and C by way of the program, float ONNX by torch; NIR names both."""
    from bitspike.export import export

    pytest.importorskip("onnx", reason="not run: onnx is not installed")
    torch.manual_seed(0)
    x = dyadic(torch.randn(4, 2, 6, 6, generator=rng(1), dtype=torch.float64))
    folded = bitspike.fold(on_grid(Enlarging(NEURONS["graded"]).double(), x).eval().float(), x.float())
    program = bitspike.compile(folded, x.float(), activation_bits=16, **WIDE)
    runtime = pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")
    export(program, "onnx", tmp_path / "net.onnx", form="unrolled")
    run = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    found = run.run(None, {"input": program.quantize(x.numpy())})
    got = sum(part.astype(np.int64) << 11 * i for i, part in enumerate(found)) if len(found) > 1 else found[0]
    assert np.array_equal(got, program(x.numpy()).levels) and got.std() > 0
    export(folded, "onnx-float", tmp_path / "float.onnx", shape="2,6,6")
    run = runtime.InferenceSession(tmp_path / "float.onnx", providers=["CPUExecutionProvider"])
    (got,) = run.run(None, {"input": x.float().numpy()})
    assert np.allclose(got, folded(x.float()).detach().numpy(), atol=1e-5)


def test_nir_names_them(tmp_path: Any) -> None:
    from bitspike.export import export

    pytest.importorskip("nir", reason="not run: the package nir is not installed")
    x = torch.randn(2, 2, 6, 6)
    folded = bitspike.fold(Enlarging(LIF()).eval(), x)
    with pytest.raises(ValueError, match=r"body_3 \(ConvTranspose2d\).*body_6 \(Upsample\)"):
        export(folded, "nir", tmp_path / "net.nir", shape="2,6,6")
