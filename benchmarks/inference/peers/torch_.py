"""PyTorch on the folded network, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from network import read
from plain import Plain

from .base import Array, Call, Order, Ready
from .contest import fastest

VERSIONS = {"torch": version("torch")}


def called(net: Any, layout: torch.memory_format) -> Call:
    """A call on NumPy arrays."""

    def call(images: Array) -> Array:
        with torch.inference_mode():
            return net(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()  # type: ignore[no-any-return]

    return call


def ready(order: Order, x: Array) -> Ready:
    """The faster memory order; compiled ones with frozen weights."""
    torch.set_num_threads(order.threads)
    exported = read(order.folder)
    layouts = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
    if order.peer == "torch-compile":
        import torch._inductor.config as config

        config.freezing = True
        layouts = {"channels-last": torch.channels_last}

    def setting(layout: torch.memory_format) -> Callable[[], Call]:
        def make() -> Call:
            net: Any = Plain(exported).eval().to(memory_format=layout)
            return called(torch.compile(net) if order.peer == "torch-compile" else net, layout)

        return make

    settings = {name: setting(layout) for name, layout in layouts.items()}
    chosen, found = fastest(order, settings, x) if len(settings) > 1 else (next(iter(settings)), {})
    return Ready(settings[chosen](), {"setting": chosen, "contest_ms": found})
