"""Modules of torch that only put values elsewhere: other shapes, other orders of channels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from bitspike.graph import Node
from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.upgrade.layers import Merged


@torch.no_grad()
def moved(low: Lowering, node: Node, wires: list[Wire], why: str) -> Wire:
    """What a body does to places, read off numbered ones; raises `Refused` with ``why`` where that is no operation."""
    module = node.module
    assert isinstance(module, Merged)
    if not (module.keeps_format and module.scaling == "linear" and module.alone and len(wires) == 1):
        raise Refused(why)
    x = low.plain(wires[0], low.source(node))
    shape = low.value(x).shape
    places = torch.arange(low.value(x).size, dtype=torch.float64).reshape(1, *shape)
    y: Any = module.body(places)
    got = y[0].numpy()
    if np.array_equal(got.reshape(-1), places.numpy().reshape(-1)):
        if x.factor.ndim and got.shape[:1] != shape[:1]:
            x = low.current(wires[0], low.source(node))
        return wire(low.add("reshape", node.name, [x], {"shape": list(got.shape)}), x.factor)
    inner = int(np.prod(shape[1:], dtype=np.int64))
    first = got.reshape(len(got), -1)[:, 0]
    whole = places.numpy()[0][(first // inner).astype(int)] if (first >= 0).all() and got.ndim == len(shape) else None
    if whole is None or not np.array_equal(whole, got):
        raise Refused(why)
    return taken_channels(low, x, (first // inner).astype(int).tolist(), node.name)


def taken_channels(low: Lowering, x: Wire, places: list[int], name: str) -> Wire:
    """Some channels of a plain wire, in any order: slices side by side."""
    shape = low.value(x).shape
    cuts = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
    parts = []
    for a, b in pairwise(cuts):
        rest = [0] * (len(shape) - 1)
        start, stop = places[a], places[b - 1] + 1
        attributes = {"start": [start, *rest], "stop": [stop, *shape[1:]], "stride": [1] * len(shape)}
        parts.append(wire(low.add("slice", f"{name}.part{a}", [x], attributes)))
    made = parts[0].name if len(parts) == 1 else low.add("concat", name, parts)
    factor: Array = x.factor[..., places] if x.factor.ndim and x.factor.shape[-1] > 1 else x.factor
    return wire(made, factor)
