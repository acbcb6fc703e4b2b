"""QK token attention: tokens whose queries are silent are left out."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.layers.attention.base import ATTENTION, Attention, own_neuron
from bitspike.layers.attention.products import Product
from bitspike.layers.attention.views import AxisSum, TokenView
from bitspike.quantizers import Quantizer


@ATTENTION.register("qk_token")
class QKTokenAttention(Attention):
    """``y = neuron(norm(W·(a ⊙ k)))``, ``a = gate(Σ_c q)``: one spike per head and token, for all channels of k there.

    q and k are ``neuron(norm(W·x))``; the sum goes over the C/H channels of a head. No values v, and no matrix product:
    2·N·C additions and masks.

    Source: QKFormer (arXiv 2403.16552), Q-K token attention; heads as in multi-head attention.
    Differs: any spikes; a gate of several levels weighs tokens instead of only masking them.

    >>> import torch; from bitspike.neurons import LIF
    >>> QKTokenAttention(8, 5, LIF(), heads=2)(torch.ones(2, 3, 5, 8)).shape
    torch.Size([2, 3, 5, 8])
    """

    def build(self, neuron: nn.Module, weight: Quantizer | None, norm: str, gate: nn.Module) -> None:
        """q and k; the gate has one channel per head."""
        sizes = (self.tokens, self.channels, self.heads)
        self.q: nn.Sequential = self.branch(neuron, weight, norm)
        self.k: nn.Sequential = self.branch(neuron, weight, norm)
        self.gate: nn.Sequential = nn.Sequential(
            TokenView("split", *sizes), AxisSum(3), own_neuron(gate, self.heads), TokenView("spread", *sizes)
        )
        self.product: Product = Product()

    def attend(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → masked keys."""
        return self.product(self.gate(self.q(x)), self.k(x))  # type: ignore[no-any-return]
