"""One amplitude for all neurons whose spikes are added, so that the sums are integers."""

from __future__ import annotations

from torch import nn

from bitspike.checks import bad_value
from bitspike.functional import learns_bits
from bitspike.graph import Graph, Node, trace
from bitspike.graph.moves import summands
from bitspike.layers import TimeLayer
from bitspike.neurons import Neuron


def share_amplitudes(model: nn.Module) -> list[list[str]]:
    """Let neurons whose spikes meet in a sum train one amplitude together, in place.

    Where amplitudes differ, ``a·k + b·j`` is real: what reads it multiplies, with 32 bits a value. With one amplitude
    it is ``a·(k + j)``, integers with an alphabet, and the amplitude moves into the weights behind. Sums of currents
    and of spikes with currents are no matter of alphabets and stay as they are.

    Args:
        model: a network whose neurons have trained amplitudes, all "layer" or all "channel" within a sum. The first
            neuron of a group keeps its parameter; the others read it, too, and lose their own.

    Returns:
        The groups: names of neurons, those of the network's order first. None of one neuron.

    Raises:
        ValueError: a group in which one neuron has a trained amplitude and another none, or another form of it, or one
            whose learned bits renew a step size of its own; named.

    >>> from bitspike.models import spikformer
    >>> from bitspike.neurons import LIF
    >>> net = spikformer(LIF(train_amplitude="layer"), width=16, heads=2, depth=1, shape=(3, 8, 8))
    >>> [group] = share_amplitudes(net)
    >>> [name.removeprefix("body.") for name in group]
    ['conv4.neuron', 'position.unit.neuron', 'block1.attention.project.2', 'block1.mlp.1.neuron']
    """
    graph = trace(model)
    groups = [sorted(group, key=list(graph.items).index) for group in _groups(graph)]
    groups.sort(key=lambda group: list(graph.items).index(group[0]))
    for group in groups:
        first, *others = [_neuron(graph[name]) for name in group]
        if first.emission.raw_amplitude is None and all(one.emission.raw_amplitude is None for one in others):
            continue  # fixed ones are the user's
        for name, neuron in zip(group, (first, *others), strict=True):
            _check(graph[group[0]], first, graph[name], neuron)
        for neuron in others:
            neuron.emission.raw_amplitude = first.emission.raw_amplitude
    return [[graph[name].path for name in group] for group in groups]


def _groups(graph: Graph) -> list[set[str]]:
    """Neurons whose spikes are added, directly or through other sums."""
    senders: dict[str, frozenset[str] | None] = {}
    groups: list[set[str]] = []
    for node in graph:
        before = [senders[name] for name in node.inputs]
        found: frozenset[str] | None = None
        if isinstance(node.module, Neuron):
            found = frozenset([node.name])
        elif _adds(graph, node) and None not in before and before:
            found = frozenset().union(*(one for one in before if one is not None))
            met = [group for group in groups if group & found]
            groups = [group for group in groups if group not in met] + [set(found).union(*met)]
        elif _passes(node) and len(before) == 1:
            found = before[0]
        senders[node.name] = found
    return [group for group in groups if len(group) > 1]


def _adds(graph: Graph, node: Node) -> bool:
    layer = isinstance(node.module, TimeLayer) and node.module.scaling == "add"
    return layer or (node.kind == "add" and len(summands(graph.items[node.name])) > 1)


def _passes(node: Node) -> bool:
    """Whether a layer sends on what it gets, spike for spike."""
    return isinstance(node.module, (nn.Identity, nn.Dropout)) or (
        isinstance(node.module, TimeLayer) and node.module.keeps_format
    )


def _neuron(node: Node) -> Neuron:
    assert isinstance(node.module, Neuron)
    return node.module


def _check(first_node: Node, first: Neuron, node: Node, neuron: Neuron) -> None:
    """Raise unless two neurons can have one amplitude."""
    where = "share_amplitudes"
    if learns_bits(neuron) and neuron.step_parameter() is not None:
        must = f"the step size of {node.path} must not be renewed by its own bits, as all that share it would change"
        raise bad_value(where, must, type(neuron).__name__, "take multibit or integer with train_amplitude")
    one, other = (_form(each) for each in (first, neuron))
    if one != other:
        must = f"the spikes of {first_node.path} and {node.path} are added, so both must have amplitudes of one form"
        raise bad_value(where, must, f"{one} and {other}", "give both the same neuron, with train_amplitude")


def _form(neuron: Neuron) -> str:
    emission = neuron.emission
    raw = emission.raw_amplitude
    if raw is None:
        return f"a fixed one of {emission.initial:g}"
    kind = "raw" if emission.raw else "exponential"
    return f"{list(raw.shape)} {kind} with {emission.fraction_bits} fractional bits"
