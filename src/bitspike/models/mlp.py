"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
import math

from torch import nn

from bitspike.checks import bad_type, integer
from bitspike.layers import Encoder, Flatten, Linear
from bitspike.models.builder import new_network
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.quantizers import Quantizer


@MODELS.register("mlp")
def mlp(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, ...] = (1, 28, 28),
    classes: int = 10,
    hidden: tuple[int, ...] = (256, 256),
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    policy: Policy | None = None,
) -> Network:
    """flatten – (linear – BN – neuron) per hidden width – linear.

    Args:
        neuron: prototype, `nn.ReLU()` for an ANN; every layer gets a copy. weight: of the hidden layers; default float.
        T: time steps. shape: of a sample. classes: K. hidden: widths, at least one.
        norm, encoder, readout, policy: as in `study_cnn`.

    Returns:
        A `Network`: samples [B, *shape] → logits [B, K], or [T, B, K] with readout "steps".

    Raises:
        ValueError: a number out of its range, no hidden layer, or an unknown name.

    >>> from bitspike.neurons import LIF
    >>> import torch; mlp(LIF(), hidden=(8,))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    integer("mlp", "T", T, 1, 10_000)
    if not isinstance(hidden, (list, tuple)):
        raise bad_type("mlp", "hidden must be a list of widths", type(hidden).__name__, "e.g. hidden = [256, 256]")
    integer("mlp", "number of hidden layers", len(hidden), 1, 1000)
    for width in hidden:
        integer("mlp", "a hidden width", width, 1, 2**20)
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [Flatten()]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        linear = Linear(inputs, outputs, bias=False)
        linear.role = "first" if index == 0 else "hidden"
        layers += [linear, new_norm(outputs, norm, neuron), new_neuron(neuron, outputs)]
    classifier = Linear(widths[-1], classes)
    classifier.role = "last"
    body = nn.Sequential(*layers, classifier)
    return finish(new_network(body, encoder, T, readout), weight, policy)
