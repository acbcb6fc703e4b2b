"""Depthwise networks and their activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image
from zoo.residual import conv_norm


@case("mobilenet v1", image())
def mobilenet_v1() -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            conv_norm(inputs, inputs, 3, stride, inputs), nn.ReLU(), conv_norm(inputs, outputs, 1), nn.ReLU()
        )

    return nn.Sequential(
        conv_norm(3, 8, 3, 2),
        nn.ReLU(),
        block(8, 16, 1),
        block(16, 16, 2),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = int(inputs * expand)
        self.use_res_connect = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_norm(inputs, hidden, 1), nn.ReLU6(inplace=True), conv_norm(hidden, hidden, 3, stride, hidden),
            nn.ReLU6(inplace=True), conv_norm(hidden, outputs, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


@case("mobilenet v2, ReLU6", image(), nn.ReLU6)
def mobilenet_v2() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.ReLU6(inplace=True), Inverted(8, 8, 1, 2), Inverted(8, 12, 2, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, 5),
    )  # fmt: skip


class HardSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3.0) / 6.0


class GatedInverted(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.grow, self.depth, self.shrink = (
            conv_norm(width, 16, 1),
            conv_norm(16, 16, 3, 1, 16),
            conv_norm(16, width, 1),
        )
        self.down, self.up, self.gate = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), HardSigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.depth(F.hardswish(self.grow(x))))
        s = self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.shrink(s * y)


@case("mobilenet v3, gates", image(), nn.Hardswish, nn.ReLU)
def mobilenet_v3() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.Hardswish(), GatedInverted(8), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(8, 5)
    )


class MBConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.grow, self.depth, self.shrink = (
            conv_norm(width, 16, 1),
            conv_norm(16, 16, 3, 1, 16),
            conv_norm(16, width, 1),
        )
        self.down, self.up, self.act = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depth(self.act(self.grow(x))))
        return x + self.shrink(torch.sigmoid(self.up(self.act(self.down(y.mean((2, 3), keepdim=True))))) * y)


@case("efficientnet, SiLU", image(), nn.SiLU)
def efficientnet() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 3, 2), nn.SiLU(), MBConv(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


class ChannelsLast(nn.Module):
    """A ConvNeXt block: layer norm and linear maps over the last dimension of [B, H, W, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.grow, self.act, self.shrink = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(x).permute(0, 2, 3, 1)
        y = self.shrink(self.act(self.grow(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


@case("convnext", image(), nn.GELU, compile="LayerNorm divides by a deviation")
def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), ChannelsLast(8), ChannelsLast(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


@case("PReLU and LeakyReLU", image(), nn.PReLU, nn.LeakyReLU)
def leaky() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, 1, 1), nn.LeakyReLU(0.1), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
