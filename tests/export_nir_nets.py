"""Random networks that NIR can say: binary spikes, hard resets, maps, pools, sums."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, GlobalAvgPool, Linear, MeanReadout, Repeat, SumPool2d
from bitspike.neurons import LIF
from bitspike.upgrade.layers import Convolution
from networks import WEIGHTS, dyadic, rng


class Sum(nn.Module):
    """x + body(x), or a nested or doubled sum of them."""

    def __init__(self, body: nn.Module, form: int) -> None:
        super().__init__()
        self.body, self.form = body, form

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = self.body(x)
        if self.form == 1:
            return y + (x + y)
        return x + x + y if self.form == 2 else x + y


def _neuron(r: random.Random, channels: int) -> nn.Module:
    learned = r.choice((False, True, "channel"))
    decay = r.choice((0.3, 0.5, 0.75)) if learned else r.choice((0.0, 0.25, 0.3, 0.5, 0.9, 1.0))
    train = r.choice(("none", "none", "layer", "channel"))
    neuron = LIF(r.choice((0.3, 0.5, 0.7, 1.0)), decay, learned, train_threshold=train).replicate(
        channels, channel_dim=1
    )
    with torch.no_grad():
        for raw in (neuron.membrane.raw_decay, neuron.membrane.raw_threshold):
            if raw is not None:
                raw.add_(torch.randn(raw.shape, generator=rng(r.randrange(99))) / 4)
    return neuron


def _block(r: random.Random, inputs: int, outputs: int) -> list[nn.Module]:
    weight = WEIGHTS[r.choice(list(WEIGHTS))]()
    norm = [BatchNorm(outputs)] * r.choice((0, 1, 1))
    return [Conv2d(inputs, outputs, 3, 1, 1, bias=not norm, weight=weight), *norm, _neuron(r, outputs)]


def spoken(seed: int) -> tuple[nn.Module, Tensor]:
    """(network in evaluation mode, inputs [B, ...] or sequences [T, B, ...]); the same for the same seed."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    steps, width = r.choice((1, 2, 5)), r.choice((3, 4))
    layers: list[nn.Module] = []
    if seed % 3 == 0:  # 1-D
        conv = Convolution(nn.Conv1d(2, width, 3, r.choice((1, 2)), 2, r.choice((1, 2)), bias=r.random() < 0.5))
        layers += [conv, _neuron(r, width), Flatten()]
        shape: tuple[int, ...] = (2, 11)
    else:
        layers += _block(r, 2, width)
        if r.random() < 0.5:
            layers += [AvgPool2d(2, r.choice((1, 2)), r.choice((0, 1)))] if r.random() < 0.6 else [SumPool2d(2)]
        if r.random() < 0.3:
            grouped = nn.Conv2d(width, width, (3, 1), (2, 1), (1, 0), groups=width, bias=r.random() < 0.5)
            layers += [Convolution(grouped), _neuron(r, width)]
        layers.append(Sum(nn.Sequential(*_block(r, width, width)), r.randrange(3)))
        if r.random() < 0.4:
            layers += [BatchNorm(width), _neuron(r, width)]
        layers.append(GlobalAvgPool() if r.random() < 0.4 else Flatten())
        shape = (2, 6, 5)
    encoded = r.random() < 0.7
    sizes = (6, *shape) if encoded else (steps, 6, *shape)
    x = dyadic(torch.rand(sizes, generator=rng(seed)) * 2 - 0.5)
    head = [Repeat(steps)] if encoded else []
    body = nn.Sequential(*head, *layers)
    with torch.no_grad():
        features = body.eval()(x).shape[-1]
    tail = [Linear(features, 3, weight=WEIGHTS[r.choice(list(WEIGHTS))]())]
    tail += [_neuron(r, 3)] if r.random() < 0.3 else []
    tail += [MeanReadout()] if r.random() < 0.6 else []
    return nn.Sequential(*body, *tail).eval(), x
