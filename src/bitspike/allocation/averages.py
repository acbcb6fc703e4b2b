"""Average weight bits, spike bits and time steps of a network, and the term that pulls them to their targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value
from bitspike.functional import Widths, follow
from bitspike.graph import Node, trace
from bitspike.layers import Refined, Windows
from bitspike.neurons import Neuron


class Averages(nn.Module):
    """``B̄ = Σ n·B/Σ n`` over the layers whose bits or T are learned, straight-through.

    n is the number of weights for weight bits, the number of spikes of one sample and step for spike bits and T (of
    values, for `Windows` without a neuron); spike bits that differ by time step are averaged over the T steps that run.
    As a module it gives ``Σ pull·|average − target|``.

    Source: adaptive bit allocation (arXiv 2506.23717), code.
    Differs: n counts the neurons of a layer, not the inputs of the synapse behind, which pooling may make fewer.

    Args:
        allocation: of the network; its layers are shared, not copied. sample: one input of the network, [1, ...].

    Raises:
        ValueError: a target for what no layer learns.
    """

    def __init__(self, allocation: Allocation, sample: Tensor) -> None:
        super().__init__()
        self.config: AllocationConfig = allocation.config
        counts, steps = _sizes(allocation.model, sample)
        weights = [(q, m.weight.numel()) for m, q in allocation.weights.values() if q.raw_bits is not None]
        self.weights: list[tuple[Widths, int]] = weights  # a list: the layers stay the model's own
        inside = {id(m.neuron): m for m in allocation.refined.values()}
        self.spikes: list[tuple[Widths, int, Refined | None, int]] = [
            (m, counts[name], inside.get(id(m)), steps[name])
            for name, m in allocation.spikes.items()
            if m.raw_bits is not None
        ]
        names = {id(m): name for name, m in allocation.model.named_modules()}
        learned = [m for m in allocation.timed.values() if m.raw_steps is not None]
        self.steps: list[tuple[Refined | Windows, int]] = [
            (m, counts[names[id(m.neuron if isinstance(m, Refined) else m)]]) for m in learned
        ]
        kinds = {"weights": self.weights, "spikes": self.spikes, "steps": self.steps}
        config = self.config
        targets = {"weights": config.weight_target, "spikes": config.spike_target, "steps": config.steps_target}
        for kind, target in targets.items():
            if target is not None and not kinds[kind]:
                must = f"a target for {kind} needs layers that learn them"
                raise bad_value("[allocation]", must, target, "drop the target, or let them be learned")
        self.targets: dict[str, float] = {kind: target for kind, target in targets.items() if target is not None}
        self.pulls: dict[str, float] = {
            "weights": config.weight_pull,
            "spikes": config.spike_pull,
            "steps": config.steps_pull,
        }

    def soft(self) -> dict[str, Tensor]:
        """The averages of what is learned, as tensors [] with gradients."""
        found = {}
        if self.weights:
            found["weights"] = _mean([(_width(part), count) for part, count in self.weights])
        if self.spikes:
            rows = []
            for part, count, refined, fixed in self.spikes:
                width, steps = _width(part).reshape(-1), fixed if refined is None else refined.time_steps
                own = width[:steps].sum() + width[-1] * max(steps - len(width), 0)
                rows.append((own / steps, count))
            found["spikes"] = _mean(rows)
        if self.steps:
            found["steps"] = _mean([(refined.soft_steps(), count) for refined, count in self.steps])
        return found

    def values(self) -> dict[str, float]:
        """The rounded averages of what is learned."""
        with torch.no_grad():
            return {kind: float(value) for kind, value in self.soft().items()}

    def forward(self) -> Tensor:
        """The penalty []."""
        averages = self.soft()
        terms = [self.pulls[kind] * (averages[kind] - target).abs() for kind, target in self.targets.items()]
        nothing = next(iter(averages.values())).new_zeros(()) if averages else torch.zeros(())  # on the model's device
        return torch.stack(terms).sum() if terms else nothing


def _width(part: Widths) -> Tensor:
    return part.width.float() if part.raw_bits is None else follow(part.width, part.raw_bits.abs())


def _mean(values: list[tuple[Tensor, int]]) -> Tensor:
    whole = sum(count for _, count in values)
    return torch.stack([value * (count / whole) for value, count in values]).sum()


@torch.no_grad()
def _sizes(model: nn.Module, sample: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """(values of one sample and step, time steps) of every neuron and `Windows` by module name; call sites add up."""
    counts: dict[str, int] = {}
    steps: dict[str, int] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, (Neuron, Windows)):
            counts[node.path] = counts.get(node.path, 0) + value[0, 0].numel()
            steps[node.path] = len(value)
        return value

    training = [module for module in model.modules() if module.training]
    model.eval()
    trace(model).run(sample, handler=note)
    for module in training:
        module.training = True
    return counts, steps
