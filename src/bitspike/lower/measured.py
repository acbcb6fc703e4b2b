"""Calibration: what every node of the folded network sends on data, and how far membranes go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitspike.checks import bad_value, finite
from bitspike.graph import Graph, Node
from bitspike.neurons import Neuron
from bitspike.observe import potentials


@dataclass
class Measured:
    """Greatest magnitudes over the calibration data.

    Attributes:
        most: node → greatest |value| of its output. membranes: neuron → greatest |u|.
        shapes: node → shape of its output for the first batch. samples: how many were seen.
    """

    most: dict[str, float] = field(default_factory=dict)
    membranes: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    samples: int = 0


@torch.no_grad()
def measure(graph: Graph, batches: Iterable[Tensor]) -> Measured:
    """Run calibration batches through a folded network.

    Raises:
        ValueError: no data, or NaN or inf in it or on the way.
    """
    found = Measured()

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(value, Tensor) and value.dtype != torch.bool:  # a comparison, which no rule takes
            _note(found, node.name, value)
        if isinstance(node.module, Neuron):
            u = float(potentials(node.module, args[0]).abs().max())
            found.membranes[node.name] = max(u, found.membranes.get(node.name, 0.0))
        return value

    given = next(iter(graph.of_kind("input")), None)
    for batch in batches:
        finite("compile", "the calibration data", batch)
        graph.check_input("compile", batch)
        if given is not None:
            _note(found, given.name, batch)
        graph.run(batch, handler=note)
        found.samples += batch.shape[graph.batch_axis]
    if not found.samples:
        raise bad_value("compile", "there must be calibration data", "none", "pass inputs of the network")
    return found


def _note(found: Measured, name: str, value: Tensor) -> None:
    finite("compile", f"what {name} sends on the calibration data", value)
    found.shapes.setdefault(name, tuple(value.shape))
    found.most[name] = max(float(value.abs().max()), found.most.get(name, 0.0))
