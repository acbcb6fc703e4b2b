"""One collector of what neurons send: spike rate, set bits, saturation, level histogram."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import finite
from bitspike.formats import SpikeFormat
from bitspike.functional import popcount
from bitspike.graph import Graph, Node, trace, warn_unseen
from bitspike.layers import check_numbers
from bitspike.neurons import Neuron


@dataclass
class Activity:
    """Counts of one neuron layer (one call site) over everything observed.

    Attributes:
        name, path: of the graph node. format: alphabet. T: time steps. shape: of one sample and step, e.g. (C, H, W).
        samples: samples seen. sent: neuron-steps seen. fired: non-zero spikes. set_bits: ones in the binary digits of
        |k| (32 per fired real spike). saturated: spikes at the ends of a graded range (0 for binary and ternary).
        histogram: level k → count.
    """

    name: str
    path: str
    format: SpikeFormat
    T: int
    shape: tuple[int, ...] = ()
    samples: int = 0
    sent: int = 0
    fired: int = 0
    set_bits: float = 0.0
    saturated: int = 0
    histogram: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Share of neuron-steps with a non-zero spike."""
        return self.fired / max(self.sent, 1)

    @property
    def bits_per_step(self) -> float:
        """Mean set bits per neuron and step."""
        return self.set_bits / max(self.sent, 1)

    @property
    def saturation(self) -> float:
        """Share of neuron-steps at the end of a graded range (0 for real spikes)."""
        return self.saturated / max(self.sent, 1)

    def add(self, levels: Tensor) -> None:
        """Count one batch of integer levels [T, B, ...] (values, for real spikes)."""
        self.shape = tuple(levels.shape[2:])
        self.samples += levels.shape[1]
        self.sent += levels.numel()
        self.fired += int((levels != 0).sum())
        if self.format.real:
            self.set_bits += 32.0 * int((levels != 0).sum())
            return
        self.set_bits += float(popcount(levels, 16).sum(dtype=torch.float64))
        if not self.format.adds:
            at_end = (levels == self.format.high) | ((levels == self.format.low) & self.format.signed)
            self.saturated += int(at_end.sum())
        values, counts = torch.unique(levels, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.histogram[int(value)] = self.histogram.get(int(value), 0) + count


def levels_of(neuron: Neuron, spikes: Tensor) -> Tensor:
    """Transmitted spikes [T, B, C, ...] → integer levels (real spikes: values without their amplitude)."""
    levels = neuron.emission.levels(spikes)
    return levels if neuron.format.real else levels.round()


@torch.no_grad()
def observe(net: nn.Module | Graph, batches: Iterable[Tensor]) -> dict[str, Activity]:
    """Run batches through a network and count what every neuron layer sends.

    Args:
        net: network or its traced graph; its mode (train or eval) is left as it is.
        batches: inputs of the network.

    Returns:
        node name → `Activity`, in order of execution.

    Raises:
        ValueError: NaN or inf in a batch or in the weights, or an untraceable network.

    Warns of neurons inside a layer of the user's own, which are not seen.

    >>> from bitspike.neurons import LIF
    >>> activity = observe(nn.Sequential(LIF()), [torch.tensor([[[2.0, 0.0]]])])
    >>> activity["_0"].rate
    0.5
    """
    graph = net if isinstance(net, Graph) else trace(net)
    check_numbers("observe", graph.model)
    warn_unseen("observe", graph)
    nodes = graph.of_kind("neuron")
    counts = {n.name: Activity(n.name, n.path, n.module.format, n.T) for n in nodes}  # type: ignore[union-attr,arg-type]

    def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            counts[node.name].add(levels_of(node.module, value))
        return value

    for batch in batches:
        finite("observe", "a batch", batch)
        graph.check_input("observe", batch)
        graph.run(batch, handler=handle)
    for activity in counts.values():
        activity.T = activity.sent // max(activity.samples * max(_size(activity.shape), 1), 1)
    return counts


def potentials(neuron: Neuron, x_seq: Tensor, scaled: bool = False) -> Tensor:
    """Membrane before firing at every step, [T, B, ...], for the currents x_seq [T, B, ...] from a fresh state.

    Args:
        scaled: in units of the thresholds, as `stairs` reads it: over `threshold_scale` and `threshold_scale_at`.
    """
    state, seen = neuron.initial_state(x_seq[0]), []
    for x in x_seq.unbind(0):
        u = neuron.membrane.charge(state.v, neuron.current(x, state))
        seen.append(u / neuron.threshold_scale_at(state) if scaled else u)
        _, state = neuron.step(x, state)
    u = torch.stack(seen)
    return u / neuron.threshold_scale(u) if scaled else u


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
