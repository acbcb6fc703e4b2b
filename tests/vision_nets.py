"""Vision networks of ordinary torch: a U-Net, a detector with three maps, a gate; and their spiking ones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.neurons import LIF, MultiBit, Neuron, Ternary

KINDS: dict[str, Neuron] = {"ternary": Ternary(), "bits": MultiBit(2, 1)}


def block(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = block(2, 4), block(4, 8), nn.ConvTranspose2d(8, 4, 2, 2)
        self.behind = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.joined, self.head = block(8, 4), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x)
        b = self.behind(self.up(self.deep(F.max_pool2d(a, 2))))
        return self.head(self.joined(torch.cat([b, a], 1)))


class TwoHeads(nn.Module):
    """A U-Net with a map of places and kinds of the whole; as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.kinds = UNet(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.net.down(x)
        deep = self.net.deep(F.max_pool2d(a, 2))
        b = self.net.behind(self.net.up(deep))
        whole = F.adaptive_avg_pool2d(deep, 1).flatten(1)
        return self.net.head(self.net.joined(torch.cat([b, a], 1))), self.kinds(whole)


class Detector(nn.Module):
    """Three maps of a backbone, the coarse one brought up and joined; as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(2, 4), block(4, 6, 2), nn.Sequential(block(6, 6, 2, groups=6), block(6, 8))
        self.heads = nn.ModuleList([nn.Conv2d(n, 5, 1) for n in (4, 14, 8)])

    def forward(self, x: Tensor) -> dict[str, Any]:
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        b = torch.cat([b, F.interpolate(c, scale_factor=2, mode="nearest")], 1)
        return {"fine": self.heads[0](a), "rest": (self.heads[1](b), self.heads[2](c))}


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.behind, self.head = block(2, 4), block(4, 6), nn.Conv2d(6, 3, 1)
        self.reduce, self.widen, self.act, self.gate = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.gate(self.widen(self.act(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(self.behind(x * gate))


class Voting(nn.Module):
    """Vectors of hidden neurons, each let through by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.open = block(2, 4), nn.Linear(4, 6), nn.Linear(4, 6)
        self.act, self.gate, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.stem(x), 1).flatten(1)
        return self.head(self.act(self.hidden(x)) * self.gate(self.open(x)))


class Masked(nn.Module):
    """A gate of places [B, 1, H, W], for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.behind, self.head = block(2, 4), block(4, 6), nn.Conv2d(6, 3, 1)
        self.look, self.gate = nn.Conv2d(4, 1, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.behind(x * self.gate(self.look(x))))


class Squared(nn.Module):
    """A signal by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.behind, self.head = block(2, 4), block(4, 6), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.behind(x * x))


class Branches(nn.Module):
    """Gates behind two alphabets side by side."""

    others: ClassVar[dict[str, Neuron]] = {"few.2": LIF()}

    def __init__(self) -> None:
        super().__init__()
        self.many, self.few, self.open = block(2, 3), block(2, 3), nn.Conv2d(6, 6, 1)
        self.gate, self.behind, self.head = nn.ReLU(), block(6, 4), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.many(x), self.few(x)], 1)
        return self.head(self.behind(x * self.gate(self.open(x))))


def spiking(model: nn.Module, kind: str) -> tuple[Any, Tensor]:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 1.5)
            module.weight.data.normal_(1, 0.4)
            module.bias.data.normal_(0.2, 0.2)
    x = torch.randn(3, 2, 8, 8)
    mapping = {nn.ReLU: KINDS[kind], **getattr(model, "others", {})}
    return bitspike.upgrade(model.eval(), mapping, x, T=3).eval(), x
