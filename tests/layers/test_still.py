"""A repeated still image is computed once up to the first neuron, and nothing but the time it takes changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import int8, lean
from bitspike.cost import cost
from bitspike.functional import held, repeats
from bitspike.layers import (
    ENCODERS,
    Affine,
    AvgPool2d,
    BatchNorm,
    Chain,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Repeat,
    SumPool2d,
    Upsample,
)
from bitspike.models import MODELS, Policy
from bitspike.models.pad import PadShortcut
from bitspike.neurons import LIF, Integer, MultiBit, Ternary
from bitspike.ops import using
from bitspike.quantizers import Uniform

B, C, SIDE = 3, 4, 6
NEURONS: dict[str, Callable[[], nn.Module]] = {
    "class M": lambda: LIF(0.4, detach_reset=True),
    "class U": lambda: LIF(0.4, detach_reset=False, surrogate="atan"),
    "ternary": lambda: Ternary(threshold=0.3),
    "graded": lambda: MultiBit(1, 1),
    "integer, learned": lambda: Integer(4, train_amplitude="channel").replicate(C),
    "analog": nn.ReLU,
}
MAPS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: Conv2d(2, C, 3, padding=1),
    "8 bits, bias": lambda: Conv2d(2, C, 3, padding=1, bias=True, weight=Uniform(8)),
    "two convs": lambda: nn.Sequential(Conv2d(2, 3, 3, padding=1), Conv2d(3, C, 3, stride=2)),
    "mean pool": lambda: nn.Sequential(Conv2d(2, C, 3), AvgPool2d(3, 2, ceil=True)),
    "transposed": lambda: nn.Sequential(Upsample(2), ConvTranspose2d(2, C, 2, 2)),
    "sum pool": lambda: nn.Sequential(SumPool2d(2), Conv2d(2, C, 1)),
    "max pool": lambda: nn.Sequential(Conv2d(2, C, 3), MaxPool2d(2)),
    "pad shortcut": lambda: nn.Sequential(PadShortcut(2, C, 2), Affine(torch.rand(C) + 0.5, torch.rand(C))),
    "features": lambda: nn.Sequential(Conv2d(2, 3, 3), Flatten(), Linear(48, C)),
    "averages": lambda: nn.Sequential(Conv2d(2, 3, 3), GlobalAvgPool(), Linear(3, C)),
}
ORDERS = (torch.contiguous_format, torch.channels_last)


def image(order: torch.memory_format = torch.contiguous_format, batch: int = B) -> Tensor:
    x = torch.randn(batch, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 2 + 0.5
    return x.contiguous(memory_format=order)


def chain(of: nn.Module, norm: str, neuron: nn.Module, fused: bool = True) -> nn.Module:
    """Layers up to the first neuron and one behind it; per-channel numbers drawn."""
    norms = [] if norm == "none" else [BatchNorm(C, norm, threshold=0.7)]
    net = (Chain if fused else nn.Sequential)(of, *norms, neuron)
    for module in net.modules():
        if isinstance(module, BatchNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net


def outcome(net: nn.Module, x: Tensor, T: int, every: bool) -> list[Tensor]:
    """Output, gradients of the image and all parameters, buffers; ``every``: from T copies in memory."""
    net, x = copy.deepcopy(net), x.clone(memory_format=torch.preserve_format).requires_grad_()
    sequence = Repeat(T)(x)
    y = net(sequence.contiguous() if every else sequence)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(5)).to(y.dtype)
    given = [x, *(p for p in net.parameters() if p.requires_grad)]
    grads = torch.autograd.grad((y * weight).sum(), given, allow_unused=True)
    return [y.detach(), *(torch.zeros(()) if g is None else g for g in grads), *net.buffers()]


def same(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        scale = max(float(other.abs().max()), 1.0) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("norm", ["none", "joint", "per_step", "threshold"])
@pytest.mark.parametrize("of", MAPS)
def test_layers_and_norms_give_the_numbers_of_every_step_computed(of: str, norm: str) -> None:
    torch.manual_seed(1)
    for T in (1, 2, 3, 5):
        for order in ORDERS:
            for training in (True, False):
                net = chain(MAPS[of](), norm, nn.Identity()).double().train(training)
                x = image(order).double()
                same(outcome(net, x, T, False), outcome(net, x, T, True), 1e-11)


@pytest.mark.parametrize("kernel", ["native", "reference"])
@pytest.mark.parametrize("norm", ["none", "joint", "per_step", "threshold"])
@pytest.mark.parametrize("name", NEURONS)
def test_neurons_fire_as_on_copies(name: str, norm: str, kernel: str) -> None:
    torch.manual_seed(2)
    fired = []
    for T in (2, 5):
        for order in ORDERS:
            for training in (True, False):
                net = chain(Conv2d(2, C, 3, padding=1), norm, NEURONS[name]()).train(training)
                with using(kernel):
                    found, wanted = (outcome(net, image(order), T, every) for every in (False, True))
                same(found, wanted, 2e-5)
                fired.append(float((found[0] != 0).float().mean()))
    assert 0.02 < sum(fired) / len(fired) < 0.98


def copied(row: Tensor, last: bool) -> Tensor:
    """Four copies in memory, channels-last if asked."""
    return torch.cat([row.movedim(2, -1)] * 4).movedim(-1, 2) if last else torch.cat([row] * 4)


@pytest.mark.parametrize("name", ["class M", "class U", "ternary"])
def test_the_native_norm_and_scan_is_the_same_bit_for_bit(name: str) -> None:
    """One row that repeats against T rows, with and without a shortcut, in both memory orders and element types."""
    from ops.norm_cases import parts, raw, values

    for order in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            row = values((1, 3, C, 5, 7), order).to(dtype)
            added = values((4, 3, C, 5, 7), order, seed=9).to(dtype)
            for shortcut in (None, added):
                results = []
                for every in (False, True):
                    norm = parts(C)
                    y = copied(row, order) if every else row.expand(4, *row.shape[1:])
                    y = y.detach().requires_grad_()
                    assert repeats(y) != every
                    own = None if shortcut is None else shortcut.clone().requires_grad_()
                    s, moments = raw(NEURONS[name](), y, norm, own)  # type: ignore[arg-type]
                    leaves = [y, norm.weight, norm.bias, *([] if own is None else [own])]
                    results.append([s, moments, *torch.autograd.grad((s.float() * added.float()).sum(), leaves)])
                for one, other in zip(*results, strict=True):
                    assert torch.equal(one, other)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames that every convolution is given."""
    frames: list[int] = []
    honest = F.conv2d

    def conv2d(x: Tensor, *given: Any) -> Tensor:
        frames.append(len(x))
        return honest(x, *given)

    monkeypatch.setattr(F, "conv2d", conv2d)
    return frames


