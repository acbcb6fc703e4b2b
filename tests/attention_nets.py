"""Small networks of tokens with one attention layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.layers import ATTENTION, Flatten, Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, Neuron
from bitspike.quantizers import Quantizer
from networks import rng

TOKENS, CHANNELS = 5, 6


class TokenNet(nn.Module):
    """Tokens [B, 5, 6] as spikes, attention of two heads, a classifier of all tokens."""

    def __init__(self, name: str, neuron: Neuron, weight: Quantizer | None, T: int, options: dict[str, object]) -> None:
        super().__init__()
        self.encoder, self.first = Repeat(T), LIF(threshold=0.5)
        self.attention = ATTENTION[name](CHANNELS, TOKENS, neuron, weight, heads=2, **options)  # type: ignore[arg-type]
        self.flatten, self.classifier, self.readout = Flatten(), Linear(TOKENS * CHANNELS, 4), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 5, 6] → [B, 4]."""
        return self.readout(self.classifier(self.flatten(self.attention(self.first(self.encoder(x))))))


def token_net(
    name: str, neuron: Neuron, weight: Quantizer | None = None, T: int = 3, seed: int = 0, **options: object
) -> TokenNet:
    """`TokenNet` initialised from a seed, float64; scores weigh ½, so that few tokens are enough to fire."""
    options = {"scale": 0.5, **options} if name == "ssa" else options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TokenNet(name, neuron, weight, T, options).double()


def tokens(count: int, seed: int = 3, scale: float = 1.5) -> Tensor:
    """Normal inputs [B, 5, 6], float64."""
    return scale * torch.randn(count, TOKENS, CHANNELS, generator=rng(seed), dtype=torch.float64)
