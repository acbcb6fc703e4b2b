"""What one optimiser step may do to a step size: a bounded share of it, whatever the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.functional import LEAST_STEP, learns_bits
from bitspike.layers import Synapse
from bitspike.neurons import Neuron

MOST = 1.25
"""A step size is multiplied or divided by at most this in one optimiser step."""


class StepSizes:
    """The learned step sizes of weights and spikes of a network.

    LSQ moves a step size by ``rate·gradient``, whatever its size: one large gradient carries it through 0, or so far up
    that nothing fires, and momentum keeps it going. Here it ends within ``[α/1.25, 1.25·α]``, α the step size in use
    before; where that held it back, the momentum of SGD is what would have led there. Nothing else changes, and
    nothing but parameters decides, so that all processes do the same and a resumed run does it again.

    Source: ours.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parts: list[tuple[nn.Parameter, Callable[[], Tensor]]] = []
        self.names: list[str] = []
        for name, module in model.named_modules():
            quantizer: Any = module.quantizer if isinstance(module, Synapse) else None
            if quantizer is not None and hasattr(quantizer, "step_size") and hasattr(quantizer, "step_parameter"):
                self.parts.append((quantizer.step_parameter(), _of_weight(module)))
                self.names.append(name)
            part: object = module
            if isinstance(module, Neuron) and learns_bits(part) and (step := part.step_parameter()) is not None:
                self.parts.append((step, lambda step=step: step.clamp(min=LEAST_STEP)))  # type: ignore[misc]
                self.names.append(name)

    @contextmanager
    def held(self, optimiser: torch.optim.Optimizer) -> Iterator[None]:
        """Within the block the optimiser may make one step."""
        with torch.no_grad():
            before = [(step, used().detach().clone()) for step, used in self.parts if step.grad is not None]
        yield
        rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
        with torch.no_grad():
            for step, used in before:
                within = torch.minimum(torch.maximum(step, used / MOST), used * MOST)
                momentum = optimiser.state.get(step, {}).get("momentum_buffer")
                rate = rates.get(id(step), 0.0)
                if momentum is not None and rate:
                    momentum.copy_(torch.where(within == step, momentum, (used - within) / rate))
                if rate:
                    step.copy_(within)


def _of_weight(synapse: nn.Module) -> Callable[[], Tensor]:
    return lambda: synapse.quantizer.step_size(synapse.weight)  # type: ignore[no-any-return,operator,union-attr]
