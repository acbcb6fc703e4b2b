"""Small networks in styles that people bring: dense, shuffled, gated, resized, transposed, padded, spelled by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import rng

SHAPE = (3, 8, 8)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Dense(nn.Module):
    """DenseNet: norm, activation and convolution of all features so far, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1, bias=False) for i in range(2))
        self.head = nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.convs, strict=False):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        x = F.relu(self.norms[2](x))
        return self.head(x.mean(3).mean(2))  # type: ignore[no-any-return]


class Fire(nn.Module):
    """SqueezeNet: spikes of two branches side by side, and a class map that is pooled and squeezed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.narrow = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.one, self.three, self.last = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.narrow(F.relu(self.stem(x))))
        x = torch.cat((self.one(x).relu(), self.three(x).relu()), dim=1)
        return F.adaptive_avg_pool2d(self.last(x), 1).squeeze(-1).squeeze(-1)


class Shuffle(nn.Module):
    """ShuffleNet v2: half of the channels passes, both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(3, 8), conv(4, 4, 1), conv(4, 4, 3, groups=4)
        self.c, self.last, self.head = conv(4, 4, 1), conv(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        left, right = x.chunk(2, dim=1)
        right = F.relu(self.c(self.b(F.relu(self.a(right)))))
        x = torch.cat((left, right), 1)
        b, c, h, w = x.size()
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.head(F.relu(self.last(x)).mean([2, 3]))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """MobileNet v2: inverted residuals with ReLU6 and linear bottlenecks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = conv(3, 4), nn.ReLU6(inplace=True)
        self.wide, self.deep, self.narrow = conv(4, 12, 1), conv(12, 12, 3, groups=12), conv(12, 4, 1)
        self.last, self.drop, self.head = conv(4, 8, 1), nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.narrow(self.act(self.deep(self.act(self.wide(x)))))
        x = self.act(self.last(x))
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(x, (1, 1)).reshape(x.shape[0], -1)))


class Gated(nn.Module):
    """Squeeze and excite, with linear maps on a view, inside a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv(3, 8), conv(8, 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())
        self.last, self.head = conv(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.body(x))
        b, c, _, _ = y.size()
        y = y * self.fc(self.pool(y).view(b, c)).view(b, c, 1, 1).expand_as(y)
        return self.head(F.relu(self.last(y) + x).mean((2, 3)))  # type: ignore[no-any-return]


class Swish(nn.Module):
    """MobileNet v3: hard swish, and a gate of 1×1 convolutions and a hard sigmoid before the projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.deep = conv(3, 4), conv(4, 12, 1), conv(12, 12, 3, groups=12)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.Hardsigmoid()
        )
        self.act, self.narrow, self.head = nn.Hardswish(), conv(12, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.act(self.deep(self.act(self.wide(x))))
        x = self.narrow(self.gate(x) * x)
        return self.head(F.hardswish(x).mean((2, 3)))  # type: ignore[no-any-return]


class ByHand(nn.Module):
    """A hard swish of ``x·relu6(x + 3)/6``, a difference, a constant, ``sum([a, b])`` and a clamp to [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 6), conv(6, 6), conv(6, 6), conv(6, 6, 1)
        self.offset = nn.Parameter(torch.full((1, 6, 1, 1), 0.25))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * F.relu6(x + 3) / 6
        x = torch.clamp(self.a(x) - self.b(x) + self.offset, 0, 1)
        x = F.relu(sum([self.a(x), self.c(x) / 2, 0.5 * x]))  # type: ignore[arg-type]
        return self.head((1 - x).mean((2, 3)))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Two levels, bilinear upsampling to the size of the skip, concatenation; a class for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three, self.last = conv(3, 6), conv(6, 8), conv(14, 6), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.one(x))
        x = F.relu(self.two(F.max_pool2d(skip, 2)))
        x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.last(F.relu(self.three(torch.cat([skip, x], dim=1))))  # type: ignore[no-any-return]


