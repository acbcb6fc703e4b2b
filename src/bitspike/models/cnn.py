"""The one study network of this repository."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from bitspike.checks import bad_value, integer
from bitspike.layers import AvgPool2d, Chain, Conv2d, Encoder, Flatten, Linear
from bitspike.models.builder import new_network
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.models.residual_block import ResidualBlock
from bitspike.models.restimulated import restimulate
from bitspike.quantizers import Quantizer


@MODELS.register("study_cnn")
def study_cnn(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    width: int = 32,
    stem_stride: int = 2,
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    policy: Policy | None = None,
    stimulated: str | Sequence[str] = (),
    attention: str = "efficient",
    attention_over: str = "step",
    attention_signal: str = "spikes",
    attention_into: str = "current",
) -> Network:
    """A small residual network in which amplitudes can act.

    conv3×3(C→w, stride) – BN – neuron; identity block w; block w→2w, stride 2, AvgDown shortcut; 2×2 average pool;
    flatten; linear. Wiring "spike": the shortcuts carry spikes.

    Args:
        neuron: prototype, `nn.ReLU()` for an ANN; every layer gets a copy. weight: of the hidden layers; default float.
        T: time steps. shape: (C, H, W) of a sample. classes: K. width: w. stem_stride: 1 or 2.
        norm: "joint", "per_step" or "threshold". encoder: a name of `ENCODERS`, or an `Encoder` of T
            steps, which is copied. readout: "mean" or "steps".
        policy: quantizers of first, last and down-sampling layers; default the first and last float.
        stimulated: shell patterns on the names of the neurons that the layer before stimulates again, see
            `restimulate`: "*", or among "body.3.neuron1", "body.3.neuron2", "body.4.neuron1", "body.4.neuron2".
        attention: "efficient" or "one" (the control). attention_over: "step", "first" or "whole"; see `Restimulate`.
        attention_signal: "spikes", "current" or "potential" of the layer before. attention_into: "current", "potential"
            or "input"; see `restimulate`.

    Returns:
        A `Network`: samples [B, C, H, W] → logits [B, K], or [T, B, K] with readout "steps".

    Raises:
        ValueError: a number out of its range, an unknown name, a shape with sides below 3 after the stem, or
            patterns that match no neuron. TypeError: a number of another kind.

    >>> from bitspike.neurons import LIF
    >>> import torch; study_cnn(LIF(), width=4)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    integer("study_cnn", "T", T, 1, 10_000)
    integer("study_cnn", "width", width, 1, 4096)
    integer("study_cnn", "stem_stride", stem_stride, 1, 2)
    stem = Conv2d(shape[0], width, 3, stride=stem_stride, padding=1)
    stem.role = "first"
    sides = [(side + stem_stride - 1) // stem_stride for side in shape[1:]]
    if len(sides) != 2 or any(side < 3 for side in sides):
        must = "the image must be (C, H, W) with sides >= 3 after the stem"
        raise bad_value("study_cnn", must, f"{shape} at stem_stride {stem_stride}", "pad it or change stem_stride")
    classifier = Linear(2 * width * ((sides[0] + 1) // 4) * ((sides[1] + 1) // 4), classes)
    classifier.role = "last"
    body = Chain(
        stem,
        new_norm(width, norm, neuron),
        new_neuron(neuron, width),
        ResidualBlock(width, width, 1, neuron, norm),
        ResidualBlock(width, 2 * width, 2, neuron, norm),
        AvgPool2d(2),
        Flatten(),
        classifier,
    )
    model = new_network(body, encoder, T, readout)
    if stimulated != ():
        restimulate(model, stimulated, attention, attention_over, signal=attention_signal, into=attention_into)
    return finish(model, weight, policy)
