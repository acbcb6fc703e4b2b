"""The native batch norm with its scan equals its own affine map and the native scan bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bitspike import native
from bitspike.layers import BatchNorm
from bitspike.layers.norm_scan import norm_then_fire
from bitspike.neurons import NEURONS, Neuron
from bitspike.ops import norm_scan_native, table, using
from neurons.cases import Options
from ops.norm_cases import EPS, MOMENTUM, TOLERANCE, check_native, facts, near, parts, raw, values

NATIVE = next(kernel for kernel in table() if (kernel.operation, kernel.name) == ("norm_scan", "native"))
pytestmark = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")
ARMS: dict[str, Options] = {
    "lif": {"detach_reset": True, "surrogate": "rectangle", "threshold": 0.5},
    "lif-soft": {"detach_reset": True, "surrogate": "rectangle", "reset": "soft", "amplitude": 0.7},
    "ternary": {"detach_reset": True, "surrogate": "rectangle"},
    "multibit": {"m": 1, "n": 1, "detach_reset": True, "surrogate": "rectangle:0.25"},
    "real": {},
    "lif-open": {"surrogate": "atan:2.0", "threshold": 0.5},
    "lif-learned": {"detach_reset": True, "reset": "soft", "learn_decay": True, "amplitude": 1.5},
    "ternary-channels": {"train_amplitude": "channel", "learn_decay": True, "surrogate": "sigmoid:4.0"},
    "multibit-open": {"m": 1, "n": 1, "reset": "soft", "surrogate": "rectangle:0.25", "train_amplitude": "layer"},
    "integer-open": {"D": 3, "reset": "hard", "detach_reset": False, "surrogate": "triangle:0.5"},
    "real-surrogate": {"gradient": "surrogate", "train_amplitude": "channel"},
}
SHAPES = [
    (1, 1, 1, 2, 1),
    (1, 2, 3, 5, 7),
    (2, 3, 16, 4, 4),
    (3, 2, 7, 13, 11),
    (4, 5, 32, 9, 9),
    (8, 2, 24, 6, 5),
    (2, 3, 5, 1013),
    (4, 37, 6),
    (2, 2, 600, 3, 3),
]


def arm(name: str, channels: int = 7) -> Neuron:
    return NEURONS[name.split("-")[0]](**ARMS[name]).replicate(channels, channel_dim=1)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("isa", native.available_isas())
def test_every_length_size_and_layout(name: str, isa: str) -> None:
    with native.isa(isa):
        for shape in SHAPES:
            neuron = arm(name, shape[2])
            for last in (False, True) if len(shape) == 5 else (False,):
                y = values(shape, last)
                check_native(neuron, y)
                check_native(neuron, y, values(shape, last, seed=9).round())


@pytest.mark.parametrize("name", ["lif", "ternary-channels"])
@pytest.mark.parametrize("last", [False, True])
def test_several_blocks_and_results_past_the_caches(name: str, last: bool) -> None:
    shape = (4, 32, 16, 32, 32)
    s = check_native(arm(name, 16), values(shape, last), torch.rand(shape).round())
    assert 0.02 < (s != 0).float().mean() < 0.98


@pytest.mark.parametrize("name", ARMS)
def test_the_same_bits_for_any_threads_and_instruction_set(name: str) -> None:
    y, shortcut = values((3, 8, 24, 17, 19), last=True), torch.rand(3, 8, 24, 17, 19).round()
    before, results = torch.get_num_threads(), []
    try:
        for isa in native.available_isas():
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with native.isa(isa):
                    norm, leaf, added = parts(24), y.clone().requires_grad_(), shortcut.clone().requires_grad_()
                    neuron = arm(name, 24)
                    s, moments = raw(neuron, leaf, norm, added)
                    out = torch.linspace(-1, 1, 17 * 19).view(17, 19).expand_as(s)
                    grads = torch.autograd.grad(s, [leaf, added, *norm[:2], *neuron.parameters()], out)
                    results.append([s.detach(), moments, *grads])
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, results[0], strict=True))


@pytest.mark.parametrize("name", ARMS)
def test_float64_agrees_where_no_spike_flips(name: str) -> None:
    y, outcomes = values((4, 6, 7, 9, 8), last=True), []
    for dtype in (torch.float32, torch.float64):
        norm, leaf, neuron = parts(7, dtype), y.to(dtype).requires_grad_(), arm(name).to(dtype)
        with using("reference" if dtype == torch.float64 else "native", "norm_scan"):
            kernel = NATIVE if dtype == torch.float32 else next(k for k in table() if k.operation == "norm_scan")
            s = kernel.function(neuron, leaf, norm, None, neuron.fused())
        out = torch.linspace(-1, 1, s.numel(), dtype=torch.float64).reshape(s.shape).to(dtype)
        grads = torch.autograd.grad(s, [leaf, *norm[:2], *neuron.parameters()], out)
        outcomes.append([s.detach(), *grads, *norm[2:4]])
    torch.testing.assert_close(outcomes[0][0].double(), outcomes[1][0], rtol=1e-5, atol=1e-5)
    assert torch.equal(outcomes[0][0] != 0, outcomes[1][0] != 0)
    assert 0.02 < (outcomes[0][0] != 0).float().mean() < 0.98
    for one, other in zip(outcomes[0][1:], outcomes[1][1:], strict=True):
        near(one, other, TOLERANCE)


def test_ties_on_the_dyadic_grid() -> None:
    """Mean 0, variance 1, γ a power of two, no eps: the current is exact, and half of the values lie on a threshold."""
    y = torch.tensor([1.0, -1.0]).repeat(2, 3, 4, 8)
    norm = parts(4)._replace(weight=torch.full((4,), 0.5), bias=torch.zeros(4), eps=0.0)
    for last in (False, True):
        given = y.unsqueeze(-1).movedim(2, -1).contiguous().movedim(-1, 2) if last else y.unsqueeze(-1)
        s, moments = raw(arm("lif"), given, norm, None)
        assert moments[0].abs().max() == 0 and torch.equal(moments[1], torch.ones(4))
        assert torch.equal(s, (given > 0).float())  # fires at u = 0.5, the threshold


def test_a_large_mean_does_not_cancel() -> None:
    y = values((2, 4, 3, 16, 16)) + 3000.0
    moments = raw(arm("lif"), y, parts(3), None)[1]
    wanted = 1 / (y.double().var((0, 1, 3, 4), correction=0) + EPS).sqrt()
    torch.testing.assert_close(moments[1].double(), wanted, rtol=1e-6, atol=0)


def test_running_statistics_are_those_of_torch() -> None:
    y, neuron = values((2, 3, 5, 6, 6)), arm("lif")
    own, theirs = parts(5, grad=False), parts(5, grad=False)
    for _ in range(3):
        norm_scan_native(neuron, y, own, None, neuron.fused())
        F.batch_norm(y.flatten(0, 1), *theirs[2:4], *theirs[:2], True, MOMENTUM, EPS)
    torch.testing.assert_close(own.running_mean, theirs.running_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own.running_var, theirs.running_var, rtol=1e-6, atol=0)


def test_other_layouts_are_copied() -> None:
    neuron, y = arm("lif"), values((2, 3, 7, 6, 5))
    wanted = norm_scan_native(neuron, y, parts(7), y.round(), neuron.fused())
    turned = y.transpose(3, 4).contiguous().transpose(3, 4)
    assert torch.equal(norm_scan_native(neuron, turned, parts(7), turned.round(), neuron.fused()), wanted)
    last = y.movedim(2, -1).contiguous().movedim(-1, 2)
    assert torch.equal(norm_scan_native(neuron, y, parts(7), last.round(), neuron.fused()), wanted)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ARMS)
def test_half_precision(name: str, last: bool) -> None:
    """bfloat16 in memory, float32 inside: what float32 makes of the same values, rounded at the end."""
    shape = (4, 3, 24, 9, 7)
    y, shortcut, out = (values(shape, last, seed=seed).bfloat16() for seed in (1, 2, 3))
    neuron, results = arm(name, 24), []
    for dtype in (torch.float32, torch.bfloat16):
        norm, given = parts(24), [t.detach().to(dtype).requires_grad_() for t in (y, shortcut)]
        s, moments = raw(neuron, given[0], norm, given[1])
        assert s.dtype == dtype and s.stride() == y.stride()
        grads = torch.autograd.grad(s, [*given, *norm[:2], *neuron.parameters()], out.to(dtype))
        results.append([s.detach(), grads[1], moments, *grads[2:], grads[0]])
    wide, half = results
    for one, other in zip(half[:-1], wide[:-1], strict=True):
        assert torch.equal(one, other.to(one.dtype))
    # Class U rounds the gradient of x between its passes.
    near(half[-1], wide[-1], 2**-7)


def test_half_precision_is_chosen_under_autocast() -> None:
    norm, neuron = BatchNorm(7), arm("lif")
    y = values((4, 3, 7, 9, 5), seed=4).bfloat16().requires_grad_()
    spikes, grads = [], []
    for kernel in ("reference", "native"):
        with using(kernel, "norm_scan"), torch.autocast("cpu", torch.bfloat16):
            s = norm_then_fire(norm, neuron, y)
        assert s.dtype == torch.bfloat16
        spikes.append(s.detach())
        grads.append(torch.autograd.grad(s.float().sum(), y)[0])
    assert (spikes[0] == spikes[1]).float().mean() > 0.98  # the reference rounds the normalised values to bfloat16
    assert ((grads[0] - grads[1]).abs() < 0.02 * grads[0].abs().max()).float().mean() > 0.97


def test_it_says_what_it_refuses() -> None:
    assert all(NATIVE.refuses(facts(arm(name))) is None for name in ARMS)
    assert "of its own" in str(NATIVE.refuses(facts(NEURONS["adaptive"]())))
    assert "float32" in str(NATIVE.refuses(facts(arm("lif"))._replace(dtype=torch.float64, state_dtype=torch.float64)))
    assert NATIVE.refuses(facts(arm("lif"))._replace(dtype=torch.bfloat16)) is None
    with using("reference"):
        assert "'reference'" in str(NATIVE.refuses(facts(arm("lif"))))


def test_only_input_bits_and_moments_are_kept() -> None:
    """Class M: bits; class U: the shortcut, from which the currents are computed again."""
    for name, more in (("lif", 2 / 32), ("lif-open", 1)):
        y, shortcut = (values((4, 2, 8, 8, 8), seed=seed).requires_grad_() for seed in (1, 2))
        neuron, norm, kept = arm(name, 8), parts(8), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            norm_scan_native(neuron, y, norm, shortcut, neuron.fused())
        assert sum(t.numel() * t.element_size() for t in kept) == y.numel() * 4 * (1 + more) + 5 * 8 * 4


def test_a_second_derivative_is_refused(refuses: Callable[..., object]) -> None:
    neuron, y = arm("lif"), values((2, 3, 7, 4)).requires_grad_()
    s = norm_scan_native(neuron, y, parts(7), None, neuron.fused())
    (grad,) = torch.autograd.grad(s.square().sum(), y, create_graph=True)
    with refuses("norm_scan", "differentiated once"):
        grad.sum().backward()
