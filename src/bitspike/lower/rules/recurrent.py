"""Recurrent layers: the spikes of the step before, through the layer's own synapse, charge its neurons."""

from __future__ import annotations

from typing import Any

from bitspike.graph import Node
from bitspike.layers import Recurrent
from bitspike.layers.affine import Affine, Gain
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.sums import added
from bitspike.lower.rules.synapse import connected
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime import INPUT
from bitspike.runtime.echoes import in_step


def fed_back(
    low: Lowering, node: Node, module: Recurrent, x: Wire, attributes: dict[str, Any], worth: float
) -> tuple[Wire, str]:
    """What charges the neurons, and the name that their spikes must get.

    Args:
        module: folded, in float64. x: the current from outside. attributes: of the row `fire`, with what levels count.
        worth: of one of these counts.
    """
    if x.at is not None:
        raise Refused("its numbers lie in another order than in the network; straighten what comes in")
    if x.name not in in_step(low.builder.operations):
        raise Refused("its input has other steps than the network's; put it before layers with a T of their own")
    back, spikes = f"{node.name}.before", low.free(f"{node.name}.spikes")
    top = max(attributes["count"])
    low_end = -top * attributes.get("down", 1) if attributes["signed"] else 0
    echo = {"of": spikes, "shape": list(low.shape(x)), "low": low_end, "high": top * attributes.get("up", 1)}
    echo["exponent"] = attributes.get("exponent", 0)
    y = wire(low.add("echo", back, [wire(INPUT)], echo), worth)
    if isinstance(module.before, Gain):
        y = y.times(_numbers(module.before.factor))
    y = connected(low, f"{node.name}.synapse", module.synapse, y, back)
    if isinstance(module.behind, Affine):
        y = y.times(_numbers(module.behind.scale), _numbers(module.behind.shift))
    if low.shape(y) != low.shape(x):
        raise Refused(f"its spikes come back as {list(low.shape(y))}, its currents are {list(low.shape(x))}")
    return added(low, f"{node.name}.sum", [low.source(node), back], [x, y]), spikes


def _numbers(parameter: Any) -> Array:
    found: Array = parameter.detach().double().cpu().numpy()
    return found[0] if found.ndim == 1 and found.size == 1 else found
