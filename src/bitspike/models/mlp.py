"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
import math

from torch import nn

from bitspike.checks import bad_type, integer, one_of
from bitspike.layers import Encoder, Flatten, Linear, Recurrent
from bitspike.models.builder import new_network
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.neurons import Neuron
from bitspike.quantizers import Quantizer


@MODELS.register("mlp")
def mlp(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, ...] = (1, 28, 28),
    classes: int = 10,
    hidden: tuple[int, ...] = (256, 256),
    recurrent: bool = False,
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    policy: Policy | None = None,
) -> Network:
    """flatten – (linear – BN – neuron) per hidden width – linear.

    Args:
        neuron: prototype, `nn.ReLU()` for an ANN; every layer gets a copy. weight: of the hidden layers; default float.
        T: time steps. shape: of a sample. classes: K. hidden: widths, at least one.
        recurrent: hidden neurons also read their own spikes of the step before, through a linear map without bias that
            is quantized as hidden layers are; see `Recurrent`, which neurons that learn bits and ANNs cannot be.
        norm, encoder, readout, policy: as in `study_cnn`.

    Returns:
        A `Network`: samples [B, *shape] → logits [B, K], or [T, B, K] with readout "steps".

    Raises:
        ValueError: a number out of its range, no hidden layer, an unknown name, or recurrent neurons that learn bits.
        TypeError: recurrent layers of what is no plain neuron, or a value of another kind.

    >>> from bitspike.neurons import LIF
    >>> import torch; mlp(LIF(), hidden=(8,))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    integer("mlp", "T", T, 1, 10_000)
    if not isinstance(hidden, (list, tuple)):
        raise bad_type("mlp", "hidden must be a list of widths", type(hidden).__name__, "e.g. hidden = [256, 256]")
    integer("mlp", "number of hidden layers", len(hidden), 1, 1000)
    one_of("mlp", "recurrent", recurrent, (False, True))
    for width in hidden:
        integer("mlp", "a hidden width", width, 1, 2**20)
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [Flatten()]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        linear = Linear(inputs, outputs, bias=False)
        linear.role = "first" if index == 0 else "hidden"
        behind = _with_loop(neuron, outputs) if recurrent else new_neuron(neuron, outputs)
        layers += [linear, new_norm(outputs, norm, neuron), behind]
    classifier = Linear(widths[-1], classes)
    classifier.role = "last"
    body = nn.Sequential(*layers, classifier)
    return finish(new_network(body, encoder, T, readout), weight, policy)


def _with_loop(neuron: nn.Module, width: int) -> Recurrent:
    """Neurons of a layer that hear each other."""
    if not isinstance(neuron, Neuron):
        todo = "take a neuron such as LIF(), or leave recurrent out"
        raise bad_type("mlp", "neurons of recurrent layers must be plain Neurons", type(neuron).__name__, todo)
    return Recurrent(neuron.replicate(width), Linear(width, width, bias=False))
