"""What the operation "norm_scan" must give: shared by the parity test of the table and by its own tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.neurons import Neuron
from bitspike.ops import Kernel, NormParts, ScanFacts, ScanSpec, scan, using
from neurons.cases import CHANNELS

TOLERANCE = 2e-5  # of gradients, times the largest one: sums over a channel are taken in another order
EPS, MOMENTUM = 1e-5, 0.1


def parts(channels: int, dtype: torch.dtype = torch.float32, grad: bool = True, seed: int = 5) -> NormParts:
    """Random parameters: γ positive, negative, tiny and zero in turn."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5
    weight[1::5] *= -1
    weight[2::5] *= 1e-3
    weight[4::5] = 0
    bias = torch.rand(channels, generator=generator, dtype=torch.float64) * 0.6
    mean, var = torch.randn(channels, generator=generator), torch.rand(channels, generator=generator) + 0.5
    leaves = [p.to(dtype).requires_grad_(grad) for p in (weight, bias)]
    return NormParts(leaves[0], leaves[1], mean.to(dtype), var.to(dtype), MOMENTUM, EPS)


def values(shape: tuple[int, ...], last: bool = False, seed: int = 1, mean: float = 0.7) -> Tensor:
    """[T, B, C, ...] with another mean and deviation in every channel; channels-last through time if asked."""
    generator = torch.Generator().manual_seed(seed)
    channel = [1, 1, shape[2], *[1] * (len(shape) - 3)]
    spread = (torch.rand(shape[2], generator=generator) + 0.5).reshape(channel)
    y = torch.randn(shape, generator=generator) * spread + mean * torch.randn(shape[2], generator=generator).reshape(
        channel
    )
    return y.movedim(2, -1).contiguous().movedim(-1, 2) if last else y


def over(given: Tensor, y: Tensor) -> Tensor:
    """[C] shaped to act on [T, B, C, ...]."""
    return given.reshape(1, 1, -1, *[1] * (y.dim() - 3))


def raw(neuron: Neuron, y: Tensor, norm: NormParts, shortcut: Tensor | None) -> tuple[Tensor, Tensor]:
    """Spikes and [mean, 1/deviation, unbiased variance, scale, shift] of the native operator."""
    spec = neuron.fused()
    assert isinstance(spec, ScanSpec)
    given = y, norm.weight, norm.bias, shortcut, spec.decay, spec.amplitude
    s, moments, _ = torch.ops.bitspike.norm_scan(*given, norm.eps, list(spec.codes), list(spec.numbers), True)
    return s, moments.detach()


def check_native(neuron: Neuron, y: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """Spikes bit for bit those of the scan of scale·y + shift (+ shortcut), gradients those of its composition."""
    norm = parts(y.shape[2])
    y = y.detach().requires_grad_()
    if shortcut is not None:
        shortcut = shortcut.detach().requires_grad_()
    s, moments = raw(neuron, y, norm, shortcut)

    wide = y.detach().double()
    axes = [axis for axis in range(y.dim()) if axis != 2]
    variance, mean = torch.var_mean(wide, axes, correction=0)
    deviation = (variance + EPS).sqrt()
    near(moments[0] / deviation, mean / deviation, 1e-6)
    torch.testing.assert_close(moments[1].double(), 1 / deviation, rtol=1e-6, atol=0)
    torch.testing.assert_close(moments[2].double(), wide.var(axes), rtol=1e-6, atol=1e-12)
    assert torch.equal(moments[3], norm.weight * moments[1])
    assert torch.equal(moments[4], norm.bias - moments[0] * moments[3])

    with torch.no_grad():
        x = y * over(moments[3], y) + over(moments[4], y)
        x = x if shortcut is None else x + shortcut
    x.requires_grad_()
    with using("native"):
        wanted = neuron(x)
    assert torch.equal(s, wanted)
    assert s.stride() == y.stride()

    out = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    own = list(neuron.parameters())
    grad_x, *by_neuron = torch.autograd.grad(wanted, [x, *own], out)
    leaves = [wide.requires_grad_(), *(p.detach().double().requires_grad_() for p in norm[:2])]
    z = F.batch_norm(leaves[0].flatten(0, 1), None, None, *leaves[1:], training=True, eps=EPS)
    expected = torch.autograd.grad(z.unflatten(0, y.shape[:2]), leaves, grad_x.double())
    given = [y, norm.weight, norm.bias, *([] if shortcut is None else [shortcut])]
    found = torch.autograd.grad(s, [*given, *own], out)
    for one, other in zip(found, expected, strict=False):
        near(one, other, TOLERANCE)
    for one, other in zip(found[len(given) :], by_neuron, strict=True):
        near(one, other, TOLERANCE)
    if shortcut is not None:
        assert torch.equal(found[3], grad_x)
    return s.detach()


def near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Equal to a part of the largest magnitude, or of 1."""
    limit = tolerance * max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.double(), wanted.double(), rtol=0, atol=limit)


def check_norm_scan(kernel: Kernel, device: str, neuron: Neuron) -> None:
    """The parity test of the table: the reference is batch norm and a plain loop, exactly."""
    neuron = neuron.to(device)
    for shape in ((1, 3, CHANNELS, 4), (4, 3, CHANNELS, 4)):
        y, shortcut = values(shape).to(device), torch.rand(shape).to(device)
        if kernel.name != "reference":
            check_native(neuron, y, shortcut)
            continue
        results = []
        for plain in (False, True):
            norm, leaf = parts(CHANNELS), y.clone().requires_grad_()
            norm = NormParts(*(p.detach().to(device) for p in norm[:4]), MOMENTUM, EPS)
            leaves = [leaf, norm.weight.requires_grad_(), norm.bias.requires_grad_(), *neuron.parameters()]
            if plain:
                z = F.batch_norm(leaf.flatten(0, 1), *norm[2:4], *norm[:2], True, MOMENTUM, EPS).view(shape) + shortcut
                s = scan(neuron.step, z, neuron.initial_state(z[0]))[0]
            else:
                with using("reference"):
                    s = kernel.function(neuron, leaf, norm, shortcut, neuron.fused())
            grads = torch.autograd.grad(s, leaves, shortcut, allow_unused=True)
            results.append([s.detach(), *norm[2:4], *(g for g in grads if g is not None)])
        for one, other in zip(*results, strict=True):
            assert torch.equal(one, other)


def facts(neuron: Neuron) -> ScanFacts:
    return ScanFacts(neuron.fused(), torch.float32, torch.float32)
