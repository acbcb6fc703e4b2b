"""SpikingJelly, where it is installed: a node, and the wide ResNet-20 of its layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class NotHereError(Exception):
    """What was asked for does not exist in this environment."""


def version() -> str | None:
    """SpikingJelly's version, or None."""
    from importlib import metadata

    try:
        return metadata.version("spikingjelly")
    except metadata.PackageNotFoundError:
        return None


def said(detach: bool) -> str:
    """What the node computes, in words."""
    return f"LIFNode: threshold=1, tau=2, decay_input=False, hard reset, detach_reset={detach}, surrogate ATan(2)"


def spikingjelly_node(setting: str, detach: bool) -> tuple[nn.Module, Callable[[nn.Module], None]]:
    """A multi-step LIF node and what resets it.

    Args:
        setting: "triton" or "cupy" (the attribute ``backend`` of versions that have it), or "own choice".
        detach: the reset.
    """
    if version() is None:
        raise NotHereError("spikingjelly is not installed")
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(2.0, False, 1.0, 0.0, surrogate.ATan(2.0), detach, "m")
    if setting != "own choice":
        if setting not in getattr(node, "supported_backends", ()):
            raise NotHereError(f"spikingjelly {version()} has no backend {setting!r} to choose")
        node.backend = setting
    return node, functional.reset_net


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, parts: dict[str, Callable[..., nn.Module]]) -> None:
        super().__init__()
        self.conv1 = parts["conv"](inputs, outputs, 3, stride, 1, bias=False)
        self.norm1, self.fire1 = parts["norm"](outputs), parts["neuron"]()
        self.conv2 = parts["conv"](outputs, outputs, 3, 1, 1, bias=False)
        self.norm2, self.fire2 = parts["norm"](outputs), parts["neuron"]()
        self.around = nn.Sequential()
        if stride != 1 or inputs != outputs:
            pool = [parts["pool"](stride)] if stride != 1 else []
            self.around = nn.Sequential(
                *pool, parts["conv"](inputs, outputs, 1, 1, 0, bias=False), parts["norm"](outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        s = self.fire1(self.norm1(self.conv1(x)))
        return self.fire2(self.norm2(self.conv2(s)) + self.around(x))


class PeerResNet20(nn.Module):
    """The network of `bitspike.models.resnet20` out of another library's multi-step layers."""

    def __init__(self, T: int, width: int, parts: dict[str, Callable[..., nn.Module]]) -> None:
        super().__init__()
        self.T = T
        stem: list[nn.Module] = []
        for inputs in (3, width, width):
            stem += [parts["conv"](inputs, width, 3, 1, 1, bias=False), parts["norm"](width), parts["neuron"]()]
        blocks, inputs = [], width
        for stage in range(4):
            for index in range(2):
                outputs = width * 2**stage
                blocks.append(_Block(inputs, outputs, 2 if stage and not index else 1, parts))
                inputs = outputs
        self.body = nn.Sequential(*stem, parts["pool"](2), *blocks)
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → mean logits [B, 10]."""
        features = self.body(x.expand(self.T, *x.shape)).mean((3, 4))
        return self.classifier(features).mean(0)


def spikingjelly_resnet20(T: int, width: int, detach: bool) -> tuple[nn.Module, Callable[[nn.Module], None]]:
    """The network and what resets its state."""
    node, reset = spikingjelly_node("own choice", detach)
    del node
    from spikingjelly.activation_based import layer

    parts = {
        "conv": partial(layer.Conv2d, step_mode="m"),
        "norm": partial(layer.BatchNorm2d, step_mode="m"),
        "pool": partial(layer.AvgPool2d, step_mode="m"),
        "neuron": lambda: spikingjelly_node("own choice", detach)[0],
    }
    return PeerResNet20(T, width, parts), reset


def in_less_memory(network: nn.Module, example: Tensor, reset: Callable[[nn.Module], None]) -> str:
    """SpikingJelly's own memory optimisation, in place: checkpoints with compressed spikes (its level 1)."""
    try:
        from spikingjelly.activation_based.memopt import optimize_memory
    except ImportError as error:
        raise NotHereError(f"spikingjelly {version()} has no optimize_memory") from error

    def forward(model: nn.Module) -> Any:
        reset(model)
        with torch.autocast(example.device.type, torch.bfloat16):
            return model(example)

    optimize_memory(network, _Block, forward, level=1)
    reset(network)
    return "optimize_memory, level 1, every block"