class Nearest(nn.Module):
    """The same with nearest upsampling and reflected borders: all spikes are only moved."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")
        self.two, self.three = conv(6, 8), nn.Conv2d(14, 6, 3)
        self.up, self.pad, self.last = nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.one(x))
        x = self.up(F.relu(self.two(F.avg_pool2d(skip, 2))))
        x = torch.cat([skip, F.pad(F.pad(x, (1, 1, 1, 1)), (-1, -1, -1, -1))], dim=1)
        return self.last(F.relu(self.three(self.pad(x))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Transposed convolutions, grouped ones and output padding among them, and a tanh at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = conv(3, 8, 3, 2), nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.more = nn.ConvTranspose2d(6, 6, 3, stride=2, padding=1, output_padding=1, groups=3)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.up(F.relu(self.down(x)))))
        return torch.tanh(self.last(F.relu(self.more(x))))


class Pixels(nn.Module):
    """Super-resolution: a pixel shuffle of spikes, one of a current before a neuron, and one at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 8), nn.Conv2d(2, 8, 3, padding=1), conv(2, 6), nn.Conv2d(6, 12, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffle(F.relu(self.a(x)))
        x = F.relu(self.shuffle(self.b(x)))
        x = F.avg_pool2d(x, 4)
        return F.pixel_shuffle(self.d(F.relu(self.c(x))), 2)


def gelus() -> nn.Module:
    """A GELU network of linear maps and norms."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(192, 24), nn.GELU(), nn.Linear(24, 16), nn.BatchNorm1d(16), nn.SiLU()),
        *(nn.Linear(16, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 5)),
    )


class Parametric(nn.Module):
    """PReLU of one slope and of one per channel, ELU, and a Hardtanh on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.head = conv(3, 6), conv(6, 6), conv(6, 6), conv(6, 6), nn.Linear(6, 5)
        self.one, self.many, self.elu, self.hard = nn.PReLU(), nn.PReLU(6), nn.ELU(), nn.Hardtanh()
        with torch.no_grad():
            self.many.weight.copy_(torch.tensor([0.1, -0.2, 0.5, 1.3, 0.0, 0.25]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.many(self.b(self.one(self.a(x))))
        x = self.hard(self.d(self.elu(self.c(x))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Helped(nn.Module):
    """A second head and dropout in training alone; log probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux, self.head = conv(3, 8), conv(8, 8), nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.a(x))
        aux = self.aux(x.mean((2, 3))) if self.training else None
        x = F.dropout(F.relu(self.b(x)), 0.4, self.training)
        x = F.log_softmax(self.head(x.mean((2, 3))), dim=1)
        return (x, aux) if aux is not None else x


class Split(nn.Module):
    """Convolutions on slices of channels, stacked branches, tokens, a maximum and a softmax inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = conv(3, 8), conv(4, 4), conv(4, 4), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        one, two = torch.split(x, [4, 4], dim=1)
        one, two = F.relu(self.a(one)), F.relu(self.b(torch.flip(two, [3])))
        x = torch.stack([one, torch.maximum(one, two)], 1).flatten(1, 2)
        tokens = x.flatten(2).transpose(1, 2)
        share = torch.softmax(tokens.mean(2, keepdim=True), 1)
        return self.head((share * tokens).sum(1))  # type: ignore[no-any-return]


STYLES: dict[str, Callable[[], nn.Module]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Dense, Fire, Shuffle, Inverted, Gated, Swish, ByHand, UNet, Nearest, Decoder, Pixels, Parametric, Helped),
        Split,
    )
} | {"gelus": gelus}

SIGNED = ("swish", "gelus", "parametric")
"""Networks with values below 0 between their layers."""


def style(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network of `STYLES` in evaluation mode with random norms (a negative and a tiny γ among them)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = STYLES[name]()
    generator = rng(1)
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "running_var"):
                for value, low, high in (
                    (module.weight, 0.3, 1.5),
                    (module.bias, -0.3, 0.8),
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.1, 1.0),
                ):
                    value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
                module.weight[0] *= -1
                module.weight[1] = 1e-3
    return net.to(dtype).eval()


def smooth(count: int, dtype: torch.dtype = torch.float64, seed: int = 5) -> Tensor:
    """Smooth random images [count, 3, 8, 8]."""
    coarse = torch.randn(count, 3, 3, 3, generator=rng(seed))
    return F.interpolate(coarse, size=8, mode="bilinear", align_corners=True).to(dtype)
