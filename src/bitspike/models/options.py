"""What the builders of convolutional networks take; a family's own options are in its file."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bitspike.layers import Encoder
from bitspike.models.network import Policy
from bitspike.quantizers import Quantizer


@dataclass(frozen=True)
class Size:
    """What a network is made of and how large it is: the first options of every builder.

    A family adds options behind these, ahead of the rest, in a class of its own: ``class Own(Size)``, then
    ``class Family(Options, Own)``, which may also set other defaults.

    Args:
        neuron: prototype; every layer gets its own copy. Any module [T, B, ...] → [T, B, ...] will do: `nn.ReLU()`
            gives the analog network.
        weight: prototype of the hidden layers; default float.
        T: time steps. shape: (C, H, W) of a sample. classes: K. width: channels of the first stage.
    """

    neuron: nn.Module
    weight: Quantizer | None = None
    T: int = 2
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    width: int = 64


@dataclass(frozen=True)
class Options(Size):
    """All that the builders have in common.

    Args:
        wiring: "spike": conv – BN – add – neuron, shortcuts carry spikes (Ternary Spike); "input": a neuron in front of
            every conv and linear but the first, additions of real values (adaptive bit allocation).
        norm: "joint", "per_step" or "threshold". encoder: a name of `ENCODERS`, or an `Encoder` of T steps, which is
            copied. readout: "mean" or "steps".
        input_neuron: put a neuron in front of the first conv too.
        policy: quantizers of first, last and down-sampling layers; default the first and last float.
    """

    wiring: str = "spike"
    norm: str = "joint"
    encoder: str | Encoder = "repeat"
    readout: str = "mean"
    input_neuron: bool = False
    policy: Policy | None = None


@dataclass(frozen=True)
class WideOptions(Options):
    """Twice the width."""

    width: int = 128
