"""What has gone dead in a network: channels that never change, filters without weights, step sizes out of range."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.functional import LEAST_STEP
from bitspike.layers import Recurrent, Refined, Synapse, like, step_mask, valid_lengths
from bitspike.neurons import Neuron
from bitspike.training.step_sizes import StepSizes

Health = dict[str, dict[str, list[int]]]
"""Kind → module name → [number, of how many]; only what has any."""

_APART = 2.0  # times the step size in use: farther away is out of range
_SURE = 2.33  # standard deviations above chance: one run in a hundred gets there by luck


class Watch:
    """Collects what neurons send in the passes of an evaluation; waits for the device once, in `report`.

    A channel is silent if it sends 0 at every step, place and sample, and saturated if it sends the same other value
    everywhere (at each step its own): either way nothing of the input passes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._ends: dict[str, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block the passes of the network are seen."""
        inside = {id(m.neuron) for m in self.model.modules() if isinstance(m, (Recurrent, Refined))}
        hooks = [
            module.register_forward_hook(self._see(name))
            for name, module in self.model.named_modules()
            if isinstance(module, (Neuron, Refined)) and id(module) not in inside
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(_: nn.Module, given: Any, s: Any) -> None:
            if not isinstance(s, Tensor) or s.dim() < 3 or not s.numel():
                return
            axes = [axis for axis in range(s.dim()) if axis not in (0, 2)]
            least, most, lengths = s.detach(), s.detach(), valid_lengths()
            if lengths is not None:  # what fills a batch up is neither the least nor the greatest
                kept = like(step_mask(lengths, len(s)), s)
                least, most = torch.where(kept, least, math.inf), torch.where(kept, most, -math.inf)
            low, high = least.amin(axes), most.amax(axes)
            if name in self._ends and self._ends[name][0].shape == low.shape:
                low = torch.minimum(low, self._ends[name][0])
                high = torch.maximum(high, self._ends[name][1])
            self._ends[name] = low, high

        return see

    @torch.no_grad()
    def report(self) -> Health:
        """What there is: "silent", "saturated" (channels), "zero" (filters all of whose levels are 0), "steps"."""
        rows: list[tuple[str, str, Tensor, int]] = []
        for name, (low, high) in self._ends.items():
            unseen = low > high  # a step that no sequence has
            still, silent = ((low == high) | unseen).all(0), (((low == 0) & (high == 0)) | unseen).all(0)
            rows.append(("silent", name, silent.sum(), silent.numel()))
            rows.append(("saturated", name, (still & ~silent).sum(), silent.numel()))
        for name, module in self.model.named_modules():
            if isinstance(module, Synapse) and not module.quantizer.format.real:
                levels = module.quantizer.to_int(module.weight.detach())[0]
                zero = (levels == 0).flatten(1).all(1)
                rows.append(("zero", name, zero.sum(), zero.numel()))
        sizes = StepSizes(self.model)
        for name, (step, used) in zip(sizes.names, sizes.parts, strict=True):
            now = used().detach()
            good = (step >= now / _APART) & (step <= now * _APART) & (step > LEAST_STEP)
            rows.append(("steps", name, (~good).sum(), step.numel()))
        counts = torch.stack([row[2].to(rows[0][2].device) for row in rows]).tolist() if rows else []
        found: Health = {}
        for (kind, name, _, of), count in zip(rows, counts, strict=True):
            if count:
                found.setdefault(kind, {})[name] = [int(count), of]
        return found


def dead_layers(health: Mapping[str, Mapping[str, list[int]]]) -> list[str]:
    """Sentences about layers through which nothing passes, and about step sizes out of range.

    Where all of a layer is silent the sentence says what to do: a surrogate of bounded width trains nothing before it.

    >>> dead_layers({"silent": {"gate": [4, 4]}})
    ['gate: all 4 channels are silent; where its input is not, lower its threshold ([[layers]])']
    >>> dead_layers({"silent": {"a": [3, 4]}, "saturated": {"a": [1, 4]}, "steps": {"b": [1, 1]}})
    ['a: all 4 channels are silent or saturated', 'b: 1 of 1 step sizes out of range']
    """
    silent, saturated = health.get("silent", {}), health.get("saturated", {})
    said = []
    for name in dict.fromkeys([*silent, *saturated]):
        of, still = (silent.get(name) or saturated[name])[1], silent.get(name, [0])[0]
        if still == of:
            todo = "where its input is not, lower its threshold ([[layers]])"
            said.append(f"{name}: all {of} channels are silent; {todo}")
        elif still + saturated.get(name, [0])[0] == of:
            said.append(f"{name}: all {of} channels are silent or saturated")
    zero = {name: of for name, (n, of) in health.get("zero", {}).items() if n == of}
    said += [f"{name}: the weights of all {of} filters are 0" for name, of in zero.items()]
    return said + [f"{name}: {n} of {of} step sizes out of range" for name, (n, of) in health.get("steps", {}).items()]


def at_chance(accuracy: float, labels: Tensor, classes: int) -> str | None:
    """A sentence where an accuracy may be that of guessing: of one class of ``classes``, or always the most frequent.

    It is one where it lies less than 2.33 standard deviations of a binomial above that.

    >>> at_chance(0.12, torch.arange(10).repeat(10), 10)
    'validation accuracy 12.00 % is that of guessing (10.00 %, up to 16.99 % by luck)'
    >>> at_chance(0.3, torch.arange(10).repeat(10), 10)
    """
    n = len(labels)
    chance = max(1 / classes, float(torch.bincount(labels.long()).max()) / n)
    bar = min(chance + _SURE * math.sqrt(chance * (1 - chance) / n), 1 - 0.5 / n)  # all right is right
    if accuracy > bar or chance == 1:
        return None
    said = f"validation accuracy {accuracy:.2%} is that of guessing ({chance:.2%}, up to {bar:.2%} by luck)"
    return said.replace("%", " %")
