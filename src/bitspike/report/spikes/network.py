"""Spikes of a trained network on samples of a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.data import Batches, Samples, SequenceSet
from bitspike.graph import Graph, Node, trace, warn_unseen
from bitspike.layers import Encoder, mean_over_steps
from bitspike.neurons import Neuron
from bitspike.observe import levels_of
from bitspike.report.spikes.seen import Layer, Seen
from bitspike.training.unequal import at_length, lengths_differ


def seen_in_network(model: nn.Module, data: Samples, indices: Sequence[int]) -> tuple[list[Layer], list[Seen]]:
    """Run samples one by one and keep what every neuron layer sends, and every encoder that sends spikes.

    A sequence that is shorter than others is run with the steps it has.

    Args:
        model: in evaluation mode. data: a set. indices: of samples in it.

    Raises:
        ValueError: an index outside the set, or an untraceable network.

    Warns of neurons inside a layer of the user's own, which are not seen.
    """
    layers: list[Layer] = []
    seen, graph = [], trace(model)
    warn_unseen("view", graph)
    for index in indices:
        own = data.subset([index])
        if isinstance(own, SequenceSet) and lengths_differ(own):
            (own,) = own.by_length()
            graph = trace(at_length(model, own.steps))
        ((x, _),) = Batches(own, 1)
        levels, output, _ = run_seen(graph, x)
        layers = layers or layers_of(graph, levels)
        words = words_of(own, index, output)
        sample = own.images[0].cpu().numpy()
        seen.append(Seen(words, sample, isinstance(own, SequenceSet), levels, output))
    return layers, seen


@torch.no_grad()
def run_seen(graph: Graph, x: Tensor) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(node → levels [T, ...], mean output [K], what the encoder sends [T, 1, ...]) of one sample."""
    levels: dict[str, np.ndarray] = {}
    sent = [x]

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value, module = call(), node.module
        if isinstance(module, Neuron):
            k = levels_of(module, value)[:, 0].cpu().numpy()
            levels[node.name] = k.astype(np.float32) + 0 if module.format.real else k.astype(np.int32)  # no -0
        if isinstance(module, Encoder):
            sent[0] = value
            if module.format is not None and not module.format.real:
                k = (value[:, 0] * 2**module.format.fraction_bits).round()
                levels[node.name] = k.cpu().numpy().astype(np.int32)
        return value

    output = mean_over_steps(graph.run(x, handler=note), None)[0]
    return levels, output.double().cpu().numpy(), sent[0].cpu().numpy()


def layers_of(graph: Graph, levels: dict[str, np.ndarray]) -> list[Layer]:
    """The layers that have sent, in order of execution."""
    found = []
    for name, sent in levels.items():
        record: Any = graph[name].module.format  # type: ignore[union-attr]
        found.append(Layer(name, tuple(sent.shape[1:]), record.low, record.high, record.real))
    return found


def words_of(data: Samples, index: int, output: np.ndarray) -> str:
    """Which sample of the test split it is; of classes also the label and the answer."""
    words = f"test {index}"
    if data.labels.dim() > 1:
        return words
    return f"{words}: label {data.classes[int(data.labels[0])]}, answer {data.classes[int(output.argmax())]}"
