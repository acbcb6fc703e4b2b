"""Residual networks from a plan; the builders with the papers' numbers are in the files beside this one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bitspike.checks import integer, one_of
from bitspike.layers import AvgPool2d, Conv2d, Encoder, GlobalAvgPool, Linear
from bitspike.models.blocks import InputBlock, unit
from bitspike.models.components import before_synapse, image_shape, new_encoder, new_neuron, new_readout
from bitspike.models.network import Network
from bitspike.models.residual_block import ResidualBlock


@dataclass(frozen=True)
class Plan:
    """Topology of a residual network.

    Args:
        depths: blocks per stage; stage i has width·2^i channels, and from the second on starts with stride 2.
        stem: "one" (3×3 conv), "three" (three of them, then 2×2 average pool) or "imagenet" (7×7 conv with stride 2,
            then 3×3 average pool with stride 2).
        shortcut: kind for `new_shortcut`. sew: add behind the neurons.
    """

    depths: tuple[int, ...]
    stem: str = "one"
    shortcut: str = "stride"
    sew: bool = False


def residual_network(
    where: str,
    plan: Plan,
    neuron: nn.Module,
    T: int,
    shape: tuple[int, int, int],
    classes: int,
    width: int,
    wiring: str,
    norm: str,
    encoder: str | Encoder,
    readout: str,
    input_neuron: bool,
) -> Network:
    """stem – stages of blocks – global average pool – linear, before `finish`; arguments as in `resnet19`.

    Modules of the body: [input], stem, [stem2, stem3], [pool], layer1 …, average, [neuron], classifier.

    Raises:
        ValueError, TypeError: a number out of range, or a shape that is no image.
    """
    one_of(where, "wiring", wiring, ("spike", "input"))
    integer(where, "width", width, 1, 4096)
    integer(where, "classes", classes, 1, 2**20)
    channels = image_shape(where, shape)[0]
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if input_neuron:
        body["input"] = new_neuron(neuron, channels)
    large = plan.stem == "imagenet"
    stem = Conv2d(channels, width, 7, stride=2, padding=3) if large else Conv2d(channels, width, 3, padding=1)
    stem.role = "first"
    body["stem"] = unit(stem, neuron, norm, wiring)
    if plan.stem == "three":
        body["stem2"] = unit(Conv2d(width, width, 3, padding=1), neuron, norm, wiring)
        body["stem3"] = unit(Conv2d(width, width, 3, padding=1), neuron, norm, wiring)
        body["pool"] = AvgPool2d(2, ceil=True)
    elif large:
        body["pool"] = AvgPool2d(3, 2, padding=1)
    block = ResidualBlock if wiring == "spike" else InputBlock
    inputs = width
    for stage, depth in enumerate(plan.depths):
        outputs = width * 2**stage
        blocks = []
        for index in range(depth):
            stride = 2 if stage and not index else 1
            blocks.append(block(inputs, outputs, stride, neuron, norm, plan.shortcut, plan.sew))
            inputs = outputs
        body[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    body["average"] = GlobalAvgPool()
    for own in before_synapse(wiring, neuron, inputs):
        body["neuron"] = own
    classifier = Linear(inputs, classes)
    classifier.role = "last"
    body["classifier"] = classifier
    return Network(new_encoder(encoder, T), nn.Sequential(body), new_readout(readout))
