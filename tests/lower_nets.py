"""Folded networks on a dyadic grid, for programs that must equal them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bitspike.fold import fold
from bitspike.layers import BatchNorm
from networks import NETS, WEIGHTS, dyadic, liven, samples

WIDE = {"input_bits": 16, "weight_bits": 16, "spike_bits": 16}
"""Options of `compile` that keep a dyadic network as it is."""


def on_grid(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Livened on a grid; the tiny γ is 2^-6, since currents of 2^-20 steps need more than 32 bits to be exact."""
    liven(model, x, grid=16)
    for module in model.modules():
        if isinstance(module, BatchNorm) and len(module.weight) > 1:
            module.weight.data[1] = 2.0**-6
    return model


def folded_on_grid(net: str, neuron: Any, weight: str, T: int) -> tuple[Any, torch.Tensor]:
    """(folded network, the inputs it was tuned on)."""
    x = dyadic(samples(12))
    model = NETS[net](neuron, WEIGHTS[weight](), T=T)
    return fold(on_grid(model, x), x), x
