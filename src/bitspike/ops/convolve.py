"""The convolution of spikes as an operation of the dispatch table; here its definition, the float convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from bitspike.ops.dispatch import REFERENCE, register

Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Input [T, B, I, H, W], quantized weight [O, I/groups, kh, kw] and bias [O] or None → output [T, B, O, H', W']."""


class Levels(NamedTuple):
    """Spikes ``factor·k`` with integer ``low <= k <= high``; factor None: not one for all of them."""

    low: int
    high: int
    factor: float | None


class Place(NamedTuple):
    """Where a convolution puts its window, as in `torch.nn.functional.conv2d`; the padding is zeros."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


class ConvolveFacts(NamedTuple):
    """What a kernel of "convolve" has to know to run or refuse.

    Args:
        spikes: alphabet of the input, or why it is not known.
        place: of the window, or why there is none.
        weight: the `bitspike.formats.WeightFormat`. fan_in: inputs that one output sums.
        tensor: the input [T, B, I, H, W]; its memory order and dtype decide. autocast: whether it is on.
    """

    spikes: Levels | str
    place: Place | str
    weight: Any
    fan_in: int
    tensor: Tensor
    autocast: bool


def convolve_reference(layer: Any, facts: ConvolveFacts) -> Map:
    """The layer's own map in floating point; the arguments of every kernel.

    Args:
        layer: a `bitspike.layers.Synapse`. facts: about it and its input.

    Returns:
        The map, which may be called again on equal spikes and then gives equal outputs.
    """
    return layer.connect  # type: ignore[no-any-return]


register("convolve", REFERENCE, convolve_reference)
