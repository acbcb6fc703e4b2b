"""What pieces of a user's code do: moves of spikes keep formats and factors; transposed and pointwise maps count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import bitspike
from bitspike.cost import cost
from bitspike.layers import Flatten, GlobalAvgPool
from bitspike.neurons import MultiBit
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.upgrade import Merged, upgrade
from bitspike.upgrade.parts import fuse_means, nature
from bitspike.upgrade.pointwise import Pointwise
from bitspike.upgrade.transposed import TransposedConvolution
from networks import rng

MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "channel shuffle": lambda x: x.view(x.size(0), 2, 3, 4, 4).transpose(1, 2).contiguous().view(x.size(0), -1, 4, 4),
    "chunks": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "slice": lambda x: x[:, 1:5:2],
    "index": lambda x: x[:, [5, 0, 0]],
    "flip": lambda x: x.flip(1),
    "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest by size": lambda x: F.interpolate(x, size=(7, 5)),
    "reflected": lambda x: F.pad(x, (1, 1, 2, 0), mode="reflect"),
    "circular": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "zeros and a crop": lambda x: F.pad(x, (2, -1, 0, 0, 1, 0)),
    "transposed": lambda x: x.transpose(1, 2),
    "flattened": lambda x: x.permute(0, 2, 3, 1).flatten(1),
    "stacked": lambda x: torch.stack([x[:, :3], x[:, 3:]], 2).flatten(1, 2),
    "places side by side": lambda x: torch.cat([x, x.flip(3)], 3),
}
MIXING = ("pixel shuffle", "transposed", "stacked")


class Forward(nn.Module):
    """An activation, a function and a layer."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_moves_of_spikes_are_spikes(name: str, sharing: str) -> None:
    """Factors per channel go where their channels go; where channels mix, a gain is left."""
    move = MOVES[name]
    x = torch.randn(4, 6, 4, 4, generator=rng(0), dtype=torch.float64)
    shape = move(x).shape
    torch.manual_seed(0)
    layer: nn.Module = nn.Conv2d(shape[1], 3, 1) if len(shape) == 4 else nn.Linear(shape[1], 3)
    model = Forward(lambda s, x: s.fc(move(F.relu(x))).flatten(1), fc=layer).double().eval()
    neuron = MultiBit(2, 2, amplitude=1.37, train_amplitude=sharing, raw_amplitude=True)
    net = upgrade(model, {nn.ReLU: neuron}, x, T=2).eval()
    if sharing == "channel":
        amplitude = next(p for n, p in net.named_parameters() if "raw_amplitude" in n)
        amplitude.data.copy_(torch.linspace(0.5, 2.0, 6, dtype=torch.float64))
    folded = bitspike.fold(net, x)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert bool(folded.report.gains) == (name in MIXING and sharing == "channel")
    counted = cost(folded.graph, x)
    [row] = counted.synapses
    assert counted.uncounted == [] and (row.multiplications == 0) == (not folded.report.gains)
    seen: list[Tensor] = []

    def note(node: Any, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        if node.kind == "synapse":
            seen.append(args[0])
        return call()

    with torch.no_grad():
        folded.graph.run(x, handler=note)
    if not folded.report.gains:
        bits = sum(((seen[0].round().long() >> bit) & 1).sum() for bit in range(4))
        assert torch.equal(seen[0], seen[0].round()) and row.shift_adds == pytest.approx(3 * float(bits) / len(x))
    parts, states = None, None
    sequence = x.unsqueeze(0).expand(2, *x.shape)
    for step in sequence.split(1):
        parts, states = bitspike.stream(net, step, states)
    assert torch.equal(parts, bitspike.stream(net, sequence)[0])
    torch.testing.assert_close(parts, net(x), rtol=1e-12, atol=1e-12)


NATURES: dict[str, tuple[Callable[..., Any], str]] = {
    "view": (lambda x: x.view(x.size(0), 2, -1), "moves"),
    "two moved": (lambda x, y: torch.cat([x, y], 1), "moves"),
    "cat with constants": (lambda x: torch.cat([x, torch.ones(1, 2)], 1), "affine"),
    "sum": (lambda x, y: 2 * x - y / 3 + 1, "affine"),
    "mean": (lambda x: x.mean(1), "affine"),
    "ones around": (lambda x: F.pad(x, (1, 1), value=1.0), "affine"),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "affine"),
    "expanded": (lambda x, y: x.expand_as(y), "other"),
    "product": (lambda x, y: x * y, "other"),
    "square": (lambda x: x * x, "other"),
    "inverse": (lambda x: 1 / x, "other"),
    "floor division": (lambda x: torch.div(x, 2, rounding_mode="floor"), "other"),
    "absolute": (lambda x: abs(x), "other"),
    "by own sum": (lambda x: x / x.sum(1, keepdim=True), "other"),
    "gathered by values": (lambda x, y: x[y], "other"),
    "unknown": (lambda x: torch.cumsum(x, 1), "other"),
}


