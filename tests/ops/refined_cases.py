"""What the operations "squeeze" and "refined" must give: shared by the parity test of the table and their own tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bitspike.layers import Refined, Squeeze
from bitspike.neurons import Neuron
from bitspike.ops import Kernel, using
from neurons.cases import CHANNELS

TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}  # of gradients: sums are taken in another order
EXACT = {"rtol": 0.0, "atol": 0.0}
MEAN = {"rtol": 1e-6, "atol": 1e-7}  # of means, as torch adds up time steps in an order of its own


def outcome(module: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The result and all gradients of a fixed projection of it."""
    leaf = x.detach().clone().requires_grad_()
    leaves = [leaf, *module.parameters()]
    y = run(leaf)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(y)
    grads = torch.autograd.grad((y * weight).sum(), leaves, allow_unused=True)
    return [y.detach(), *(torch.zeros_like(p) if g is None else g for p, g in zip(leaves, grads, strict=True))]


def close(found: list[Tensor], wanted: list[Tensor], first: dict[str, float], rest: dict[str, float]) -> None:
    """The result within a tolerance, gradients within another."""
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        torch.testing.assert_close(one, other, **(rest if place else first))


def compare_refined(name: str, refined: Refined, x: Tensor, exact: bool = False) -> None:
    """A kernel against the modules one after the other, every operation by its reference."""

    def through(leaf: Tensor) -> Tensor:
        with using(name, "refined"):
            return refined(leaf)  # type: ignore[no-any-return]

    def plain(leaf: Tensor) -> Tensor:
        with using("reference"), using("reference", "squeeze"):
            return refined.after(refined.neuron(refined.before(leaf)))  # type: ignore[no-any-return]

    def same(leaf: Tensor) -> Tensor:
        with using("reference"), using("reference", "squeeze"):
            return through(leaf)

    wanted = outcome(refined, x, plain)
    if name == "reference":
        close(outcome(refined, x, same), wanted, EXACT, EXACT)
    else:
        close(outcome(refined, x, through), wanted, EXACT if exact else MEAN, TOLERANCE)


def check_refined(kernel: Kernel, device: str, neuron: Neuron) -> None:
    """The parity test of the table, with T fixed and learned, for one current and for several."""
    for T, given, learned in ((1, 1, True), (2, 1, False), (4, 1, True), (3, 2, True)):
        refined = Refined(neuron, T=T, learn_T=learned).to(device)
        compare_refined(kernel.name, refined, (torch.randn(given, 3, CHANNELS, 4) * 1.5).to(device))


def compare_squeeze(name: str, squeeze: Squeeze, x: Tensor) -> None:
    """A kernel against a sum and a division, which are exact where they have to be."""

    def through(leaf: Tensor) -> Tensor:
        with using(name, "squeeze"):
            return squeeze(leaf)  # type: ignore[no-any-return]

    def plain(leaf: Tensor) -> Tensor:
        y = leaf[0].clone()
        for row in leaf[1:]:
            y = y + row
        raw = squeeze.raw_steps
        divisor = len(leaf) if raw is None else len(leaf) + (raw - raw.detach())
        y = y if squeeze.summed or (raw is None and len(leaf) == 1) else y / divisor
        return y.unsqueeze(0).expand(squeeze.T, *y.shape)

    close(outcome(squeeze, x, through), outcome(squeeze, x, plain), EXACT if name == "native" else MEAN, TOLERANCE)


def check_squeeze(kernel: Kernel, device: str, neuron: Neuron) -> None:
    """The parity test of the table; the spikes of the neuron are what is averaged."""
    for given, T in ((1, 1), (2, 1), (4, 1), (3, 2), (8, 3), (32, 1)):
        x = neuron(torch.randn(given, 3, CHANNELS, 7) * 1.5).detach().to(device)
        for squeeze in (Squeeze(T), Squeeze(T, learned=2.0)):
            compare_squeeze(kernel.name, squeeze.to(device), x)
