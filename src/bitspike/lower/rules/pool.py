"""Pools, flattening and padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from bitspike.graph import Node
from bitspike.layers import AvgPool2d, GlobalAvgPool, SumPool2d, TallyMaxPool2d, TallyPool
from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.models.pad import PadShortcut
from bitspike.upgrade.layers import ZeroPad

_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d)
_ADAPTIVE: dict[type[nn.Module], Any] = {
    nn.AdaptiveMaxPool1d: nn.MaxPool1d,
    nn.AdaptiveMaxPool2d: nn.MaxPool2d,
    nn.AdaptiveAvgPool1d: nn.AvgPool1d,
    nn.AdaptiveAvgPool2d: nn.AvgPool2d,
    nn.AdaptiveMaxPool3d: nn.MaxPool3d,
    nn.AdaptiveAvgPool3d: nn.AvgPool3d,
}


def average(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Sums over windows; what they are to be divided by waits for the next rescale."""
    module: Any = node.module
    assert isinstance(module, (AvgPool2d, GlobalAvgPool, SumPool2d))
    shape = low.value(wires[0]).shape
    if len(shape) != 3:
        raise Refused(f"it pools images, and gets {len(shape)} axes")
    whole = isinstance(module, GlobalAvgPool)
    divisor = 0 if isinstance(module, SumPool2d) else module.window((1, 1, *shape))
    sides: list[int] = list(shape[1:]) if whole else [int(module.kernel)] * 2  # type: ignore[arg-type]
    x = low.plain(wires[0], low.source(node), room=max(divisor, math.prod(sides)))
    attributes: dict[str, Any] = {"kernel": sides, "stride": sides, "padding": [0, 0], "divisor": divisor}
    if not isinstance(module, GlobalAvgPool):
        attributes |= {"stride": [module.stride] * 2, "padding": [module.padding] * 2}
        attributes["ceil"] = bool(getattr(module, "ceil", False))
    name = low.add("sumpool", node.name, [x], attributes)
    summed = isinstance(module, SumPool2d) or bool(module.divisor)
    made = wire(name, x.factor if summed else x.factor / divisor)
    return flat(low, f"{node.name}.features", made) if whole else made


def maximum(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Maxima, of a step or of what was sent so far; our pools and torch's."""
    pool: Any = node.module
    tally = isinstance(pool, (TallyMaxPool2d, TallyPool))
    if isinstance(pool, TallyPool):
        pool = regular(pool.pool, low.value(wires[0]).shape)
        if type(pool) not in _MAXIMA:
            steps = low.value(wires[0]).steps
            what = f"{type(pool).__name__} of what was sent so far at {steps} steps"
            raise Refused(f"{what} has windows that a program keeps no maxima of; convert with T=1")
    return greatest(low, node.name, pool, wires[0], low.source(node), tally)


def greatest(low: Lowering, name: str, pool: Any, x: Wire, source: str, tally: bool = False) -> Wire:
    """Maxima over regular windows of a wire that lies as in the network."""
    axes = 1 if isinstance(pool, nn.MaxPool1d) else 2
    if len(low.value(x).shape) != axes + 1:
        raise Refused(f"it pools over {axes} axes, and gets {list(low.value(x).shape)}")
    room = low.value(x).steps if tally else 1  # its sums over time are 32 bits wide
    x = low.plain(x, source, room=room, positive=True, steady=tally)
    attributes = {
        "kernel": each(pool.kernel_size if hasattr(pool, "kernel_size") else pool.kernel, axes),
        "stride": each(pool.stride, axes),
        "padding": each(getattr(pool, "padding", 0), axes),
        "dilation": each(getattr(pool, "dilation", 1), axes),
        "ceil": bool(getattr(pool, "ceil_mode", False)),
    }
    return wire(low.add("tally" if tally else "maxpool", name, [x], attributes), x.factor)


def flatten(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """[C, H, W] → [features], channel by channel."""
    (x,) = wires
    return flat(low, node.name, low.plain(x, low.source(node))) if x.at is None else x.placed(x.at.reshape(-1))


def flat(low: Lowering, name: str, x: Wire) -> Wire:
    """A plain wire as features; a factor per channel becomes one per feature."""
    value = low.value(x)
    if len(value.shape) == 1:
        return x
    inner = math.prod(value.shape[1:])
    factor = np.repeat(x.factor, inner, -1) if x.factor.ndim and x.factor.shape[-1] > 1 else x.factor
    return wire(low.add("reshape", name, [x], {"shape": [value.size]}), factor)


def pad(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Zeros around images or as further channels; every second pixel of a shortcut."""
    module, x = node.module, low.plain(wires[0], low.source(node))
    shape = low.value(x).shape
    if isinstance(module, PadShortcut):
        if module.stride > 1:
            steps = [1, module.stride, module.stride]
            part = {"start": [0, 0, 0], "stop": list(shape), "stride": steps}
            x = wire(low.add("slice", f"{node.name}.pixels", [x], part), x.factor)
        before, after = [module.before, 0, 0], [module.behind, 0, 0]
    else:
        assert isinstance(module, ZeroPad)
        pairs = [*module.pads, *[0] * (2 * len(shape) - len(module.pads))]
        before, after = pairs[-2::-2], pairs[-1::-2]
    if not any(before) and not any(after):
        return x
    factor = _padded(x.factor, before[0], after[0])
    return wire(low.add("pad", node.name, [x], {"before": before, "after": after}), factor)


def torch_average(low: Lowering, name: str, pool: Any, x: Wire, source: str) -> Wire | None:
    """Torch's own mean over windows that are all alike; None where they hold different numbers of values."""
    axes = 1 if isinstance(pool, nn.AvgPool1d) else 2
    shape = low.value(x).shape
    if len(shape) != axes + 1:
        raise Refused(f"it pools over {axes} axes, and gets {list(shape)}")
    kernel, padding = each(pool.kernel_size, axes), each(pool.padding, axes)
    divisor = int(getattr(pool, "divisor_override", None) or math.prod(kernel))
    if pool.ceil_mode or (any(padding) and not pool.count_include_pad):
        return None
    x = low.plain(x, source, room=math.prod(kernel))
    attributes = {"kernel": kernel, "stride": each(pool.stride, axes), "padding": padding}
    return wire(low.add("sumpool", name, [x], attributes), x.factor / divisor)


def regular(pool: Any, shape: tuple[int, ...]) -> Any:
    """A pool with windows of its own choice as one with equal windows, where they are equal; else itself."""
    if type(pool) not in _ADAPTIVE:
        return pool
    given, sides = pool.output_size, shape[1:]
    wanted = [n if w is None else w for w, n in zip(_each_or_none(given, len(sides)), sides, strict=True)]
    if any(n % w for n, w in zip(sides, wanted, strict=True)):
        return pool
    kernel = tuple(n // w for n, w in zip(sides, wanted, strict=True))
    return _ADAPTIVE[type(pool)](kernel if len(kernel) > 1 else kernel[0])


def _each_or_none(size: Any, axes: int) -> list[Any]:
    return list(size) if isinstance(size, (tuple, list)) else [size] * axes


def each(number: Any, axes: int) -> list[int]:
    """A number an axis."""
    return [int(n) for n in number] if isinstance(number, (tuple, list)) else [int(number)] * axes


def _padded(factor: Array, before: int, after: int) -> Array:
    if not factor.ndim or factor.shape[-1] == 1 or not (before or after):
        return factor
    around = [(0, 0)] * (factor.ndim - 1) + [(before, after)]
    padded: Array = np.pad(factor, around, constant_values=1.0)
    return padded
