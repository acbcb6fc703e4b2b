"""Which synapses of an upgraded network are the first, the last and on down-sampling shortcuts."""

from __future__ import annotations

from bitspike.graph import Graph, Node
from bitspike.layers import BatchNorm, Synapse


def assign_roles(graph: Graph) -> None:
    """Set ``role`` on every synapse, as builders do, so that weight policies and `cost` know them.

    "first": no neuron before it. "last": no neuron behind it. "downsample": a 1×1 convolution whose input feeds a
    second branch too, and whose output is only normalised before it is added.
    """
    fed: dict[str, bool] = {}
    for node in graph:
        fed[node.name] = node.kind == "neuron" or any(fed[name] for name in node.inputs)
    followed: dict[str, bool] = {}
    for node in reversed(list(graph)):
        followed[node.name] = any(graph[name].kind == "neuron" or followed[name] for name in node.consumers)
    for node in graph.of_kind("synapse"):
        synapse = node.module
        if not isinstance(synapse, Synapse):
            continue
        if not fed[node.name]:
            synapse.role = "first"
        elif not followed[node.name]:
            synapse.role = "last"
        elif _projects(graph, node, synapse):
            synapse.role = "downsample"


def _projects(graph: Graph, node: Node, synapse: Synapse) -> bool:
    if synapse.weight.dim() < 3 or synapse.weight.shape[2:].numel() != 1:
        return False
    ahead = [graph[name] for name in node.consumers]
    while len(ahead) == 1 and isinstance(ahead[0].module, BatchNorm):
        ahead = [graph[name] for name in ahead[0].consumers]
    back = graph[node.inputs[0]]
    while len(back.consumers) == 1 and back.kind == "layer" and len(back.inputs) == 1:
        back = graph[back.inputs[0]]
    return len(ahead) == 1 and ahead[0].kind == "add" and len(back.consumers) > 1
