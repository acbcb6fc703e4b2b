"""Batch norm over time against torch.nn.BatchNorm: joint, per step, threshold-dependent; evaluation; gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike.layers import BatchNorm

C = 5
SHAPES = {"features": (4, 6, C), "images": (3, 2, C, 4, 3), "one step": (1, 7, C), "one sample": (2, 1, C, 3, 3)}


def pair(mode: str, shape: tuple[int, ...], **options: float) -> tuple[BatchNorm, nn.Module]:
    """Ours and torch's with the same random parameters and running statistics."""
    ours = BatchNorm(C, mode, **options).double()
    torchs = (nn.BatchNorm1d if len(shape) == 3 else nn.BatchNorm2d)(C, ours.eps, ours.momentum).double()
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    ours.running_mean.normal_()
    ours.running_var.uniform_(0.5, 2.0)
    torchs.load_state_dict(ours.state_dict(), strict=False)
    return ours, torchs


def outcome(module: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Output, gradients of input and parameters, running statistics."""
    x = x.clone().requires_grad_()
    y = run(x)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    gradients = torch.autograd.grad((y * weight).sum(), [x, module.weight, module.bias])  # type: ignore[list-item]
    return [y.detach(), *gradients, module.running_mean, module.running_var]  # type: ignore[list-item]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_joint_is_torch_on_the_merged_batch(shape: tuple[int, ...]) -> None:
    ours, torchs = pair("joint", shape)
    x = torch.randn(shape, dtype=torch.float64) * 2 + 1
    wanted = outcome(torchs, x, lambda x: torchs(x.flatten(0, 1)).unflatten(0, shape[:2]))
    for one, other in zip(outcome(ours, x, ours), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [SHAPES["features"], SHAPES["images"]], ids=str)
def test_per_step_is_torch_step_by_step(shape: tuple[int, ...]) -> None:
    """The running statistics move T times a batch; every step has mean β and spread |γ|."""
    ours, torchs = pair("per_step", shape)
    x = torch.randn(shape, dtype=torch.float64) + torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    wanted = outcome(torchs, x, lambda x: torch.stack([torchs(step) for step in x]))
    found = outcome(ours, x, ours)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    axes = [a for a in range(1, len(shape)) if a != 2]
    torch.testing.assert_close(found[0].mean(axes), ours.bias.detach().expand(shape[0], C), rtol=0, atol=1e-9)
    assert int(torchs.num_batches_tracked) == shape[0]  # type: ignore[arg-type]


def test_the_modes_differ_where_steps_differ() -> None:
    x = torch.randn(3, 8, C) + torch.arange(3).reshape(-1, 1, 1) * 3.0
    assert (BatchNorm(C, "per_step")(x) - BatchNorm(C)(x)).abs().max() > 0.5


@pytest.mark.parametrize("shape", [SHAPES["features"], SHAPES["images"]], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_threshold_scales_the_normalised_value_and_not_the_shift(shape: tuple[int, ...], training: bool) -> None:
    """tdBN: γ·(α·θ·x̂) + β."""
    ours, torchs = pair("threshold", shape, threshold=0.5, alpha=1.5)
    ours.train(training)
    torchs.train(training)
    x = torch.randn(shape, dtype=torch.float64)
    plain = torchs(x.flatten(0, 1)).unflatten(0, shape[:2]).detach()
    beta = ours.bias.detach().reshape(-1, *[1] * (len(shape) - 3))
    torch.testing.assert_close(ours(x).detach(), (plain - beta) * 0.75 + beta, rtol=1e-12, atol=1e-12)


def test_threshold_gives_the_membrane_its_spread() -> None:
    """With γ = 1, β = 0 the output has mean 0 and standard deviation α·θ (arXiv 2011.05280)."""
    y = BatchNorm(C, "threshold", threshold=0.5, alpha=1.5).double()(torch.randn(8, 64, C, dtype=torch.float64) * 9)
    assert y.mean((0, 1)).abs().max() < 1e-12
    torch.testing.assert_close(y.std((0, 1), correction=0), torch.full((C,), 0.75).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", ["joint", "per_step", "threshold"])
@pytest.mark.parametrize("shape", [SHAPES["features"], SHAPES["images"]], ids=str)
def test_evaluation_is_the_affine_map(mode: str, shape: tuple[int, ...]) -> None:
    norm = pair(mode, shape, threshold=0.5)[0].eval()
    norm.running_var[0], norm.weight.data[1], norm.weight.data[2] = 1e-7, 0.0, -2.0
    before = copy.deepcopy(norm.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    scale, shift = norm.affine()
    wide = [1, 1, C, *[1] * (len(shape) - 3)]
    torch.testing.assert_close(norm(x).detach(), scale.reshape(wide) * x + shift.reshape(wide), rtol=1e-9, atol=1e-9)
    assert scale.dtype == torch.float64 and not scale.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    alone = torch.cat([norm(x[:, i : i + 1]) for i in range(shape[1])], 1)
    # No sample sees another. Not bit for bit: torch's kernel rounds differently for other sizes.
    torch.testing.assert_close(alone, norm(x), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BatchNorm(0), ["channels"]),
        (lambda: BatchNorm(3, "joined"), ["mode", "did you mean 'joint'?"]),
        (lambda: BatchNorm(3, threshold=0.0), ["threshold"]),
        (lambda: BatchNorm(3, alpha=-1.0), ["alpha"]),
        (lambda: BatchNorm(3, eps=0.0), ["eps"]),
        (lambda: BatchNorm(3)(torch.zeros(2, 2, 4)), ["[T, B, 3, ...]", "got [2, 2, 4]"]),
        (lambda: BatchNorm(3)(torch.zeros(2, 3)), ["3 axes", "got [2, 3]"]),
        (lambda: BatchNorm(3)(torch.zeros(0, 2, 3)), ["T (axis 0) must be >= 1"]),
    ],
)
def test_bad_input(make: Callable[[], object], words: list[str], refuses: Any) -> None:
    with refuses("BatchNorm", *words):
        make()


def test_one_sample_has_the_right_gradient_whatever_the_order_of_memory() -> None:
    """A gradient [1, C, H, W] whose first stride means nothing; torch's own backward pass misreads it."""
    generator = torch.Generator().manual_seed(0)
    norm = BatchNorm(5).double()
    x = torch.randn(1, 1, 5, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    g = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator)
    odd = g.as_strided((1, 1, 5, 2, 3), (5, 5, 1, 15, 5))
    found = [torch.autograd.grad(norm(x), x, given)[0] for given in (odd, odd.clone().contiguous())]
    flat = x.detach().reshape(5, 6)
    hat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    given = g.movedim(-1, 0).reshape(5, 6)
    right = given - given.mean(1, keepdim=True) - hat * (given * hat).mean(1, keepdim=True)
    right = right / (flat.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    for gradient in found:
        torch.testing.assert_close(gradient.reshape(5, 6), right)


@pytest.mark.parametrize("mode", ["joint", "per_step", "threshold"])
def test_cumulative_averages_are_refused_and_not_met_in_training(mode: str) -> None:
    """torch's momentum=None once passed here and crashed in the first training step."""
    with pytest.raises(ValueError, match=r"BatchNorm: momentum must be a number in \[0, 1\].*got None; pass"):
        BatchNorm(C, mode, momentum=None)  # type: ignore[arg-type]
    norm = BatchNorm(C, mode)
    for value, kind in ((None, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("0.1", TypeError)):
        with pytest.raises(kind, match="BatchNorm: momentum must"):
            norm.momentum = value  # type: ignore[assignment]
    with pytest.raises(ValueError, match="BatchNorm: eps must lie in"):
        norm.eps = -1.0
    assert (norm.momentum, norm.eps) == (0.1, 1e-5)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("affine", "freeze weight and bias"), ("track_running_stats", "call train"), ("num_features", "make a new one")],
)
def test_attributes_of_torchs_norm_are_not_ignored(name: str, remedy: str) -> None:
    """``affine`` once hid the method of that name, so that folding failed; the others did nothing."""
    norm = BatchNorm(C)
    with pytest.raises(AttributeError, match=f"BatchNorm: {name} is fixed when it is made, got False; .*{remedy}"):
        setattr(norm, name, False)
    assert norm.affine()[0].shape == (C,)
