"""The membrane of a neuron as a signal: the second output of its `fire`."""

from __future__ import annotations

from bitspike.graph import Node
from bitspike.layers import Recurrent
from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Refused, Wire, wire


def potential(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """The potential that this very neuron shows; a layer that follows other spikes has no row."""
    current, spikes = node.inputs
    if spikes not in low.membranes or low.graph[spikes].inputs != (current,):
        raise Refused("it follows a neuron that is not fed with the same current")
    if isinstance(low.graph[spikes].module, Recurrent):
        raise Refused("it follows the current from outside, and the neuron is also charged by what comes back")
    found = low.membranes[spikes]
    if not found.name:
        raise Refused("its neuron shows no membrane")
    return wire(found.name, found.factor)
