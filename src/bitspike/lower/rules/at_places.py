"""A linear map of the channels at every place, wherever their axis lies in the value."""

from __future__ import annotations

import numpy as np

from bitspike.layers import Synapse
from bitspike.lower.lowering import Lowering
from bitspike.lower.places import layout
from bitspike.lower.rules.along import front
from bitspike.lower.rules.written import written
from bitspike.lower.wire import Array, Refused, Wire


def pointwise(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """[I, ...] → [O, ...]; the outputs lie in front, all other axes as they did."""
    shape = low.shape(x)
    if shape[0] != module.weight.shape[1]:
        raise Refused(f"its input has {shape[0]} channels, its weight {module.weight.shape[1]}")
    x, axes, axis, behind = in_front(low, x, source)
    x, weight, attributes = front(low, low.operand(x, source).placed(None), axes, axis, f"{name}.input")
    outputs = len(module.weight)
    made = written(
        low, name, module, "convolution" if attributes else "linear", x, attributes,
        formed=lambda k: k.reshape(outputs, *weight),
    )  # fmt: skip
    return made.placed(places_behind(axes, axis, outputs, behind).reshape(outputs, *shape[1:]))


def in_front(low: Lowering, x: Wire, source: str) -> tuple[Wire, tuple[int, ...], int, tuple[int, ...]]:
    """Where axis 0 of a wire lies.

    Returns:
        (wire, axes of its value, which of them, of the others the order in which the network has them with its shape
        left out).
    """
    at = _at(low, x)
    found = layout(at)
    if found is None or len(found.groups[0]) > 1:
        x = low.straight(x, source)
        found = layout(_at(low, x))
    assert found is not None  # numbers that lie as in the network
    if not found.groups[0]:  # an axis of one place
        return x, (1, *found.axes), 0, tuple(i + 1 for i in found.order)
    axis = found.order[found.groups[0][0]]
    return x, found.axes, axis, found.order[1:]


def places_behind(axes: tuple[int, ...], axis: int, outputs: int, behind: tuple[int, ...]) -> Array:
    """Where numbers lie after an axis of a value has become ``outputs`` in front: [outputs, the others in order]."""
    rest = [size for i, size in enumerate(axes) if i != axis]
    places = np.arange(outputs * int(np.prod(rest, dtype=np.int64))).reshape(outputs, *rest)
    kept = [i for i in range(len(axes)) if i != axis]
    return places.transpose(0, *(1 + kept.index(i) for i in behind))


def _at(low: Lowering, x: Wire) -> Array:
    value = low.value(x)
    return np.arange(value.size).reshape(value.shape) if x.at is None else x.at
