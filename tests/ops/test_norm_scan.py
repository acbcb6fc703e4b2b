"""The native batch norm with its scan equals its own affine map and the native scan bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike import native
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


def arm(name: str) -> Neuron:
    return NEURONS[name.split("-")[0]](**ARMS[name])


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("isa", native.available_isas())
def test_every_length_size_and_layout(name: str, isa: str) -> None:
    neuron = arm(name)
    with native.isa(isa):
        for shape in SHAPES:
            for last in (False, True) if len(shape) == 5 else (False,):
                y = values(shape, last)
                check_native(neuron, y)
                check_native(neuron, y, values(shape, last, seed=9).round())


@pytest.mark.parametrize("last", [False, True])
def test_several_blocks_and_results_past_the_caches(last: bool) -> None:
    shape = (4, 32, 16, 32, 32)
    s = check_native(arm("lif"), values(shape, last), torch.rand(shape).round())
    assert 0.02 < s.mean() < 0.98


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
                    s, moments = raw(arm(name), leaf, norm, added)
                    grads = torch.autograd.grad(
                        s, [leaf, added, *norm[:2]], torch.linspace(-1, 1, 17 * 19).view(17, 19).expand_as(s)
                    )
                    results.append([s.detach(), moments, *grads])
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, results[0], strict=True))


@pytest.mark.parametrize("name", ARMS)
def test_float64_agrees_where_no_spike_flips(name: str) -> None:
    y, neuron = values((4, 6, 7, 9, 8), last=True), arm(name)
    outcomes = []
    for dtype in (torch.float32, torch.float64):
        norm, leaf = parts(7, dtype), y.to(dtype).requires_grad_()
        with using("reference" if dtype == torch.float64 else "native", "norm_scan"):
            kernel = NATIVE if dtype == torch.float32 else next(k for k in table() if k.operation == "norm_scan")
            s = kernel.function(neuron, leaf, norm, None, neuron.fused())
        out = torch.linspace(-1, 1, s.numel(), dtype=torch.float64).reshape(s.shape).to(dtype)
        outcomes.append([s.detach(), *torch.autograd.grad(s, [leaf, *norm[:2]], out), *norm[2:4]])
    assert torch.equal(outcomes[0][0].double().round(decimals=5), outcomes[1][0].round(decimals=5)) or name == "real"
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


def test_it_says_what_it_refuses() -> None:
    assert NATIVE.refuses(facts(arm("lif"))) is None
    assert "detached reset" in str(NATIVE.refuses(facts(NEURONS["lif"](surrogate="atan", detach_reset=False))))
    assert "float32" in str(NATIVE.refuses(facts(arm("lif"))._replace(dtype=torch.float64, state_dtype=torch.float64)))
    assert "float32" in str(NATIVE.refuses(facts(arm("lif"))._replace(dtype=torch.bfloat16)))
    with using("reference"):
        assert "'reference'" in str(NATIVE.refuses(facts(arm("lif"))))


def test_only_input_bits_and_moments_are_kept() -> None:
    neuron, y, norm = arm("lif"), values((4, 2, 8, 8, 8)).requires_grad_(), parts(8)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        norm_scan_native(neuron, y, norm, None, neuron.fused())
    assert sum(t.numel() * t.element_size() for t in kept) == y.numel() * 4 + y.numel() * 2 // 8 + 5 * 8 * 4


def test_a_second_derivative_is_refused(refuses: Callable[..., object]) -> None:
    neuron, y = arm("lif"), values((2, 3, 7, 4)).requires_grad_()
    s = norm_scan_native(neuron, y, parts(7), None, neuron.fused())
    (grad,) = torch.autograd.grad(s.square().sum(), y, create_graph=True)
    with refuses("norm_scan", "differentiated once"):
        grad.sum().backward()
