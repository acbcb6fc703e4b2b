"""Integer spikes as binary sub-steps, for event-driven hardware that knows no graded spikes."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.functional import unary_expand
from bitspike.graph import Graph, trace
from bitspike.graph.surgery import Surgery
from bitspike.layers import Recurrent, Squeeze, Synapse, TimeLayer, Windows


class UnarySynapse(TimeLayer):
    """A synapse fed with D binary sub-steps per step; sums them, adds its bias once.

    ``Σ_j W·b_j + bias = W·k + bias`` because ``Σ_j b_j = k``; the bias once per step, not once per sub-step.

    Args:
        synapse: what to expand. steps: D.
    """

    def __init__(self, synapse: Synapse, steps: int) -> None:
        super().__init__()
        self.synapse: Synapse = copy.deepcopy(synapse)
        self.steps: int = steps

    def sub_steps(self, x: Tensor) -> Tensor:
        """Integer spikes [T, B, ...] → binary [T·D, B, ...], the D sub-steps of a step in a row."""
        return unary_expand(x, self.steps).transpose(0, 1).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, I, ...] of integers 0 .. D."""
        weight = self.synapse.quantizer(self.synapse.weight)
        current = self.synapse.connect(self.sub_steps(x), weight, None)
        total = current.unflatten(0, (x.shape[0], self.steps)).sum(1)
        bias = self.synapse.bias
        return total if bias is None else total + bias.reshape(-1, *[1] * (total.dim() - 3))


def expand_unary(model: nn.Module) -> Graph:
    """Replace every synapse fed by integer spikes by one fed with binary sub-steps.

    Source: I-LIF, SpikeYOLO (arXiv 2407.20708).

    Args:
        model: a folded network (its spikes are plain integers).

    Returns:
        The graph of the expanded network; ``graph.run(x)`` equals the folded network in exact arithmetic. Means over
        time then take no other number of steps, which would make fractions.

    Raises:
        ValueError: nothing to expand, a spike with an amplitude (fold first), or integer spikes that a recurrent layer
            feeds back, where there is no synapse to put sub-steps in front of.
    """
    graph = trace(model)
    surgery = Surgery(graph)
    done = 0
    for item in surgery:
        synapse = surgery.get(item)
        if isinstance(synapse, (Squeeze, Windows)):
            synapse.takes = graph[item.all_input_nodes[0].name].T
        if isinstance(synapse, Recurrent) and synapse.format.unary:
            must = "no integer spikes may be fed back inside a layer"
            raise bad_value("expand_unary", must, f"Recurrent {item.name}", "give it binary neurons, e.g. LIF")
        record = graph[item.all_input_nodes[0].name].format if isinstance(synapse, Synapse) else None
        if not isinstance(synapse, Synapse) or record is None or not record.unary:
            continue
        if record.amplitude != "none" or record.fraction_bits:
            raise bad_value("expand_unary", "spikes must be plain integers", record.label(), "call fold first")
        surgery.put(item, UnarySynapse(synapse, record.unary))
        done += 1
    if not done:
        raise bad_value("expand_unary", "some synapse must be fed by Integer spikes", "none", "train with Integer(D)")
    return surgery.finish()
