"""Patches of spiking transformers: four convolutions, the last of them pooled."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.layers import ATTENTION, Conv2d, MaxPool2d
from bitspike.models.blocks import unit
from bitspike.models.builder import opened
from bitspike.models.components import new_norm
from bitspike.models.options import Options, Size

_POOLS = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}


@dataclass(frozen=True)
class Former(Size):
    """The choice of blocks.

    Args:
        attention: a name of `ATTENTION`. depth: blocks, 1 to 100. heads: a divisor of `width`.
        patch: side of a patch in pixels, 1, 2, 4, 8 or 16: as many of the four convs are pooled, the last ones.
    """

    attention: str = "ssa"
    depth: int = 4
    heads: int = 12
    patch: int = 4


@dataclass(frozen=True)
class FormerOptions(Options, Former):
    """Spikformer-4-384."""

    T: int = 4
    width: int = 384


def patched(where: str, options: FormerOptions, wiring: str) -> tuple[OrderedDict[str, nn.Module], int]:
    """The layers of a network up to its patches, and how many tokens those are.

    Convs 3×3 of width/8, /4, /2 and /1 channels with norm and neuron; with wiring "input" the last has no neuron and
    sends currents.

    Args:
        where: for messages. options: of the builder. wiring: the only one that the builder has.

    Raises:
        TypeError, ValueError: an option that these networks cannot have.
    """
    one_of(where, "wiring", options.wiring, (wiring,))
    one_of(where, "attention", options.attention, tuple(ATTENTION))
    integer(where, "depth", options.depth, 1, 100)
    one_of(where, "patch", options.patch, tuple(_POOLS))
    body, (inputs, height, breadth) = opened(where, options, options.patch)
    if options.width % 8:
        todo = "the convs have an eighth of it and more"
        raise bad_value(where, "width must be a multiple of 8", options.width, todo)
    neuron, norm = options.neuron, options.norm
    for index, part in enumerate((8, 4, 2, 1), 1):
        outputs = options.width // part
        conv = Conv2d(inputs, outputs, 3, padding=1)
        conv.role = "first" if index == 1 else "hidden"
        current = wiring == "input" and index == 4
        layers = OrderedDict[str, nn.Module](conv=conv, norm=new_norm(outputs, norm, neuron)) if current else None
        body[f"conv{index}"] = unit(conv, neuron, norm, "spike") if layers is None else nn.Sequential(layers)
        if index > 4 - _POOLS[options.patch]:
            body[f"pool{index}"] = MaxPool2d(2)
        inputs = outputs
    return body, height * breadth // options.patch**2
