"""snnTorch's Leaky neurons (beta = 1) in the same folded network, stepped in Python, evaluation."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import snntorch
import torch
from network import Layer, read
from plain import Plain
from torch import Tensor, nn

from .base import Array, Order, Ready
from .contest import fastest
from .torch_ import called

VERSIONS = {"torch": version("torch"), "snntorch": version("snntorch")}


class Fire(nn.Module):
    """Leaky with soft reset over [T, B, ...].

    Raises:
        ValueError: it has no such neuron.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        if layer["signed"] or layer["count"] != 1 or layer["charge"] != layer["first"]:
            raise ValueError("snntorch: spikes must be binary, with soft reset by the threshold")
        self.initial = layer["initial"]
        self.neuron = snntorch.Leaky(beta=1.0, threshold=layer["first"], reset_mechanism="subtract")

    def forward(self, x: Tensor) -> Tensor:
        """Currents → spikes."""
        mem, found = torch.full_like(x[0], self.initial), []
        for current in x.unbind(0):
            spikes, mem = self.neuron(current, mem)
            found.append(spikes)
        return torch.stack(found)


def ready(order: Order, x: Array) -> Ready:
    """The faster memory order. It fires above the threshold, not at it; real weights do not meet it."""
    torch.set_num_threads(order.threads)
    layouts = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}

    def setting(layout: torch.memory_format) -> Any:
        return lambda: called(Plain(read(order.folder), Fire).eval().to(memory_format=layout), layout)

    settings = {name: setting(layout) for name, layout in layouts.items()}
    chosen, found = fastest(order, settings, x)
    return Ready(settings[chosen](), {"setting": chosen, "contest_ms": found})
