"""Put an allocation to use."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.allocation.forecast import Forecast
from bitspike.allocation.repair import State


@torch.no_grad()
def put(forecast: Forecast, state: State, x: Tensor, optimiser: torch.optim.Optimizer | None = None) -> None:
    """Give every learned width and T its number; step sizes are renewed on the batch x, even where that has ended."""
    allocation = forecast.allocation
    for lever, value in zip(forecast.levers, state, strict=True):
        if lever.kind == "steps":
            allocation.refined[lever.name].set_steps(value)
        else:
            raw = forecast.part(lever).raw_bits
            if raw is not None:
                raw.reshape(-1)[lever.row] = value
    renews = allocation.renews
    allocation.renews = dict.fromkeys(renews, allocation.config.renewal != "none")
    allocation.settle(x, optimiser)
    allocation.renews = renews
