"""Spiking self-attention: products of queries, keys and values without a softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.checks import integer, one_of, positive
from bitspike.layers.affine import Gain
from bitspike.layers.attention.base import ATTENTION, Attention, own_neuron
from bitspike.layers.attention.products import MatrixProduct
from bitspike.layers.attention.views import TokenView
from bitspike.quantizers import Quantizer

_ORDERS = {"qk": ("first", "second"), "kv": ("second", "none")}


@ATTENTION.register("ssa")
class SpikingSelfAttention(Attention):
    """``y = neuron(norm(W·gate(scale·(q·kᵀ)·v)))`` per head, as ``q·(kᵀ·v)`` where that is fewer products.

    q, k and v are ``neuron(norm(W·x))``, [N, d] per head with d = C/H. Both orders are the same integers: (q·kᵀ)·v
    takes (1 + e)·N²·d products a head and step, q·(kᵀ·v) 2·e·N·d², where values are e times as wide, [N, e·d].

    Source: Spikformer (arXiv 2209.15425), spiking self-attention, and its order of products; scale 0.125. Wide values:
    E-SpikeFormer (arXiv 2411.16061). Differs: any spikes.

    Args:
        scale: > 0. order: "auto" (the one with fewer products; with e = 1 q·(kᵀ·v) where N > d), "qk" (q·kᵀ first) or
            "kv" (kᵀ·v first).
        expand: e >= 1.

    >>> import torch; from bitspike.neurons import LIF
    >>> SpikingSelfAttention(8, 5, LIF(), heads=2)(torch.ones(2, 3, 5, 8)).shape
    torch.Size([2, 3, 5, 8])
    """

    def __init__(
        self,
        channels: int,
        tokens: int,
        neuron: nn.Module,
        weight: Quantizer | None = None,
        heads: int = 1,
        norm: str = "joint",
        gate: nn.Module | None = None,
        output: str = "spikes",
        scale: float = 0.125,
        order: str = "auto",
        expand: int = 1,
    ) -> None:
        positive("SpikingSelfAttention", "scale", scale)
        one_of("SpikingSelfAttention", "order", order, ("auto", "qk", "kv"))
        self.expand: int = integer("SpikingSelfAttention", "expand", expand, 1, 64)  # before its layers are made
        super().__init__(channels, tokens, neuron, weight, heads, norm, gate, output)
        shorter = "kv" if (1 + expand) * tokens * heads > 2 * expand * channels else "qk"
        self.order: str = shorter if order == "auto" else order
        first, second = _ORDERS[self.order]
        self.first: MatrixProduct = MatrixProduct(first)
        self.second: MatrixProduct = MatrixProduct(second)
        self.scale: Gain = Gain(torch.tensor(float(scale)))

    def build(self, neuron: nn.Module, weight: Quantizer | None, norm: str, gate: nn.Module) -> None:
        """q, k and v as heads [C/H, N]: the matrices below are those of the equation, transposed."""
        wide = self.expand * self.channels
        branches = [self.branch(neuron, weight, norm, e) for e in (1, 1, self.expand)]
        views = [TokenView("split", self.tokens, e * self.channels, self.heads) for e in (1, 1, self.expand)]
        q, k, v = (nn.Sequential(*pair) for pair in zip(branches, views, strict=True))
        self.q: nn.Sequential = q
        self.k: nn.Sequential = k
        self.v: nn.Sequential = v
        self.merge: TokenView = TokenView("merge", self.tokens, wide, self.heads)
        self.gate: nn.Module = own_neuron(gate, wide)

    def attend(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → spikes of the weighted sums of values."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        y = self.second(self.first(v, k), q) if self.order == "kv" else self.second(v, self.first(q, k))
        return self.gate(self.scale(self.merge(y)))  # type: ignore[no-any-return]
