"""Concatenations, splits, shuffles; encoders and decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import case, image
from zoo.residual import conv_norm


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


@case("densenet", image())
def densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        DenseLayer(8, 4),
        DenseLayer(12, 4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 5),
    )


@case("inception", image())
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU())
        self.b1 = nn.Sequential(conv_norm(8, 4, 1), nn.ReLU())
        self.b2 = nn.Sequential(conv_norm(8, 4, 1), nn.ReLU(), conv_norm(4, 8), nn.ReLU())
        self.b3 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(8, 4, 1), nn.ReLU())
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat((self.b1(x), self.b2(x), self.b3(x)), dim=1)
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1))


@case("squeezenet fire", image())
class Fire(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 4, 1)
        self.one, self.three, self.last = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), kernel_size=3, stride=2, ceil_mode=True)
        x = F.relu(self.squeeze(x))
        x = torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)
        return torch.flatten(F.adaptive_avg_pool2d(F.relu(self.last(x)), 1), 1)


@case("shufflenet", image())
class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU())
        self.branch = nn.Sequential(
            conv_norm(4, 4, 1), nn.ReLU(), conv_norm(4, 4, 3, 1, 4), conv_norm(4, 4, 1), nn.ReLU()
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            left, right = x.chunk(2, dim=1)
            x = torch.cat((left, self.branch(right)), dim=1)
            b, c, h, w = x.size()
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.fc(x.mean([2, 3]))


@case("cross-stage partial", image())
class Csp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU())
        self.body, self.join = nn.Sequential(conv_norm(4, 4), nn.ReLU()), nn.Sequential(conv_norm(8, 8, 1), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        keep, go = torch.split(self.stem(x), [4, 4], dim=1)
        x = self.join(torch.cat([keep, self.body(go)], dim=1))
        return self.fc(x.amax((-2, -1)))


@case("ghost module", image())
class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = conv_norm(3, 8, 3, 2), conv_norm(8, 8, 3, 1, 8)
        self.fc = nn.Linear(12 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.primary(x))
        out = torch.cat([first, F.relu(self.cheap(first))], 1)[:, :12, :, :]
        return self.fc(out.flatten(1))


class Twice(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            conv_norm(inputs, outputs), nn.ReLU(inplace=True), conv_norm(outputs, outputs), nn.ReLU(inplace=True)
        )


@case("u-net, transposed", image())
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = Twice(3, 4), Twice(4, 8)
        self.up, self.join, self.out = nn.ConvTranspose2d(8, 4, 2, 2), Twice(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        return self.out(self.join(torch.cat([first, self.up(second)], dim=1)))


@case("u-net, upsampled and padded", image(3, 18))
class UNetUpsampled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = Twice(3, 4), Twice(4, 8), Twice(8, 8)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.join2, self.join1, self.out = Twice(16, 4), Twice(8, 4), nn.Conv2d(4, 2, 1)

    def meet(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        return torch.cat([skip, F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        third = self.down3(F.max_pool2d(second, 2))
        return self.out(self.join1(self.meet(self.join2(self.meet(third, second)), first)))


@case("feature pyramid, nearest", image())
class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = (
            nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU()),
            nn.Sequential(conv_norm(8, 8, 3, 2), nn.ReLU()),
        )
        self.l1, self.l2, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        c1 = self.c1(x)
        c2 = self.c2(c1)
        top = self.l2(c2)
        p1 = self.l1(c1) + F.interpolate(top, size=c1.shape[-2:], mode="nearest")
        return self.head(F.relu(p1))


@case("super-resolution, pixel shuffle", image(1, 8))
def pixel_shuffle() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
