"""The residual block of wiring 'spike', and the ways around a block."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

from torch import Tensor, nn

from bitspike.checks import one_of
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Chain,
    Conv2d,
    DropPath,
    Join,
    Refined,
    norm_then_fire,
)
from bitspike.models.components import after_norm, before_synapse, new_neuron, new_norm
from bitspike.models.pad import PadShortcut
from bitspike.sealed import Sealed


class ResidualBlock(Sealed, nn.Module):
    """conv – BN – neuron – conv – BN – add shortcut – neuron (wiring "spike", as in Ternary Spike's code).

    The shortcut carries the spikes of the layer before, unchanged or through `new_shortcut` where the shape changes.

    Attributes:
        restimulate1, restimulate2: connections from the block's input to neuron1 and from neuron1 to neuron2, which
            `bitspike.models.restimulate` makes; None where there is none.

    Args:
        inputs, outputs: channels. stride: 1 or 2. neuron: prototype. norm: mode of `BatchNorm`.
        shortcut: kind for `new_shortcut`.
        sew: add behind the neuron instead (spike-element-wise, Fang et al., NeurIPS 2021): out = neuron(BN(conv)) +
            shortcut, and a projection fires too. The sum is no spike: where spikes reach M, n such blocks in a row
            reach (n + 1)·M, and the synapses behind it are counted as multiplications.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        neuron: nn.Module,
        norm: str,
        shortcut: str = "average",
        sew: bool = False,
    ) -> None:
        super().__init__()
        self.sew = sew
        self.conv1: Conv2d = Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1: BatchNorm = new_norm(outputs, norm, neuron)
        self.neuron1: nn.Module = new_neuron(neuron, outputs)
        self.conv2: Conv2d = Conv2d(outputs, outputs, 3, padding=1)
        self.norm2: BatchNorm = new_norm(outputs, norm, neuron)
        self.shortcut: nn.Module = new_shortcut(shortcut, inputs, outputs, stride, neuron, norm, "spike", sew)
        self.neuron2: nn.Module = new_neuron(neuron, outputs)
        self.join: ResidualJoin = new_join(neuron)
        self.restimulate1: nn.Module | None = None
        self.restimulate2: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, B, C, H, W] → spikes, or with ``sew`` sums of spikes."""
        first, second = self.restimulate1, self.restimulate2
        s = self._fire(self.norm1, self.neuron1, self.conv1(x), [] if first is None else [lambda: first(x)])
        inside: list[Callable[[], Tensor]] = [] if second is None else [lambda: second(s)]
        if self.sew:
            return join(self.join, self._fire(self.norm2, self.neuron2, self.conv2(s), inside), self.shortcut(x))
        if self.join.plain:
            return self._fire(self.norm2, self.neuron2, self.conv2(s), [*inside, lambda: self.shortcut(x)])
        y = self._add(self.norm2(self.conv2(s)), inside)
        return self.neuron2(join(self.join, y, self.shortcut(x)))  # type: ignore[no-any-return]

    def _fire(self, norm: nn.Module, neuron: nn.Module, y: Tensor, branches: list[Callable[[], Tensor]]) -> Tensor:
        """neuron(norm(y) + branches); several branches are added to one another first, for `norm_then_fire`."""
        if not branches or self.join.layer is None:
            total = [lambda: functools.reduce(operator.add, [branch() for branch in branches])] if branches else []
            return norm_then_fire(norm, neuron, y, *total)
        return neuron(self._add(norm(y), branches))  # type: ignore[no-any-return]

    def _add(self, y: Tensor, branches: list[Callable[[], Tensor]]) -> Tensor:
        for branch in branches:
            y = self.join.add(y, branch())
        return y


def new_shortcut(
    kind: str, inputs: int, outputs: int, stride: int, neuron: nn.Module, norm: str, wiring: str, sew: bool = False
) -> nn.Module:
    """The way around a block: nothing where the shape stays, else by kind.

    - "average": AvgPool – 1×1 conv – BN ("AvgDown", Ternary Spike's ResNet20); odd sides are rounded up;
    - "stride": 1×1 conv with the stride – BN (its ResNet19 and ImageNet nets; He's option B);
    - "pad": no parameters, see `PadShortcut` (He's option A).

    In wiring "input" a neuron stands in front of the 1×1 conv. With ``sew`` what follows a norm follows this one too.
    """
    one_of("shortcut", "kind", kind, ("average", "stride", "pad"))
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    if kind == "pad":
        return PadShortcut(inputs, outputs, stride)
    pooled = kind == "average" and stride != 1
    projection = Conv2d(inputs, outputs, 1, stride=1 if pooled else stride)
    projection.role = "downsample"
    pool = [AvgPool2d(stride, ceil=True)] if pooled else []
    front = before_synapse(wiring, neuron, inputs)
    behind = after_norm(wiring, neuron, outputs) if sew else []
    return Chain(*pool, *front, projection, new_norm(outputs, norm, neuron), *behind)


class ResidualJoin(Sealed, nn.Module):
    """``drop(y) + shortcut``: where a block's branch meets the way around it; see `bitspike.models.stochastic_depth`.

    Attributes:
        drop: None, or a `DropPath` of the branch.

    Args:
        layer: what adds branches whose numbers of time steps may differ; None: a plain sum.
    """

    def __init__(self, layer: Join | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.drop: DropPath | None = None

    @property
    def drops(self) -> bool:
        """Whether branches are dropped, as they are in training alone."""
        return self.drop is not None and self.training

    @property
    def plain(self) -> bool:
        """Whether it is y + shortcut and nothing else."""
        return self.layer is None and not self.drops

    def add(self, y: Tensor, other: Tensor) -> Tensor:
        """The sum of two parts of a branch, both [T, B, ...]."""
        return y + other if self.layer is None else self.layer(y, other)  # type: ignore[no-any-return]

    def forward(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """The branch and the shortcut, both [T, B, ...] → their sum."""
        if self.drop is not None and self.training:  # no node of the graph that is folded, counted and compiled
            y = self.drop(y)
        return self.add(y, shortcut)


def new_join(neuron: nn.Module) -> ResidualJoin:
    """What adds a residual branch to its shortcut, where the neurons' time steps may differ too."""
    if not isinstance(neuron, Refined) or neuron.squeeze == "always":
        return ResidualJoin()
    return ResidualJoin(Join(keep_time=neuron.squeeze == "windows"))


def join(layer: ResidualJoin, y: Tensor, shortcut: Tensor) -> Tensor:
    """The sum of a branch and its shortcut, by `new_join`'s layer."""
    return layer(y, shortcut)  # type: ignore[no-any-return]
