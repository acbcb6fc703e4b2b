"""Small pieces that every builder needs: copies of neurons, norms, encoders and read-outs by name."""

from __future__ import annotations

import copy

from torch import nn

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.layers import ENCODERS, BatchNorm, Encoder, MeanReadout, Refined, StepReadout, TimeLayer
from bitspike.layers.encoders.base import check_encoder_type
from bitspike.neurons import Neuron


def before_synapse(wiring: str, neuron: nn.Module, channels: int) -> list[nn.Module]:
    """What stands in front of every synapse but the first: in wiring "input", a neuron of its own."""
    return [new_neuron(neuron, channels)] if wiring == "input" else []


def after_norm(wiring: str, neuron: nn.Module, channels: int) -> list[nn.Module]:
    """What follows a norm: the neuron (wiring "spike"), or a ReLU unless the neuron is signed (wiring "input")."""
    if wiring == "spike":
        return [new_neuron(neuron, channels)]
    return [] if isinstance(neuron, (Neuron, Refined)) and neuron.format.signed else [nn.ReLU()]


def new_neuron(prototype: nn.Module, channels: int) -> nn.Module:
    """A layer's own copy of a neuron, sized for its channels, or of any other [T, B, ...] → [T, B, ...] module.

    With `nn.ReLU()` a builder gives the analog network, as published checkpoints need it (T = 1).
    """
    if not isinstance(prototype, nn.Module):
        todo = "pass an object such as LIF() or nn.ReLU()"
        raise bad_type("models", "the neuron must be a module", getattr(prototype, "__name__", prototype), todo)
    return prototype.replicate(channels) if isinstance(prototype, (Neuron, Refined)) else copy.deepcopy(prototype)


def new_norm(channels: int, norm: str, neuron: nn.Module) -> BatchNorm:
    """Batch norm of a mode; tdBN takes the neuron's threshold."""
    if isinstance(neuron, (Neuron, Refined)):
        return BatchNorm(channels, norm, threshold=neuron.threshold)
    if norm == "threshold":
        raise bad_value("models", "norm 'threshold' needs a neuron with a threshold", neuron, "choose norm 'joint'")
    return BatchNorm(channels, norm)


def image_shape(where: str, shape: tuple[int, ...], multiple: int = 1) -> tuple[int, int, int]:
    """(C, H, W), checked: positive, and both sides divisible by what the pools need."""
    wrong = len(shape) != 3 or any(side < 1 for side in shape) or any(side % multiple for side in shape[1:])
    if wrong:
        sides = f" with sides that are multiples of {multiple}" if multiple > 1 else ", all at least 1"
        must = f"the image must be (C, H, W){sides}"
        raise bad_value(where, must, tuple(shape), "pad or resize it")
    return shape[0], shape[1], shape[2]


def new_encoder(encoder: str | Encoder, T: int, **options: object) -> Encoder:
    """A network's own encoder of T steps: by a name of `ENCODERS` with its options, or a copy of an object."""
    if isinstance(encoder, str):
        return ENCODERS[encoder](T, **options)  # type: ignore[call-arg]
    return copy.deepcopy(check_encoder_type("models", encoder, T))


def new_readout(name: str) -> TimeLayer:
    """Read-out by name: "mean" or "steps"."""
    one_of("readout", "name", name, ("mean", "steps"))
    return MeanReadout() if name == "mean" else StepReadout()
