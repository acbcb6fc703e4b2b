"""Other numbers of steps, and the read-outs."""

from __future__ import annotations

import math
from typing import Any

from bitspike.graph import Node
from bitspike.layers import MeanReadout, Squeeze, Windows
from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Refused, Wire, wire


def squeeze(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """The sum over the steps, held; what it is divided by waits for the next rescale."""
    module, (x,) = node.module, wires
    assert isinstance(module, Squeeze)
    steps, name = low.value(x).steps, low.source(node)
    if module.passes(steps):
        return x
    if not module.always and steps == module.T:
        return x.times(module.summed_steps)
    divisor = float(module.divisor(steps))
    summed = squeeze_sum(low, x, name, f"{node.name}.sum").times(1 / divisor)
    return hold(low, summed, module.T, node.name)


def squeeze_sum(low: Lowering, x: Wire, source: str, name: str) -> Wire:
    """The sum over all steps of a window, as one step."""
    steps = low.value(x).steps
    if steps == 1:
        return low.plain(x, source)
    x = low.plain(x, source, room=steps, steady=True)
    return wire(low.add("windows", name, [x], {"frames": steps, "steps": 1}), x.factor, at=x.at)


def hold(low: Lowering, x: Wire, steps: int, name: str) -> Wire:
    """One step, held for so many; of factors by step it has the first."""
    if steps == 1:
        return x
    factor = x.factor[0] if x.factor.ndim == 2 else x.factor
    return wire(low.add("windows", name, [x], {"frames": 1, "steps": steps}), factor, at=x.at)


def windows(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Weighted sums of frames; the weights are the layer's own integers."""
    module, (x,) = node.module, wires
    assert isinstance(module, Windows)
    frames = low.value(x).steps
    if frames == module.T:
        return x.times(module.factor(frames))
    made = windows_sum(low, x, low.source(node), module.T, node.name, math.gcd)
    # the row sums with n/gcd, and so does the layer before it applies its factor
    return made.times(module.factor(frames) * module.divisor(frames))


def windows_sum(low: Lowering, x: Wire, source: str, steps: int, name: str, gcd: Any) -> Wire:
    """Means over windows: sums of n/gcd times a frame, worth 1/(frames/gcd)."""
    frames = low.value(x).steps
    parts = frames // gcd(frames, steps)
    if frames == steps:
        return x
    x = low.plain(x, source, room=parts, steady=True)
    made = wire(low.add("windows", name, [x], {"frames": frames, "steps": steps}), x.factor, at=x.at)
    return made.times(1 / parts)


def mean(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """The sum of the steps that count; the division is the reader's."""
    module = node.module
    assert isinstance(module, MeanReadout)
    keep = [1] if module.keep is None else [int(k) for k in module.keep.tolist()]
    if module.keep is not None and not bool(((module.keep == 0) | (module.keep == 1)).all()):
        raise Refused("its steps count by weights other than 0 and 1")
    x = logits(low, wires[0], low.source(node), node.name)
    return wire(low.add("mean", node.name, [x], {"keep": keep}), x.factor)


def logits(low: Lowering, x: Wire, source: str, name: str) -> Wire:
    """A wire that may come out: in units of a power of two, the program's own exponent."""
    value = low.value(x)
    if x.scalar and value.exponent is not None and x.factor == 2.0**-value.exponent:
        return x
    return low.current(x, source, f"{name}.logits")
