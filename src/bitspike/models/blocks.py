"""Blocks of the deep networks: a convolution unit in either wiring, and the residual block of wiring "input"."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from bitspike.layers import BatchNorm, Chain, Conv2d
from bitspike.models.components import after_norm, before_synapse, new_neuron, new_norm
from bitspike.models.residual_block import ResidualJoin, join, new_join, new_shortcut
from bitspike.sealed import Sealed


def unit(conv: Conv2d, neuron: nn.Module, norm: str, wiring: str) -> nn.Sequential:
    """conv – norm – neuron (wiring "spike") or neuron – conv – norm – ReLU (wiring "input"), modules so named.

    A conv of role "first" gets no neuron in front, and with signed neurons there is no ReLU, see `after_norm`.
    """
    outputs, inputs = len(conv.weight), conv.weight.shape[1] * conv.groups
    front = [] if conv.role == "first" else before_synapse(wiring, neuron, inputs)
    behind = after_norm(wiring, neuron, outputs)
    layers = [*front, conv, new_norm(outputs, norm, neuron), *behind]
    last = "neuron" if wiring == "spike" else "rectifier"
    names = ["neuron"] * len(front) + ["conv", "norm"] + [last] * len(behind)
    return Chain(OrderedDict(zip(names, layers, strict=True)))


class InputBlock(Sealed, nn.Module):
    """neuron – conv – BN – ReLU – neuron – conv – BN – add shortcut – ReLU (wiring "input" of the adaptive paper).

    Values between blocks are real, and so is the shortcut. The first conv and a projection read the same tensor
    through neurons of their own. With signed neurons there are no ReLUs, which would silence the negative half.

    Source: adaptive bit allocation (arXiv 2506.23717), code.

    Args:
        inputs, outputs, stride, neuron, norm, shortcut: as in `ResidualBlock`.
        sew: add behind the ReLU: out = ReLU(BN(conv)) + shortcut. A projection is rectified too: our reading [?].
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        neuron: nn.Module,
        norm: str,
        shortcut: str = "stride",
        sew: bool = False,
    ) -> None:
        super().__init__()
        self.sew = sew
        self.neuron1: nn.Module = new_neuron(neuron, inputs)
        self.conv1: Conv2d = Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1: BatchNorm = new_norm(outputs, norm, neuron)
        self.rectifier1: nn.Sequential = nn.Sequential(*after_norm("input", neuron, outputs))
        self.neuron2: nn.Module = new_neuron(neuron, outputs)
        self.conv2: Conv2d = Conv2d(outputs, outputs, 3, padding=1)
        self.norm2: BatchNorm = new_norm(outputs, norm, neuron)
        self.shortcut: nn.Module = new_shortcut(shortcut, inputs, outputs, stride, neuron, norm, "input", sew)
        self.rectifier2: nn.Sequential = nn.Sequential(*after_norm("input", neuron, outputs))
        self.join: ResidualJoin = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Real values [T, B, C, H, W] → real values."""
        y = self.rectifier1(self.norm1(self.conv1(self.neuron1(x))))
        y = self.norm2(self.conv2(self.neuron2(y)))
        if self.sew:
            return join(self.join, self.rectifier2(y), self.shortcut(x))
        return self.rectifier2(join(self.join, y, self.shortcut(x)))  # type: ignore[no-any-return]