@pytest.mark.parametrize("training", [True, False])
def test_the_first_convolution_sees_a_still_image_once(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = watched(monkeypatch)
    net = MODELS["he_resnet20"](LIF(), T=4, width=4, shape=(2, SIDE, SIDE)).train(training)
    net(image())
    assert frames[0] == B and set(frames[1:]) == {4 * B}


def test_a_rectifier_in_place_may_follow() -> None:
    """It cannot write into a view that repeats one step."""
    for norm in ("none", "joint"):
        for training in (True, False):
            net = chain(Conv2d(2, C, 3), norm, nn.ReLU(inplace=True)).train(training)
            same(outcome(net, image(), 3, False), outcome(net, image(), 3, True), 2e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_the_sum_over_steps_keeps_the_memory_order(order: torch.memory_format) -> None:
    """Else the convolution before would convert its gradient."""
    leaf = image(order).requires_grad_()
    y = held(leaf.unsqueeze(0), 3)
    assert repeats(y) and y.stride()[1:] == leaf.stride()
    weight = torch.empty_strided(y.shape, (leaf.numel(), *leaf.stride())).normal_()
    (grad,) = torch.autograd.grad((y * weight).sum(), leaf)
    assert grad.stride() == leaf.stride()
    torch.testing.assert_close(grad, weight.sum(0))


@pytest.mark.parametrize("encoder", sorted(set(ENCODERS) - {"repeat"}))
def test_no_other_encoder_is_taken_for_a_still_image(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = watched(monkeypatch)
    made = ENCODERS[encoder](4)  # type: ignore[call-arg]
    sequence = made(torch.rand(*((B, 4) if made.sequences else (B,)), 2, SIDE, SIDE))
    assert not repeats(sequence)
    Conv2d(2, C, 3)(sequence)
    assert frames == [4 * B]


def test_a_sequence_is_never_taken_for_a_still_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal values are not enough; only steps that are the same memory are one."""
    frames = watched(monkeypatch)
    still = image().unsqueeze(0)
    layer = Conv2d(2, C, 3)
    for sequence in (still.repeat(4, 1, 1, 1, 1), still[:, :1].expand(4, 4, -1, -1, -1).contiguous()):
        layer(sequence)
    assert frames == [4 * B, 4 * 4]


def test_a_leaf_of_many_steps_gets_the_gradient_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = watched(monkeypatch)
    leaf = image().unsqueeze(0).expand(3, -1, -1, -1, -1).requires_grad_()
    y = Conv2d(2, C, 3)(leaf)
    (grad,) = torch.autograd.grad((y * torch.arange(3.0).reshape(3, 1, 1, 1, 1)).sum(), leaf)
    assert frames == [3 * B] and not grad[0].any() and grad[1].any()
    torch.testing.assert_close(grad[2], 2 * grad[1])


@pytest.mark.parametrize("mode", ["joint", "threshold", "per_step"])
@pytest.mark.parametrize("T", [2, 7])
def test_running_statistics_count_every_step(mode: str, T: int) -> None:
    """The unbiased variance of T·n values joint; T moves by the variance of n values per step."""
    norm = BatchNorm(C, mode).double()
    x = torch.randn(2, C, 1, 2, dtype=torch.float64)
    norm(Repeat(T)(x))
    if mode == "per_step":
        wanted = 1 + (x.var((0, 2, 3)) - 1) * (1 - 0.9**T)
    else:
        wanted = 0.9 + 0.1 * x.var((0, 2, 3), correction=0) * (4 * T) / (4 * T - 1)
    torch.testing.assert_close(norm.running_var, wanted, rtol=1e-12, atol=0)


def test_one_value_per_step_is_enough_for_joint_statistics() -> None:
    x = torch.randn(1, C, 1, 1, dtype=torch.float64)
    for fused in (True, False):
        net = chain(nn.Identity(), "joint", LIF(), fused).double()
        same(outcome(net, x, 4, False), outcome(net, x, 4, True), 1e-10)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(C, "per_step")(Repeat(4)(x))


@pytest.mark.parametrize("norm", ["joint", "per_step"])
@pytest.mark.parametrize("name", ["class M", "class U"])
def test_lean_training_gives_the_same(name: str, norm: str) -> None:
    torch.manual_seed(4)
    net = MODELS["study_cnn"](NEURONS[name](), T=3, width=4, shape=(2, SIDE, SIDE), stem_stride=1, norm=norm)
    with lean():
        found = outcome(net.body, image(torch.channels_last), 3, False)
    same(found, outcome(net.body, image(torch.channels_last), 3, False), 1e-6)


def test_int8_gives_the_same() -> None:
    torch.manual_seed(5)
    policy = Policy(first=Uniform(8), last=Uniform(8))
    net = MODELS["study_cnn"](MultiBit(1, 1), Uniform(4), T=3, width=4, shape=(2, SIDE, SIDE), policy=policy)
    net = net.to(memory_format=torch.channels_last)
    with int8() as record:
        found = outcome(net.body, image(torch.channels_last), 3, False)
    assert record.taken
    with int8() as other:
        wanted = outcome(net.body, image(torch.channels_last), 3, True)
    same(found, wanted, 2e-5)
    assert (record.taken, record.kept) == (other.taken, other.kept)


def test_checkpointing_gives_the_same() -> None:
    from torch.utils.checkpoint import checkpoint

    class Kept(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return checkpoint(self.net, x, use_reentrant=False)

    torch.manual_seed(6)
    net = chain(Conv2d(2, C, 3), "none", LIF(0.4))
    same(outcome(Kept(net), image(), 4, False), outcome(net, image(), 4, True), 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["joint", "per_step"])
def test_compiled_gives_the_same(norm: str) -> None:
    torch.manual_seed(7)
    for neuron in (LIF(0.4, detach_reset=True), LIF(0.4, surrogate="atan")):
        net = chain(nn.Sequential(Conv2d(2, C, 3), AvgPool2d(2)), norm, neuron)
        net.compile(fullgraph=True)
        found = outcome(net, image(), 4, False)
        same(found, outcome(chain_of(net), image(), 4, True), 2e-5)


def chain_of(net: nn.Module) -> nn.Module:
    """The same uncompiled."""
    plain = copy.deepcopy(net)
    plain._compiled_call_impl = None
    return plain


def test_an_exported_network_gives_the_same() -> None:
    torch.manual_seed(8)
    net = MODELS["study_cnn"](LIF(), T=3, width=4, shape=(2, SIDE, SIDE)).eval()
    with using("reference"):
        program = torch.export.export(net, (image(),))
        torch.testing.assert_close(program.module()(image()), net(image()))


def test_cost_counts_every_step() -> None:
    """What is counted is the network, not how this library runs it."""
    net = MODELS["study_cnn"](LIF(), T=4, width=4, shape=(2, SIDE, SIDE)).eval()
    first = cost(net, image()).layers[0]
    assert first.T == 4 and first.multiplications == 4 * first.macs


def test_what_is_wrong_is_said_of_the_whole_sequence() -> None:
    with pytest.raises(ValueError, match=r"3 channels, got \[4, 3, 2, 6, 6\]"):
        Conv2d(3, C, 3)(Repeat(4)(image()))
