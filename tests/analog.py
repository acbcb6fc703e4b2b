"""Small ANNs with every layer that can be converted, their channels scaled apart so that ranges matter."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.data import Batches, ImageSet
from bitspike.layers import ClipFloor
from bitspike.models import he_resnet20
from networks import rng

SHAPE = (3, 8, 8)


class Residual(nn.Module):
    """Identity and projected shortcuts, relu as module, function and method, adaptive pooling."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.act = nn.ReLU() if activation is None else activation
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv3 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.project, self.pool, self.bn3 = nn.Conv2d(6, 8, 1, bias=False), nn.AvgPool2d(2), nn.BatchNorm2d(8)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        x = (self.conv3(x) + self.bn3(self.project(self.pool(x)))).relu()
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(self.drop(x))


def chain(activation: nn.Module | None = None) -> nn.Module:
    """Convolutions, sum and average pooling, a norm of spikes, a neuron behind a pool, an activation at the end."""

    def act() -> nn.Module:
        return nn.ReLU() if activation is None else activation

    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        act(),
        nn.AvgPool2d(2, divisor_override=1),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.AvgPool2d(2),
        act(),
        nn.AvgPool2d(3, 1, padding=1),
        act(),
        nn.Flatten(),
        nn.Linear(24, 7, bias=False),
        act(),
        nn.Linear(7, 5),
        act(),
    )


class Pooled(nn.Module):
    """Max pooling behind and before activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


class Mobile(nn.Module):
    """Depthwise and grouped convolutions, padded, rectangular and adaptive max pooling, adaptive average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.depthwise, self.bn2 = nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(12)
        self.grouped = nn.Conv2d(12, 8, 1, groups=4)
        self.pool1, self.pool2 = nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d((2, 1), ceil_mode=True)
        self.average, self.head = nn.AdaptiveAvgPool2d((1, 2)), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.depthwise(x))))
        x = F.adaptive_max_pool2d(F.relu(self.grouped(x)), (2, 3))
        return self.head(self.average(x).flatten(1))  # type: ignore[no-any-return]


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "relu6": lambda: Residual(nn.ReLU6()),
    "chain": chain,
    "pooled": Pooled,
    "mobile": Mobile,
    "he": lambda: he_resnet20(nn.ReLU(), T=1, shape=SHAPE, classes=5, width=4),
    "clip_floor": lambda: Residual(ClipFloor(255, 4.0)),
}


def ann(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network of `NETS` in evaluation mode with random norms (a negative and a tiny γ among them)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = NETS[name]()
    generator = rng(1)
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "running_var"):
                for value, low, high in (
                    (module.weight, 0.3, 2.0),
                    (module.bias, -0.5, 0.8),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.3, 2.0),
                ):
                    value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
                module.weight[0] *= -1
                module.weight[1] = 1e-3
    return net.to(dtype).eval()


def train(net: nn.Module, data: ImageSet, lr: float, epochs: int) -> None:
    """SGD with momentum on batches of 32, in the same order at every call."""
    optimiser = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for epoch in range(epochs):
        for x, labels in Batches(data, 32, shuffle=True, epoch=epoch):
            optimiser.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimiser.step()


def inputs(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal images [count, 3, 8, 8]."""
    return torch.randn(count, *SHAPE, generator=rng(2)).to(dtype)
