"""What other bits or time steps do to the loss, measured on the network itself, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitspike.allocation.apply import put
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.repair import State
from bitspike.layers import BatchNorm


class MeasuredLoss:
    """``Σ_l L(bits and T of layer l as asked, all others as they are) − L(as they are)``: a loss difference by layer.

    A group is the weights of one synapse, or the spikes and T of one neuron. Its widths are put to use with renewed
    step sizes, the loss of some samples is taken, and the network is as it was. Norms use the statistics of those
    samples: running ones belong to the widths they were gathered at. Differences of layers add up to first order.

    Args:
        forecast: knows what is learned. x: batch on which step sizes of spikes are renewed. loss: loss of the network
            as it is, in evaluation mode but for its norms, on samples that do not change.
    """

    def __init__(self, forecast: Forecast, x: Tensor, loss: Callable[[nn.Module], float]) -> None:
        self.forecast: Forecast = forecast
        self.x: Tensor = x
        self.loss = loss
        self.begin: State = forecast.state
        self.groups: list[list[int]] = list(_groups(forecast).values())
        self._known: dict[tuple[int, State], float] = {}
        self.base: float = self._loss()

    def __call__(self, state: State) -> float:
        """The sum for these widths and T, in units of the loss."""
        return sum(self._of(group, tuple(state[place] for place in places)) for group, places in enumerate(self.groups))

    def _of(self, group: int, widths: State) -> float:
        """The difference of one group, remembered."""
        if (group, widths) not in self._known:
            state = list(self.begin)
            for place, width in zip(self.groups[group], widths, strict=True):
                state[place] = width
            same = tuple(state) == self.begin
            self._known[group, widths] = 0.0 if same else self._changed(tuple(state)) - self.base
        return self._known[group, widths]

    @torch.no_grad()
    def _changed(self, state: State) -> float:
        model = self.forecast.allocation.model
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        extremes = dict(self.forecast.allocation.extremes)
        try:
            put(self.forecast, state, self.x)
            return self._loss()
        finally:
            model.load_state_dict(kept)
            self.forecast.allocation.extremes = extremes

    @torch.no_grad()
    def _loss(self) -> float:
        model = self.forecast.allocation.model
        kept = {name: value.clone() for name, value in model.named_buffers()}
        with _batch_statistics(model):
            found = self.loss(model)
        for name, value in model.named_buffers():
            value.copy_(kept[name])
        return found


def _groups(forecast: Forecast) -> dict[tuple[str, str], list[int]]:
    """Places of the levers of one synapse, or of one neuron."""
    neurons = {holder: path for path, holder in forecast.holders.items()}
    found: dict[tuple[str, str], list[int]] = {}
    for place, lever in enumerate(forecast.levers):
        name = neurons[lever.name] if lever.kind == "steps" else lever.name
        found.setdefault(("weights" if lever.kind == "weights" else "neuron", name), []).append(place)
    return found


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within the block all is in evaluation mode but the norms."""
    modes = {module: module.training for module in model.modules()}
    norms = (BatchNorm, nn.modules.batchnorm._BatchNorm)
    try:
        for module in modes:
            module.training = isinstance(module, norms)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
