"""Lean memory: the same outputs and gradients bit for bit, less kept, and misuse refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import lean, native
from bitspike.layers import BatchNorm, Conv2d, Linear
from bitspike.neurons import LIF, MultiBit, Neuron
from bitspike.ops import buffers, using
from bitspike.quantizers import Quantizer, Uniform
from builders import images, tiny
from networks import NETS, SPIKING, WEIGHTS, liven, make_neuron, samples

Context = Callable[[], object]
TRAINED = {"train_amplitude": "channel"}


def passed(net: nn.Module, x: Tensor, context: Context, half: bool = False) -> list[Tensor]:
    """Output, buffers and every gradient of one training pass from the same dropout masks."""
    net.zero_grad()
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    torch.manual_seed(5)
    with context(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = net(x)
    F.cross_entropy(y.float(), torch.arange(len(x)) % y.shape[-1]).backward()
    after = [value.clone() for value in net.buffers()]
    for name, value in net.named_buffers():
        value.copy_(buffers[name])
    return [y.detach(), *after, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def kept_bytes(net: nn.Module, x: Tensor, context: Context) -> int:
    """Bytes allocated during a forward pass and still held behind it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=activities) as profile, context():
        y = net(x)
    total = sum(event.nbytes() for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    del y
    return int(total)


def compare(net: nn.Module, x: Tensor, half: bool = False) -> None:
    net.train()
    wanted, found = passed(net, x, nullcontext, half), passed(net, x, lean, half)
    assert len(wanted) == len(found) > 5
    assert any(value.abs().sum() > 0 for value in wanted[-3:])
    for one, other in zip(wanted, found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("options", [{}, TRAINED, {"reset": "soft", "detach_reset": False, "surrogate": "atan"}])
def test_gradients_are_equal(net: str, name: str, options: dict[str, object]) -> None:
    x = samples(4, dtype=torch.float32)
    model = liven(NETS[net](make_neuron(name, **options)), x)
    for kernel in ("native", "reference"):
        try:
            with using(kernel):
                compare(model, x)
        except ValueError as error:
            assert kernel == "native" and "must run here" in str(error)


@pytest.mark.parametrize("weight", sorted(WEIGHTS))
def test_every_quantizer(weight: str) -> None:
    x = samples(4, dtype=torch.float32)
    quantizer: Quantizer | None = WEIGHTS[weight]()
    compare(liven(NETS["pool_net"](MultiBit(1, 1), quantizer), x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_last_and_float64(dtype: torch.dtype) -> None:
    x = images(2, (3, 8, 8), dtype)
    net = liven(tiny("he_resnet20", make_neuron("ternary", train_amplitude="layer"), wiring="spike"), x)
    compare(net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last))


def test_bfloat16() -> None:
    x = samples(4, dtype=torch.float32)
    for neuron in (LIF(), MultiBit(1, 1, amplitude=0.731), make_neuron("ternary", **TRAINED)):
        compare(liven(NETS["study_cnn"](neuron), x), x, half=True)


@pytest.mark.parametrize(
    ("neuron", "share"),
    [
        (LIF(threshold=0.5, surrogate="rectangle", detach_reset=True), 0.15),  # class M: bits alone
        (MultiBit(1, 1, threshold=0.5, surrogate="rectangle", detach_reset=True), 0.15),
        (LIF(threshold=0.5, surrogate="atan", detach_reset=False), 0.45),  # class U: the scan keeps its currents
    ],
    ids=["binary M", "multi-bit M", "binary U"],
)
def test_less_is_kept(neuron: Neuron, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "LARGE_BYTES", 1 << 60)  # the profiler sees torch's own allocations
    x = images(8, (3, 32, 32), torch.float32)
    net = tiny("he_resnet20", neuron, T=4, width=8, shape=(3, 32, 32)).train()
    normal, small = (kept_bytes(net, x, context) for context in (nullcontext, lean))
    if native.library() is not None:
        assert 0 < small < share * normal, (small, normal)


def test_linear_maps_run_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    x, calls = samples(4, dtype=torch.float32), []
    net = liven(NETS["study_cnn"](LIF()), x).train()
    honest = Conv2d.connect

    def counted(self: Conv2d, *given: Tensor) -> Tensor:
        calls.append(self)
        return honest(self, *given)

    monkeypatch.setattr(Conv2d, "connect", counted)
    passed(net, x, nullcontext)
    once = len(calls)
    passed(net, x, lean)
    assert once == sum(isinstance(m, Conv2d) for m in net.modules()) and len(calls) == 3 * once


def test_a_changed_weight_is_noticed() -> None:
    x = samples(4, dtype=torch.float32)
    net = liven(NETS["study_cnn"](LIF()), x).train()
    with lean():
        y = net(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    with pytest.raises(RuntimeError, match="must not be changed in place before the backward pass"):
        y.sum().backward()


def test_torch_compile_is_refused() -> None:
    def forward(x: Tensor) -> Tensor:
        with lean():
            return x * 2

    with pytest.raises(Exception, match="must run uncompiled"):
        torch.compile(forward, backend="eager", fullgraph=True)(torch.ones(2, requires_grad=True))


def test_what_lies_outside_is_untouched() -> None:
    """Without gradients nothing is packed; a neuron alone, and a graph of a network nobody wrote for it, still work."""
    neuron: Neuron = make_neuron("lif")
    x, currents = samples(4, dtype=torch.float32), torch.randn(2, 3, 4)
    with lean(), torch.no_grad():
        assert torch.equal(neuron(currents), make_neuron("lif")(currents))
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    given = torch.randn(3, 4)
    wanted = torch.autograd.grad(net(given).sum(), list(net.parameters()))
    with lean():
        y = net(given)
    for one, other in zip(wanted, torch.autograd.grad(y.sum(), list(net.parameters())), strict=True):
        assert torch.equal(one, other)
    compare(liven(NETS["study_cnn"](LIF(), Uniform(4)), x), x)


def test_changes_in_place_are_followed() -> None:
    """Spikes changed before or after a layer has kept them, and results of linear maps, are kept as they are then."""

    def through(context: Context) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.ModuleList([Linear(6, 5), Linear(6, 5), BatchNorm(5)])
        x = (torch.rand(2, 3, 6) * 2).requires_grad_()
        with context():
            s = LIF()(x)
            early = net[0](s.clone())
            s += 0.25
            y = net[1](s)
            y *= torch.arange(1.0, 6.0)
            y = net[2](y)
        (y**3 + early).sum().backward()
        return [y.detach(), x.grad, *(p.grad for p in net.parameters())]  # type: ignore[list-item]

    for one, other in zip(through(nullcontext), through(lean), strict=True):
        assert torch.equal(one, other)


def test_spikes_changed_between_two_layers() -> None:
    """The first layer keeps its own, which torch alone would refuse to differentiate; the second what it was given."""
    first, second, x = Linear(4, 3), Linear(4, 3), torch.tensor([[[0.0, 2.0, 0.0, 2.0]]], requires_grad=True)
    with lean():
        s = LIF()(x)
        y = first(s)
        s *= 3.0
        y = y + second(s)
    y.sum().backward()
    for layer, value in ((first, 1.0), (second, 3.0)):
        assert layer.weight.grad is not None
        assert layer.weight.grad.tolist() == [[0.0, value, 0.0, value]] * 3


def test_weights_changed_before_the_gradient_are_noticed() -> None:
    """Also where no gradient of the layer's input would have kept them."""
    layer, norm = Linear(4, 3), BatchNorm(3)
    with lean():
        y = norm(layer(torch.rand(2, 2, 4)))
    with torch.no_grad():
        layer.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="must not be changed in place"):
        y.square().sum().backward()


def test_nan_reaches_the_gradients() -> None:
    """A level has no NaN: spikes that hold one are kept as they are. The loss sees another sample, so 0·NaN decides."""
    net = nn.Sequential(Linear(3, 4), MultiBit(1, 1), Linear(4, 2))
    x = samples(2, dtype=torch.float32).flatten()[:12].reshape(2, 2, 3)
    x[0, 0, 0] = math.nan
    for context in (nullcontext, lean):
        net.zero_grad()
        with context():
            y = net(x)
        y[:, 1].sum().backward()
        gradient = net[2].weight.grad
        assert isinstance(gradient, Tensor) and gradient.isnan().all()
        assert not y[:, 1].isnan().any()
