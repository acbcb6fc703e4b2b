"""The running average of a network's weights, which is what a run evaluates and keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value

_EARLY = 9


class Ema:
    """``avg ← avg + (1 − d)·(w − avg)`` after every optimiser step, d = min(decay, n / (n + 9)) after n steps before.

    The first average is the weights after the first step; the rate of forgetting reaches ``decay`` after
    9·decay / (1 − decay) steps, so that a short run is not held back by the weights that were drawn.

    All floating tensors of the state are averaged: latent weights (the average is quantized, not the levels), raw
    amplitudes, factors and step sizes, and the running statistics of batch norms, whose mean and variance are then
    averages of as many steps as the weights are. Counters are those of the network.

    Source: exponential moving average of TensorFlow's training library, (1 + n) / (10 + n). Differs: there the first
    step still holds a tenth of the weights that were drawn.

    Args:
        model: the network. decay: in (0, 1). allocation: of the network.

    Raises:
        ValueError: the network learns bits or time steps.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> ema = Ema(model, 0.5, None)
    >>> for value in (1.0, 3.0):
    ...     _ = model.weight.data.fill_(value)
    ...     ema.update()
    >>> round(ema.tensors["weight"].item(), 6), model.weight.item()  # 1 + 0.9·(3 − 1)
    (2.8, 3.0)
    """

    def __init__(self, model: nn.Module, decay: float, allocation: Allocation | None) -> None:
        if allocation is not None and allocation.active:
            must = "ema must be left out where bits or time steps are learned: an average of widths is no width"
            raise bad_value("[train]", must, decay, "remove it, or fix the bits and steps")
        self.model: nn.Module = model
        self.decay: float = decay
        self.steps: int = 0
        self.tensors: dict[str, Tensor] = {name: value.clone() for name, value in self._floating().items()}

    def _floating(self) -> dict[str, Tensor]:
        """The network's own tensors."""
        return {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        decay = min(self.decay, self.steps / (self.steps + _EARLY))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._floating().values()), 1 - decay)
        self.steps += 1

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within the block the network is the average."""
        own = {name: value.clone() for name, value in self._floating().items()}
        self.put()
        try:
            yield
        finally:
            self._copy(own)

    def put(self) -> None:
        """Make the network the average."""
        self._copy(self.tensors)

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Go on from an average of so many steps."""
        with torch.no_grad():
            for name, value in self.tensors.items():
                value.copy_(tensors[name])
        self.steps = steps

    @torch.no_grad()
    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self._floating().items():
            value.copy_(tensors[name])


def make_ema(model: nn.Module, decay: float | None, allocation: Allocation) -> Ema | None:
    """The average that a recipe asks for with ``train.ema``, None for none; errors as `Ema`."""
    return None if decay is None else Ema(model, decay, allocation)
