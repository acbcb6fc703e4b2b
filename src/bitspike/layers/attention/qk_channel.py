"""QK channel attention: channels whose queries are silent at all tokens are left out."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.layers.attention.base import ATTENTION, Attention, own_neuron
from bitspike.layers.attention.products import Product
from bitspike.layers.attention.views import AxisSum
from bitspike.quantizers import Quantizer


@ATTENTION.register("qk_channel")
class QKChannelAttention(Attention):
    """``y = neuron(norm(W·(a ⊙ k)))``, ``a = gate(Σ_n q)``: one spike per channel, for all tokens of k there.

    Heads are inert here: a sum over tokens knows no other channel. The argument is there as in all variants.

    Source: QKFormer (arXiv 2403.16552), Q-K channel attention.
    Differs: any spikes; a gate of several levels weighs channels instead of only masking them.

    >>> import torch; from bitspike.neurons import LIF
    >>> QKChannelAttention(8, 5, LIF())(torch.ones(2, 3, 5, 8)).shape
    torch.Size([2, 3, 5, 8])
    """

    def build(self, neuron: nn.Module, weight: Quantizer | None, norm: str, gate: nn.Module) -> None:
        """q and k; the gate has one channel per channel."""
        self.q: nn.Sequential = self.branch(neuron, weight, norm)
        self.k: nn.Sequential = self.branch(neuron, weight, norm)
        self.gate: nn.Sequential = nn.Sequential(AxisSum(3), own_neuron(gate, self.channels))
        self.product: Product = Product()

    def attend(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → masked keys."""
        return self.product(self.gate(self.q(x)), self.k(x))  # type: ignore[no-any-return]
