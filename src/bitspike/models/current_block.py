"""Blocks whose shortcuts add currents in front of neurons, so that synapses read spikes of one neuron alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from bitspike.layers import Attention, Conv2d
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.residual_block import ResidualJoin, join, new_join
from bitspike.sealed import Sealed


def fired(convs: Sequence[Conv2d], neuron: nn.Module, norm: str) -> nn.Sequential:
    """neuron – conv – norm for every conv, modules neuron1, conv1, norm1, neuron2 and so on: currents → currents."""
    layers: list[tuple[str, nn.Module]] = []
    for index, conv in enumerate(convs, 1):
        outputs, inputs = len(conv.weight), conv.weight.shape[1] * conv.groups
        layers += [(f"neuron{index}", new_neuron(neuron, inputs)), (f"conv{index}", conv)]
        layers.append((f"norm{index}", new_norm(outputs, norm, neuron)))
    return nn.Sequential(OrderedDict(layers))


def perceptron(channels: int, kernel: int = 1, ratio: int = 4) -> list[Conv2d]:
    """Two convs, C → ratio·C → C, that keep the size of the image."""
    inside, half = ratio * channels, kernel // 2
    return [Conv2d(channels, inside, kernel, padding=half), Conv2d(inside, channels, kernel, padding=half)]


def separable(channels: int, kernel: int, ratio: int = 2) -> list[Conv2d]:
    """conv1×1 (C → ratio·C), depthwise conv, conv1×1 (ratio·C → C)."""
    inside = ratio * channels
    depthwise = Conv2d(inside, inside, kernel, padding=kernel // 2, groups=inside)
    return [Conv2d(channels, inside, 1), depthwise, Conv2d(inside, channels, 1)]


class Current(Sealed, nn.Module):
    """``x + BN(conv(neuron(x)))``, with two synapses ``x + BN(conv(neuron(BN(conv(neuron(x))))))``, and so on.

    Source: Spike-driven Transformer (arXiv 2307.01694), membrane shortcuts.

    Args:
        convs: from the C channels of the sum over any others back to C, images of one size. neuron, norm: as
            everywhere.
    """

    def __init__(self, convs: Sequence[Conv2d], neuron: nn.Module, norm: str) -> None:
        super().__init__()
        self.way: nn.Sequential = fired(convs, neuron, norm)
        self.join: ResidualJoin = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, C, H, W] → currents of that shape."""
        return join(self.join, self.way(x), x)


class CurrentPatch(Sealed, nn.Module):
    """``way(s) + shortcut(s)``, ``s = neuron(x)``: patches whose shortcut changes channels and size too.

    Source: QKFormer (arXiv 2403.16552), deformed shortcut; between currents as in Max-Former (arXiv 2505.18608).

    Args:
        channels: C of the input. way, shortcut: spikes → currents of one shape. neuron: prototype.
    """

    def __init__(self, channels: int, way: nn.Module, shortcut: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron: nn.Module = new_neuron(neuron, channels)
        self.way: nn.Module = way
        self.shortcut: nn.Module = shortcut
        self.join: ResidualJoin = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, C, H, W] → currents, of other channels and size."""
        s = self.neuron(x)
        return join(self.join, self.way(s), self.shortcut(s))


class DrivenBlock(Sealed, nn.Module):
    """``y = x + attention(neuron(x))``, ``z = y + mlp(y)`` over currents [T, B, C, N, 1].

    The perceptron is neuron – conv1×1(C→ratio·C) – BN – neuron – conv1×1(ratio·C→C) – BN, token by token.

    Source: Spike-driven Transformer (arXiv 2307.01694), encoder block.

    Args:
        attention: of C channels, with output "current". neuron: prototype. norm: mode of `BatchNorm`. ratio: >= 1.
    """

    def __init__(self, attention: Attention, neuron: nn.Module, norm: str, ratio: int = 4) -> None:
        super().__init__()
        self.neuron: nn.Module = new_neuron(neuron, attention.channels)
        self.attention = attention
        self.join: ResidualJoin = new_join(neuron)
        self.mlp: Current = Current(perceptron(attention.channels, ratio=ratio), neuron, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, C, N, 1] → the same shape."""
        return self.mlp(join(self.join, self.attention.inside(self.neuron(x)), x))  # type: ignore[no-any-return]
