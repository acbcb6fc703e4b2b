"""Pieces the builders share."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.checks import one_of
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Encoder,
    Latency,
    MeanReadout,
    Poisson,
    Repeat,
    StepReadout,
    TimeLayer,
)
from bitspike.neurons import Neuron


class ResidualBlock(nn.Module):
    """conv – BN – neuron – conv – BN – add shortcut – neuron (wiring "spike" of Ternary Spike, digest 4.1).

    The shortcut carries the spikes of the layer before: unchanged, or through AvgPool – 1×1 conv – BN where the shape
    changes ("AvgDown").

    Args:
        inputs, outputs: channels. stride: 1 or 2. neuron: prototype. norm: mode of `BatchNorm`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, neuron: Neuron, norm: str) -> None:
        super().__init__()
        self.conv1 = Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = new_norm(outputs, norm, neuron)
        self.neuron1 = neuron.replicate(outputs)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = new_norm(outputs, norm, neuron)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = Conv2d(inputs, outputs, 1)
            projection.role = "downsample"
            pool = [AvgPool2d(stride)] if stride != 1 else []
            self.shortcut = nn.Sequential(*pool, projection, new_norm(outputs, norm, neuron))
        self.neuron2 = neuron.replicate(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, B, C, H, W] → spikes."""
        y = self.neuron1(self.norm1(self.conv1(x)))
        return self.neuron2(self.norm2(self.conv2(y)) + self.shortcut(x))  # type: ignore[no-any-return]


def new_norm(channels: int, norm: str, neuron: Neuron) -> BatchNorm:
    """Batch norm of a mode; tdBN takes the neuron's threshold."""
    return BatchNorm(channels, norm, threshold=neuron.threshold)


def new_encoder(name: str, T: int) -> Encoder:
    """Encoder by name: "repeat", "poisson" or "latency"."""
    one_of("encoder", "name", name, ("repeat", "poisson", "latency"))
    return {"repeat": Repeat, "poisson": Poisson, "latency": Latency}[name](T)  # type: ignore[no-any-return]


def new_readout(name: str) -> TimeLayer:
    """Read-out by name: "mean" or "steps"."""
    one_of("readout", "name", name, ("mean", "steps"))
    return MeanReadout() if name == "mean" else StepReadout()
