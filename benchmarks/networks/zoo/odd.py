"""Code that is hard to trace: shapes, branches, parametrizations, foreign leaves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from zoo.case import case, image, vector
from zoo.residual import conv_norm


@case("shape arithmetic and asserts", image())
class Shapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(4 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4 and x.shape[2] == x.shape[3], "square pictures"
        x = F.relu(self.conv(x))
        keep = int(x.size(1) * 0.5)
        x = x[:, :keep]
        if x.shape[-1] > 4:
            x = x * 2
        return self.fc(x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]))


@case("old weight norm", vector(12))
def weight_norm() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(12, 16)), nn.ReLU(), nn.utils.weight_norm(nn.Linear(16, 5)))


@case("parametrized weight norm", vector(12))
def parametrized() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 5))


@case("spectral norm", vector(12))
def spectral() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 5))


@case("pruned", vector(12))
def pruned() -> nn.Module:
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 + 0.25


@case("a TorchScript leaf", vector(12), compile="cannot be read")
def scripted() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), torch.jit.script(Scaled()), nn.ReLU(), nn.Linear(16, 5))


@case("frozen backbone", image())
class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(x)


@case("standardised weights", image())
class Standardised(nn.Module):
    """A convolution whose weight is computed in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(512, 5)

    def forward(self, x: Tensor) -> Tensor:
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        x = F.relu(F.conv2d(x, w, self.conv.bias, 2, 1))
        return self.fc(torch.flatten(x, start_dim=1))


@case("inputs normalised inside", image())
class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1))
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        x = F.relu(self.conv(x))
        return self.fc(F.avg_pool2d(x, kernel_size=x.shape[2:]).view(-1, 8))


@case("einops", image())
def einops_layers() -> nn.Module:
    from einops.layers.torch import Rearrange, Reduce

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), Rearrange("b c (h p) (w q) -> b (c p q) h w", p=2, q=2),
        nn.Conv2d(32, 8, 1), nn.ReLU(), Reduce("b c h w -> b c", "mean"), nn.Linear(8, 5),
    )  # fmt: skip


@case("einops functions", image())
class EinopsFunctions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        from einops import rearrange

        x = rearrange(F.relu(self.conv(x)), "b c h w -> b (h w) c")
        return self.fc(x).mean(1)


@case("skipped by a flag in a loop", vector(10))
class Flags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(i): nn.Linear(10, 10) for i in range(3)})
        self.last = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        past = []
        for name, layer in self.layers.items():
            x = F.relu(layer(x))
            if int(name) % 2 == 0:
                past.append(x)
        return self.last(sum(past) / len(past))
