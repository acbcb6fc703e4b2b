"""Ordinary networks after today's designs, small enough to be trained on digits of 8 × 8 pixels in seconds."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.data import Batches, Splits

Kind = Callable[[], nn.Module]


def conv(
    inputs: int, outputs: int, kernel: int, act: Kind, stride: int = 1, groups: int = 1, gap: int = 1
) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, gap * (kernel // 2), gap, groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), act())


class Excite(nn.Module):
    """Squeeze and excite: a gate a channel."""

    def __init__(self, channels: int, act: Kind, gate: Kind) -> None:
        super().__init__()
        self.pool, self.act, self.gate = nn.AdaptiveAvgPool2d(1), act(), gate()
        self.reduce, self.widen = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.widen(self.act(self.reduce(self.pool(x)))))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """Inverted residual with a gate."""

    def __init__(self, inputs: int, outputs: int, stride: int, act: Kind, inner: Kind, gate: Kind) -> None:
        super().__init__()
        wide = 3 * inputs
        parts = [conv(inputs, wide, 1, act), conv(wide, wide, 3, act, stride, wide), Excite(wide, inner, gate)]
        self.body = nn.Sequential(*parts, nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.passes = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.passes else self.body(x)  # type: ignore[no-any-return]


def mobile() -> nn.Module:
    """After MobileNet v3: hard swish, hard sigmoid gates."""
    kinds = (nn.Hardswish, nn.ReLU, nn.Hardsigmoid)
    blocks = [Inverted(8, 8, 1, *kinds), Inverted(8, 16, 2, *kinds), Inverted(16, 16, 1, *kinds)]
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = (nn.Linear(32, 32), nn.Hardswish(), nn.Linear(32, 10))
    return nn.Sequential(conv(1, 8, 3, nn.Hardswish), *blocks, conv(16, 32, 1, nn.Hardswish), *pool, *head)


def efficient() -> nn.Module:
    """After EfficientNet: SiLU, sigmoid gates, dropout."""
    kinds = (nn.SiLU, nn.SiLU, nn.Sigmoid)
    blocks = [Inverted(8, 8, 1, *kinds), Inverted(8, 16, 2, *kinds), Inverted(16, 16, 1, *kinds)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10))
    return nn.Sequential(conv(1, 8, 3, nn.SiLU), *blocks, conv(16, 32, 1, nn.SiLU), *head)


class Next(nn.Module):
    """After ConvNeXt: depthwise 5 × 5, a norm, two linear maps of channels in the last axis with GELU between."""

    def __init__(self, channels: int, layer_norm: bool) -> None:
        super().__init__()
        self.deep, self.layer_norm = nn.Conv2d(channels, channels, 5, padding=2, groups=channels), layer_norm
        self.norm = nn.LayerNorm(channels) if layer_norm else nn.BatchNorm2d(channels)
        self.up, self.act, self.down = nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.deep(x)
        y = self.norm(y.permute(0, 2, 3, 1)) if self.layer_norm else self.norm(y).permute(0, 2, 3, 1)
        return x + (self.gamma * self.down(self.act(self.up(y)))).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def following(layer_norm: bool) -> nn.Module:
    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(1, channels) if layer_norm else nn.BatchNorm2d(channels)

    parts = [nn.Conv2d(1, 12, 2, 2), norm(12), Next(12, layer_norm), Next(12, layer_norm), norm(12)]
    parts += [nn.Conv2d(12, 24, 2, 2), Next(24, layer_norm), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(24, 10))


class Branched(nn.Module):
    """After Inception: 1×1, grouped, dilated and pooled branches side by side, then a dilated depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = conv(1, 8, 3, nn.GELU), conv(8, 4, 1, nn.GELU)
        self.grouped, self.dilated = conv(8, 8, 3, nn.GELU, groups=4), conv(8, 4, 3, nn.SiLU, gap=2)
        self.pool, self.mixed = nn.MaxPool2d(3, 1, 1), conv(24, 16, 3, nn.GELU, 2)
        self.deep, self.head = conv(16, 16, 3, nn.GELU, groups=16, gap=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.point(x), self.grouped(x), self.dilated(x), self.pool(x)], 1)
        return self.head(self.deep(self.mixed(x)).mean((2, 3)))  # type: ignore[no-any-return]


ANNS: dict[str, Kind] = {
    "mobile": mobile,
    "efficient": efficient,
    "next": lambda: following(False),
    "next, measured norms": lambda: following(True),
    "branched": Branched,
}


def trained(name: str, digits: Splits, epochs: int = 6) -> nn.Module:
    """One of `ANNS`, seeds fixed, trained for some epochs; in evaluation mode."""
    torch.manual_seed(0)
    net = ANNS[name]()
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-2, epochs * len(Batches(digits.train, 32, shuffle=True))
    )
    for epoch in range(epochs):
        for x, labels in Batches(digits.train, 32, shuffle=True, epoch=epoch):
            optimiser.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimiser.step()
            schedule.step()
    return net.eval()
