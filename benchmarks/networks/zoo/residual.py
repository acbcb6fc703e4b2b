"""Residual networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image


def conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Basic(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv1(x))
        out = self.conv2(out)
        out += self.shortcut(x)
        return F.relu(out)


@case("resnet", image())
def resnet() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8),
        nn.ReLU(),
        Basic(8, 8),
        Basic(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


@case("resnet, zero-padded shortcut", image())
class PaddedShortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv_norm(3, 8), conv_norm(8, 16, 3, 2), conv_norm(16, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = F.relu(self.b(F.relu(self.a(x))) + short)
        return self.fc(F.avg_pool2d(x, x.size()[3]).flatten(1))


class PreActivation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + x


@case("pre-activation resnet", image())
def preactivation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        PreActivation(8),
        PreActivation(8),
        nn.ReLU(),
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


class Bottleneck(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.reduce, self.inner, self.grow = (
            conv_norm(width, 8, 1),
            conv_norm(8, 8, 3, 1, groups),
            conv_norm(8, width, 1),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.inner(self.relu(self.reduce(x))))
        return self.relu(torch.add(self.grow(out), x))


@case("resnext", image())
def resnext() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 16, 3, 2), nn.ReLU(), Bottleneck(16, 4), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    )


class Sew(nn.Module):
    """``h + spike(h)``: the sum of spikes of SEW."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(width, width), nn.ReLU(), conv_norm(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@case("sew: sums of spikes", image())
def sew() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.ReLU(), Sew(8), Sew(8), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 5)
    )


class DropConnect(nn.Module):
    """Stochastic depth as torchvision's and EfficientNet's codes have it."""

    def __init__(self, width: int, p: float = 0.2) -> None:
        super().__init__()
        self.body, self.p = conv_norm(width, width), p

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        if self.training and self.p > 0:
            keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype) >= self.p
            out = out * keep / (1 - self.p)
        return F.relu(out + x)


@case("drop-connect", image())
def drop_connect() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.ReLU(), DropConnect(8), DropConnect(8), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(8, 5)
    )


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv_norm(width, width)
        self.fc = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        b, c, _, _ = y.shape
        scale = self.fc(F.adaptive_avg_pool2d(y, 1).view(b, c)).view(b, c, 1, 1)
        return F.relu(y * scale.expand_as(y) + x)


@case("squeeze-and-excite", image())
def squeeze_excite() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.ReLU(), SqueezeExcite(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 5)
    )


@case("residual scaled by a parameter", image())
class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 8, 3, 2), conv_norm(8, 8)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.gamma * self.conv(x))
        return self.fc(x.mean(3).mean(2))
