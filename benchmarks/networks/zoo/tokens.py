"""Tokens [B, N, C]: mixers and transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image, series


@case("token MLP", series(6, 8))
class TokenMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = x + self.down(F.relu(self.up(x)))
        return self.head(F.relu(x).mean(1))


@case("MLP mixer", image(), nn.ReLU, compile="LayerNorm divides by a deviation")
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 16))
        self.channels = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(x.mean(dim=1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, 2), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@case("ViT", image(), compile="softmax divides by a sum")
class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.cls, self.position = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
        self.layers, self.norm, self.head = nn.Sequential(Layer(8), Layer(8)), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.layers(x))[:, 0])


@case("attention without a softmax", image())
class Spikformer(nn.Module):
    """Queries, keys and values are spikes, their products are charged as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 4, 4, bias=False), nn.BatchNorm2d(8)
        self.q, self.k, self.v, self.proj = (nn.Conv1d(8, 8, 1) for _ in range(4))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.patch(x))).flatten(2)
        b, c, n = x.shape
        q, k, v = (F.relu(map_(x)).reshape(b, 2, c // 2, n).transpose(-2, -1) for map_ in (self.q, self.k, self.v))
        y = (q @ k.transpose(-2, -1)) @ v * 0.25
        x = x + F.relu(self.proj(F.relu(y.transpose(-2, -1).reshape(b, c, n))))
        return self.head(x.mean(-1))


@case("torch's encoder layer", series(8, 6), skips=("gradients",), compile="softmax inside")  # its ReLU stays
class TorchEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.transpose(1, 2)).mean(1))


@case("gated token MLP", series(8, 6))
class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grow, self.mix, self.shrink, self.head = (
            nn.Linear(8, 16),
            nn.Conv1d(6, 6, 1),
            nn.Linear(8, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        u, v = F.relu(self.grow(x)).chunk(2, dim=-1)
        return self.head((x + self.shrink(u * self.mix(v))).mean(1))