@pytest.mark.parametrize("name", NATURES)
def test_natures_are_read_off_the_code(name: str) -> None:
    function, kind = NATURES[name]
    assert nature(fx.symbolic_trace(function)) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "axes"),
    [
        (lambda x: x.mean(3).mean(2), (3, 2)),
        (lambda x: x.mean(2).mean(2), (2, 3)),
        (lambda x: x.mean(-1).mean(-1), (-1, -2)),
        (lambda x: x.mean(-2).mean(-1), (-2, -1)),
        (lambda x: torch.mean(x, dim=2, keepdim=True).mean([3], keepdim=True), (2, 3)),
        (lambda x: x.mean(2).mean(-1), None),
        (lambda x: x.mean(3, keepdim=True).mean(2), None),
    ],
)
def test_means_one_after_the_other(function: Callable[[Tensor], Tensor], axes: tuple[int, int] | None) -> None:
    traced = fx.symbolic_trace(function)  # type: ignore[arg-type]
    fuse_means(traced.graph)
    traced.recompile()
    x = torch.randn(2, 3, 4, 5, generator=rng(0), dtype=torch.float64)
    torch.testing.assert_close(traced(x), function(x))
    means = [node for node in traced.graph.nodes if node.op.startswith("call")]
    assert (len(means) == 1) == (axes is not None) and (axes is None or means[0].args[1] == axes)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": 2, "bias": False}]
)
def test_transposed_convolutions(axes: int, groups: int, options: dict[str, Any]) -> None:
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    torch.manual_seed(0)
    conv = kind(4, 6, 3, groups=groups, **options).double()
    layer = TransposedConvolution(conv)
    x = torch.randn(2, 3, 4, *[5, 4, 3][:axes], generator=rng(1), dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(y, torch.stack([conv(step) for step in x]), rtol=1e-12, atol=1e-12)
    assert layer.weight.shape == (6, 4 // groups, *[3] * axes)
    assert layer.macs(tuple(y.shape)) == x[0, 0, 0].numel() * conv.weight.numel()
    with pytest.raises(ValueError, match="TransposedConvolution: the input must have 4 channels"):
        layer(x[:, :, :2])


def test_transposed_convolutions_fold_norms_and_amplitudes() -> None:
    torch.manual_seed(0)
    layers = (nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    model = nn.Sequential(*layers, nn.Conv2d(6, 3, 1)).double()
    x = torch.randn(8, 4, 5, 5, dtype=torch.float64)
    model(x)
    neuron = MultiBit(2, 2, amplitude=1.37, train_amplitude="channel", raw_amplitude=True)
    net = upgrade(model.eval(), {nn.ReLU: neuron}, x, T=2).eval()
    for name, amplitude in net.named_parameters():
        if "raw_amplitude" in name:
            amplitude.data.uniform_(0.5, 2)
    folded = bitspike.fold(net, x)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    rows = cost(folded.graph, x).synapses
    assert folded.report.gains == {} and [row.macs for row in rows] == [25 * 4 * 3 * 9, 11 * 11 * 18]
    assert all(row.multiplications == 0 and row.shift_adds > 0 for row in rows)


def test_linear_maps_of_the_last_axis() -> None:
    torch.manual_seed(0)
    model = Forward(lambda s, x: s.b(F.relu(s.a(x))).mean(1), a=nn.Linear(4, 6), b=nn.Linear(6, 3)).double().eval()
    x = torch.randn(5, 7, 4, dtype=torch.float64)
    net = upgrade(model, {nn.ReLU: MultiBit(2, 2, amplitude=1.37)}, x, T=2).eval()
    assert [type(m) for m in net.body.modules() if isinstance(m, Pointwise)] == [Pointwise] * 2
    assert net.report.uncounted == [] and {"a", "b"} <= net.report.translated.keys()
    assert any(name == "body.a.weight" for name, _ in net.named_parameters())
    folded = bitspike.fold(net, x)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert [row.macs for row in cost(folded.graph, x).synapses] == [7 * 24, 7 * 18]
    with pytest.raises(ValueError, match="Pointwise: the input must have 4 channels"):
        net.body.a(torch.zeros(1, 2, 3, 5))


def test_a_pool_with_axes_is_a_pool() -> None:
    """Squeeze and excite: the mean is one of spikes, its two axes are put back for the convolution."""
    torch.manual_seed(0)
    model = Forward(
        lambda s, x: s.b(F.relu(x) * s.a(F.adaptive_avg_pool2d(F.relu(x), 1))),
        a=nn.Conv2d(4, 4, 1),
        b=nn.Conv2d(4, 2, 3),
    ).double()
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64)
    net = upgrade(model.eval(), {nn.ReLU: MultiBit(2, 2, amplitude=1.5)}, x, T=2).eval()
    assert any(isinstance(m, GlobalAvgPool) for m in net.modules())
    row = cost(bitspike.fold(net, x).graph, x).synapses[0]
    assert row.multiplications == 0 and row.shift_adds > 0


def test_a_size_of_another_value_does_not_make_a_move_unknown() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = F.relu(s.a(x))
        b, c, _, _ = y.size()
        gate = s.fc(F.adaptive_avg_pool2d(y, 1).view(b, c)).view(b, c, 1, 1).expand_as(y)
        return s.b(F.interpolate(F.relu(F.max_pool2d(y, 2)), size=y.shape[2:]) + gate)

    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(4, 2, 3), "fc": nn.Linear(4, 4)}
    x = torch.randn(5, 3, 8, 8)
    net = upgrade(Forward(forward, **layers).eval(), {nn.ReLU: MultiBit(2, 2, amplitude=1.5)}, x, T=2).eval()
    kept = [m for m in net.modules() if isinstance(m, Merged) and not m.keeps_format]
    assert kept == [] and net(torch.randn(2, 3, 12, 10)).shape == (2, 2, 8, 6)
    assert bitspike.fold(net, x).report.forced_flips == 0
    assert not any(isinstance(m, Flatten) for m in net.modules())


@pytest.mark.parametrize("quantizer", [Sign(), TernaryWeight(), Uniform(3)])
def test_quantized_weights_and_lean_memory(quantizer: Quantizer) -> None:
    """Transposed and pointwise maps take quantizers, fold their factors, and keep no more than their inputs."""
    torch.manual_seed(0)
    layers = {"a": nn.ConvTranspose2d(4, 6, 3, 2, bias=False), "b": nn.Linear(6, 5), "norm": nn.BatchNorm2d(6)}
    model = Forward(
        lambda s, x: s.b(F.relu(s.norm(s.a(F.relu(x)))).permute(0, 2, 3, 1)).flatten(1, 2).mean(1), **layers
    ).double()
    x = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    model(x)
    net = upgrade(model.eval(), {nn.ReLU: MultiBit(2, 2, amplitude=1.37)}, x, T=2)
    for module in net.modules():
        if isinstance(module, (TransposedConvolution, Pointwise)):
            module.quantize_with(quantizer)
    folded = bitspike.fold(net.eval(), x)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-10, atol=1e-10)
    rows = cost(folded.graph, x).synapses
    assert len(rows) == 2 and all(row.multiplications == 0 and row.adds + row.shift_adds > 0 for row in rows)
    plain = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), allow_unused=True)
    with bitspike.lean():
        lean = torch.autograd.grad(net(x).square().sum(), list(net.parameters()), allow_unused=True)
    for one, other in zip(plain, lean, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))  # type: ignore[arg-type]
