"""Terms added to the loss: penalties of spike rate and set bits, and pulls on parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value, one_of
from bitspike.functional import popcount
from bitspike.graph import trace
from bitspike.layers import step_mask, valid_lengths
from bitspike.neurons import Neuron
from bitspike.neurons.emission import Emission


class SpikePenalty:
    """``weight · mean_l (activity_l − target)²``, or of the activity of the whole network; one- or two-sided.

    Activity is the share of non-zero spikes ("rate") or the mean number of set bits ("bits") per neuron and step.
    Both pass gradients straight through: the rate that of min(|k|, 1), the set bits that of their secant
    bits/max|k|·|k| (our choice; a popcount has no derivative).

    Args:
        kind: "rate" or "bits". weight: >= 0. target: activity aimed at.
        per_layer: each layer has the target; else the mean over all neurons.
        side: "both", or "above": activity below the target costs nothing.
    """

    def __init__(self, kind: str, weight: float, target: float, per_layer: bool, side: str = "both") -> None:
        self.kind: str = one_of("SpikePenalty", "kind", kind, ("rate", "bits"))
        self.side: str = one_of("SpikePenalty", "side", side, ("both", "above"))
        self.weight: float = weight
        self.target: float = target
        self.per_layer: bool = per_layer

    def __call__(self, neurons: Sequence[Neuron], spikes: Sequence[Tensor]) -> Tensor:
        """The penalty [] of the spikes [T, B, ...] that these neurons sent; in `padded` of the steps that are."""
        lengths, sums, sizes = valid_lengths(), [], []
        for neuron, sent in zip(neurons, spikes, strict=True):
            if lengths is None:
                sums.append(self._total(neuron, sent))
                sizes.append(sent.numel())
            else:
                activity = self._activity(neuron, sent)[step_mask(lengths, len(sent))]
                sums.append(activity.sum())
                sizes.append(activity.numel())
        if self.per_layer:
            means = torch.stack([s / n for s, n in zip(sums, sizes, strict=True)])
        else:
            means = torch.stack(sums).sum() / sum(sizes)
        excess = means - self.target
        if self.side == "above":
            excess = excess.clamp(min=0)
        return self.weight * excess.square().mean()

    def _total(self, neuron: Neuron, spikes: Tensor) -> Tensor:
        """Sum [] of the activity; rates of integers in fixed units of a power of two take one pass instead of six."""
        emission = neuron.emission
        fixed = type(emission) is Emission and (emission.initial, emission.train_kind, emission.slope) == (1, "none", 1)
        if self.kind != "rate" or neuron.format.real or not fixed:
            return self._activity(neuron, spikes).sum()
        unit = 2.0**-emission.fraction_bits
        size = spikes.abs() if neuron.format.signed else spikes
        if neuron.format.high > 1:
            size = size.clamp(max=unit)
        return _Sum.apply(size) / unit

    def _activity(self, neuron: Neuron, spikes: Tensor) -> Tensor:
        spikes = spikes.to(torch.promote_types(spikes.dtype, torch.float32))
        k = spikes / neuron.emission.over(spikes).to(spikes)  # attached: activity does not depend on the amplitude
        k = neuron.emission.unscale_negative(k)
        if not neuron.format.real:  # integers, though bfloat16 spikes are rounded
            k = k + (k.round() - k).detach()
        if neuron.format.signed:  # elsewhere |k| = k, and abs() would cut the gradient of silent neurons
            k = k.abs()
        if neuron.format.real:
            fired = (k.detach() > 0).to(k.dtype)
            through = (k - k.detach()) * fired
            return (fired + through) * (32.0 if self.kind == "bits" else 1.0)
        if self.kind == "rate":
            return torch.where(k.detach() <= 1, k, torch.ones_like(k))
        slope = neuron.format.bits / neuron.format.high
        return popcount(k.detach(), 16) + slope * (k - k.detach())


class _Sum(torch.autograd.Function):
    """Sum in float32 at least, whose gradient is one number: torch's own of bfloat16 is a tensor in another layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.like = (x.shape, x.dtype)
        return x.sum(dtype=torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        shape, dtype = ctx.like
        return grad.to(dtype).expand(shape)


class WithPenalty(nn.Module):
    """A network and its penalties in one forward pass: several processes reduce both, `torch.compile` takes both.

    Args:
        model: the network; its layers are shared, not copied. penalty: of its spikes; None for 0.
        pull: a module that gives a further penalty [] of the parameters; None for 0.

    Raises:
        ValueError: a penalty for a network without neurons.
    """

    def __init__(self, model: nn.Module, penalty: SpikePenalty | None, pull: nn.Module | None = None) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.penalty: SpikePenalty | None = penalty
        self.pull: nn.Module | None = pull
        if penalty is None:
            return
        graph = trace(model)
        nodes = [(node.name, node.module) for node in graph if isinstance(node.module, Neuron)]
        if not nodes:
            raise bad_value("SpikePenalty", "the network must have neurons", "none", "drop the regulariser")
        names, neurons = zip(*nodes, strict=True)
        self.neurons: tuple[Neuron, ...] = neurons
        self.showing: fx.GraphModule = graph.showing(names)

    def forward(self, x: Tensor, share: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples → (output of the network, penalty []); share [] is the part of the spikes' penalty that counts."""
        further = x.new_zeros(()) if self.pull is None else self.pull()
        if self.penalty is None:
            return self.model(x), further
        output, spikes = self.showing(x)
        of_spikes = self.penalty(self.neurons, spikes)
        return output, (of_spikes if share is None else of_spikes * share) + further


class _Total(nn.Module):
    def __init__(self, terms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)

    def forward(self) -> Tensor:
        return torch.stack([term() for term in self.terms]).sum()


def total(terms: Sequence[nn.Module]) -> nn.Module | None:
    """One module for the sum of several penalties []; None for none."""
    return _Total(terms) if len(terms) > 1 else terms[0] if terms else None
