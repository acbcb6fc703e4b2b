"""Stacks of layers, in the ways that people write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image, vector, video


@case("mlp", vector(12))
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 5))


@case("lenet, functional", image(1, 16))
class Lenet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 2 * 2, 30), nn.Linear(30, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc2(F.dropout(torch.relu(self.fc1(x)), 0.1, self.training))


@case("vgg with batch norm", image())
class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers, inputs = [], 3
        for width in (8, "M", 16, 16, "M"):
            if width == "M":
                layers += [nn.MaxPool2d(2, 2)]
            else:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(64, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


@case("all convolutions, global mean", image())
class AllConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 5, 1)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x).mean((2, 3))


@case("one activation, many places", image())
class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.b(self.act(self.a(x))))
        return self.c(x.reshape(len(x), -1))


@case("one layer called three times", vector(10))
class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(10, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.relu(self.inner(x))
        return self.last(x)


@case("video, 3-D convolutions", video())
def video_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(6, 8, 3, (2, 1, 1), 1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@case("maxout of two branches", vector(10))
class Maxout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 12), nn.Linear(10, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(torch.max(self.a(x), self.b(x))))


@case("instance and group norms", image(), compile="GroupNorm divides by a deviation")
def norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.InstanceNorm2d(8, affine=True),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
