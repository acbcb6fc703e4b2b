"""He's narrow CIFAR ResNet-20 over [T, B, C, H, W] out of a peer's own layers; the twin of bitspike's `he_resnet20`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Conv = Callable[[int, int, int], nn.Module]  # inputs, outputs, stride → 3×3, padding 1, no bias
Norm = Callable[[int], nn.Module]
New = Callable[[], nn.Module]


class Merged(nn.Module):
    """A layer of torch over [T, B, ...]: time merged into the batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] → [T, B, ...]."""
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Block(nn.Module):
    """conv – BN – neuron – conv – BN – add shortcut – neuron; option A where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, conv: Conv, norm: Norm, neuron: New) -> None:
        super().__init__()
        self.stride, self.pad = stride, (outputs - inputs) // 2
        self.conv1, self.norm1, self.neuron1 = conv(inputs, outputs, stride), norm(outputs), neuron()
        self.conv2, self.norm2, self.neuron2 = conv(outputs, outputs, 1), norm(outputs), neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, B, C, H, W] → spikes."""
        y = self.norm2(self.conv2(self.neuron1(self.norm1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return self.neuron2(y + x)


class HeResNet20(nn.Module):
    """Images [B, 3, H, W] → mean logits [B, 10]; every step sees the image.

    Args:
        T: time steps. width: channels of the first stage.
        conv, norm, neuron, linear: build layers over [T, B, ...] of the library under test.
    """

    def __init__(
        self, T: int, width: int, conv: Conv, norm: Norm, neuron: New, linear: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.T = T
        layers = [conv(3, width, 1), norm(width), neuron()]
        inputs = width
        for stage in range(3):
            for index in range(3):
                outputs = width * 2**stage
                layers.append(Block(inputs, outputs, 2 if stage and not index else 1, conv, norm, neuron))
                inputs = outputs
        self.body = nn.Sequential(*layers)
        self.classifier = linear(inputs, 10)
        self._start_as_bitspike()

    def _start_as_bitspike(self) -> None:
        """bitspike's initial weights: N(0, 2/(k²·O)) for convolutions, N(0, 1/I) for the classifier."""
        for weight in (p for p in self.parameters() if p.dim() == 4):
            nn.init.normal_(weight, std=math.sqrt(2 / (weight[0, 0].numel() * len(weight))))
        for weight in (p for p in self.classifier.parameters() if p.dim() == 2):
            nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1]))
        for name, bias in self.classifier.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Encode, run, average space, classify, average time."""
        y = self.body(x.unsqueeze(0).expand(self.T, *x.shape))
        return self.classifier(y.mean((3, 4))).mean(0)


def merged_conv(inputs: int, outputs: int, stride: int) -> nn.Module:
    """torch's convolution over merged time."""
    return Merged(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))


def merged_norm(channels: int) -> nn.Module:
    """torch's batch norm over merged time."""
    return Merged(nn.BatchNorm2d(channels))


def merged_linear(inputs: int, outputs: int) -> nn.Module:
    """torch's linear map over merged time."""
    return Merged(nn.Linear(inputs, outputs))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose weights are the same in every run."""
    torch.manual_seed(0)
    return build()
