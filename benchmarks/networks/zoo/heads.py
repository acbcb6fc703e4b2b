"""Outputs of several kinds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image, vector
from zoo.residual import conv_norm


@case("log-softmax at the end", vector(12), compile="LogSoftmax divides by a sum", compile_ann="")
def log_softmax() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5), nn.LogSoftmax(dim=1))


@case("regression, output [B]", vector(12), compile="no axis beside the batch")
class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Sequential(nn.Linear(12, 16), nn.ReLU()), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x)).squeeze(-1)


@case("two outputs, a tuple", image())
class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU(), conv_norm(8, 8, 3, 2), nn.ReLU(), nn.Flatten())
        self.kind, self.box = nn.Linear(128, 5), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.kind(x), self.box(x)


@case("detection, a dict", image())
class Detection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU())
        self.heads = nn.ModuleDict({"scores": nn.Conv2d(8, 3, 1), "boxes": nn.Conv2d(8, 4, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        return {name: head(x) for name, head in self.heads.items()}


@case("auxiliary head in training", image())
class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = (
            nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU()),
            nn.Sequential(conv_norm(8, 8), nn.ReLU()),
        )
        self.aux, self.fc = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x)
        early = self.aux(x.mean((2, 3))) if self.training else None
        x = self.fc(F.adaptive_avg_pool2d(self.body(x), 1).flatten(1))
        return x if early is None else (x, early)


@case("autoencoder", image(1, 8))
class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.decode = nn.Sequential(nn.Linear(16, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


@case("siamese difference", vector(12))
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, :6], x[:, 6:]
        return self.last(torch.abs(self.body(a) - self.body(b)))
