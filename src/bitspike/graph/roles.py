"""Which synapses are the first and the last, read off the graph, and what no pass can see."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import nn

from bitspike.graph.graph import Graph
from bitspike.layers import BatchNorm, Synapse
from bitspike.neurons import Neuron
from bitspike.quantizers import Quantizer

_KNOWN = (Neuron, BatchNorm, Synapse, Quantizer, nn.modules.batchnorm._BatchNorm)


def ends(graph: Graph) -> dict[str, str]:
    """Synapse → "first", where no neuron is before it, or "last", where none is behind it; the others are not there."""
    fed: dict[str, bool] = {}
    for node in graph:
        fed[node.name] = node.kind == "neuron" or any(fed[name] for name in node.inputs)
    followed: dict[str, bool] = {}
    for node in reversed(list(graph)):
        followed[node.name] = any(graph[name].kind == "neuron" or followed[name] for name in node.consumers)
    found = {node.name: "last" for node in graph.of_kind("synapse") if not followed[node.name]}
    return found | {node.name: "first" for node in graph.of_kind("synapse") if not fed[node.name]}


def roles(graph: Graph) -> dict[str, str]:
    """Roles of synapses: what was set; in a network where some are set, those of others by their place (`ends`).

    So a classifier that a user has put in place of the builder's is the last layer, too.
    """
    nodes = [node for node in graph.of_kind("synapse") if isinstance(node.module, Synapse)]
    named = {node.name for node in nodes if "role" in vars(node.module)}
    place = ends(graph) if named else {}
    return {
        node.name: node.module.role if node.name in named else place.get(node.name, node.module.role)
        for node in nodes
        if isinstance(node.module, Synapse)
    }


def unseen(graph: Graph, known: Callable[[nn.Module], bool] = lambda layer: False) -> list[str]:
    """Names of the neurons, norms, synapses and quantizers inside other layers, which no pass over the graph sees.

    Args:
        graph: of the network. known: layers that the pass which asks knows as a whole.
    """
    found = []
    for node in graph:
        if node.module is None or isinstance(node.module, Neuron) or known(node.module):
            continue
        own = getattr(node.module, "quantizer", None) if isinstance(node.module, Synapse) else None
        within = () if own is None else tuple(own.modules())

        for name, module in node.module.named_modules():
            if name and isinstance(module, _KNOWN) and not any(module is part for part in within):
                found.append(f"{node.name}.{name} ({type(module).__name__})")
    return found


def warn_unseen(where: str, graph: Graph, known: Callable[[nn.Module], bool] = lambda layer: False) -> list[str]:
    """Warn of what is `unseen`, and return it."""
    names = unseen(graph, known)
    if names:
        warnings.warn(
            f"{where}: what is inside other layers is not seen: {', '.join(names)}; call it from a plain nn.Module.",
            UserWarning,
            stacklevel=3,
        )
    return names
