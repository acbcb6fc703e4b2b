"""A clock that looks at nothing but bits and time steps, so that tests of latency budgets depend on no machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from bitspike.allocation.timing import Timed
from bitspike.functional import learns_bits
from bitspike.graph import trace
from bitspike.layers import Refined, Synapse
from bitspike.neurons import Neuron

MACHINE: dict[str, object] = {"cpu": "none", "isa": "none", "threads": 1, "library": "none"}
REFERENCE_MS = 0.1


class FakeClock:
    """A synapse takes as many units as its weights and the spikes before it have bits, a neuron 8 T, the call 2.

    Args:
        sample, threads, seconds: as of `EngineClock`.
    """

    off = 1.0
    """What a call of the whole takes more than its parts."""

    calls = 0

    def __init__(self, sample: Tensor | None = None, threads: int = 1, seconds: float = 0.0) -> None:
        self.machine = {**MACHINE, "threads": threads}

    def __call__(self, models: Iterable[nn.Module]) -> list[Timed]:
        """By the formula."""
        return [self.of(model) for model in models]

    def of(self, model: nn.Module) -> Timed:
        """Of one network."""
        type(self).calls += 1
        steps = {id(m.neuron): m.time_steps for m in model.modules() if isinstance(m, Refined)}
        groups: list[tuple[tuple[str, ...], float]] = []
        bits = 8.0
        for node in trace(model):
            if isinstance(node.module, Synapse):
                groups.append(((node.name,), _bits(node.module.quantizer) + bits))
            elif isinstance(node.module, Neuron):
                bits = _bits(node.module)
                groups.append(((node.name,), 8.0 * steps.get(id(node.module), 1)))
        return Timed(self.off * (2.0 + sum(time for _, time in groups)), tuple(groups), REFERENCE_MS)


def _bits(part: Any) -> float:
    return float(part.width.double().mean()) if learns_bits(part) else 8.0
