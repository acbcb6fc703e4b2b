"""Spike-driven self-attention: a mask of channels from queries and keys that fire together."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.layers.attention.base import ATTENTION, Attention, own_neuron
from bitspike.layers.attention.products import Product
from bitspike.layers.attention.views import AxisSum
from bitspike.quantizers import Quantizer


@ATTENTION.register("sdsa")
class SpikeDrivenAttention(Attention):
    """``y = norm(W·(g ⊙ v))``, ``g = gate(Σ_n q ⊙ k)``: with binary spikes masks and additions alone.

    q, k and v are ``neuron(norm(W·x))``; g is one spike per channel, for all tokens. ``output="current"`` is the
    paper's, whose shortcuts add currents; a neuron is last by default, as in the other variants. Heads are inert here:
    a sum over tokens knows no other channel.

    Source: Spike-driven Transformer (arXiv 2307.01694), spike-driven self-attention.
    Differs: any spikes; a gate of several levels weighs channels instead of only masking them.

    >>> import torch; from bitspike.neurons import LIF
    >>> SpikeDrivenAttention(8, 5, LIF())(torch.ones(2, 3, 5, 8)).shape
    torch.Size([2, 3, 5, 8])
    """

    def build(self, neuron: nn.Module, weight: Quantizer | None, norm: str, gate: nn.Module) -> None:
        """q, k and v; the gate has one channel per channel."""
        self.q: nn.Sequential = self.branch(neuron, weight, norm)
        self.k: nn.Sequential = self.branch(neuron, weight, norm)
        self.v: nn.Sequential = self.branch(neuron, weight, norm)
        self.together: Product = Product()
        self.masked: Product = Product()
        self.gate: nn.Sequential = nn.Sequential(AxisSum(3), own_neuron(gate, self.channels))

    def attend(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → masked values."""
        return self.masked(self.gate(self.together(self.q(x), self.k(x))), self.v(x))  # type: ignore[no-any-return]
