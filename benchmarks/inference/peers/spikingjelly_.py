"""SpikingJelly's integrate-and-fire neurons in the same folded network, multi-step mode, evaluation."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from network import Layer, read
from plain import Plain
from spikingjelly.activation_based import functional, neuron
from torch import nn

from .base import Array, Order, Ready
from .contest import fastest

VERSIONS = {"torch": version("torch"), "spikingjelly": version("spikingjelly")}


def fire(layer: Layer) -> nn.Module:
    """IFNode with soft reset that starts where ours does.

    Raises:
        ValueError: it has no such neuron.
    """
    if layer["signed"] or layer["count"] != 1 or layer["charge"] != layer["first"]:
        raise ValueError("spikingjelly: spikes must be binary, with soft reset by the threshold")
    made: Any = neuron.IFNode(v_threshold=layer["first"], v_reset=None, step_mode="m")
    made.set_reset_value("v", layer["initial"])
    return made  # type: ignore[no-any-return]


def ready(order: Order, x: Array) -> Ready:
    """The network, reset before every call."""
    torch.set_num_threads(order.threads)
    layouts = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}

    def setting(layout: torch.memory_format) -> Any:
        def make() -> Any:
            net = Plain(read(order.folder), fire).eval().to(memory_format=layout)

            def call(images: Array) -> Array:
                functional.reset_net(net)
                with torch.inference_mode():
                    return net(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()  # type: ignore[no-any-return]

            return call

        return make

    settings = {name: setting(layout) for name, layout in layouts.items()}
    chosen, found = fastest(order, settings, x)
    return Ready(settings[chosen](), {"setting": chosen, "contest_ms": found})
