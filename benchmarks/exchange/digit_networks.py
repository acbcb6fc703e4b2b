"""Small networks, trained for some seconds on scikit-learn's digits, that exchange formats are tried on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, Neuron
from bitspike.quantizers import Sign

T = 4


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images [N, 1, 8, 8] in [0, 1], steps of 1/16, and their labels."""
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(data.target)
    return x[:1297], x[1297:], y[:1297], y[1297:]


class Residual(nn.Module):
    """A convolution whose spikes are added to those it read."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.conv, self.norm, self.neuron = Conv2d(8, 8, 3, padding=1), BatchNorm(8), neuron

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, 8, H, W] → the same shape."""
        return x + self.neuron(self.norm(self.conv(x)))


def _dense(neuron: Callable[[], Neuron], weight: Sign | None = None) -> list[nn.Module]:
    norm = [BatchNorm(48)] if weight is not None else []
    hidden = Linear(48, 48, bias=weight is None, weight=weight)
    return [Flatten(), Linear(64, 48), neuron(), hidden, *norm, neuron(), Linear(48, 10)]


def _images(middle: list[nn.Module], features: int) -> list[nn.Module]:
    first = [Conv2d(1, 8, 3, padding=1), BatchNorm(8), LIF(decay=0.5)]
    return [*first, *middle, Flatten(), Linear(features, 10)]


NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "dense, decay 0.5": lambda: _dense(lambda: LIF(decay=0.5)),
    "dense, decay 0.3": lambda: _dense(lambda: LIF(decay=0.3, threshold=0.7)),
    "dense, no leak": lambda: _dense(lambda: LIF(decay=1.0)),
    "dense, weights of ±1": lambda: _dense(lambda: LIF(decay=0.5), Sign("layer")),
    "dense, decays learned": lambda: _dense(lambda: LIF(decay=0.5, learn_decay=True)),
    "dense, on a grid": lambda: _dense(lambda: LIF(decay=0.5)),
    "strided convolution": lambda: _images(
        [Conv2d(8, 16, 3, stride=2, padding=1), BatchNorm(16), LIF(decay=0.5)], 16 * 16
    ),
    "mean pool": lambda: _images([AvgPool2d(2), Conv2d(8, 16, 3, padding=1), BatchNorm(16), LIF(decay=0.5)], 16 * 16),
    "residual": lambda: _images([Residual(LIF(decay=0.5))], 8 * 64),
}


def fit(net: nn.Module, x: Tensor, y: Tensor, rate: float, epochs: int) -> None:
    """Some passes over the images; the network is in evaluation mode then."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    net.eval()


def trained(name: str, epochs: int = 12) -> nn.Module:
    """A network of the list after some passes over the training images; that on a grid has weights k/16."""
    torch.manual_seed(0)
    net = nn.Sequential(Repeat(T), *NETWORKS[name](), MeanReadout())
    x, _, y, _ = digits()
    fit(net, x, y, 0.01, epochs)
    if "grid" in name:
        with torch.no_grad():
            for p in net.parameters():
                p.copy_((p * 16).round() / 16)
    return net
