"""One training step of a network: zero_grad, forward, cross-entropy on the mean logits, backward, SGD step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.inputs import images, rate
from workers.protocol import Prepared, Spec


def step_case(
    spec: Spec,
    net: nn.Module,
    neurons: tuple[type[nn.Module], ...],
    computes: str,
    reset: Callable[[], object] = lambda: None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Prepared:
    """A step of ``net`` on one fixed batch.

    Args:
        spec: batch, image, T, layout ("nchw" or "channels_last"), autocast (bfloat16), compile; bare: run nothing now.
        net: images [B, 3, H, W] → mean logits [B, K].
        neurons: classes whose outputs are counted for the firing rate.
        computes: what the neurons compute, in words.
        reset: forgets the library's hidden states, before every forward.
        around: context that the forward runs in.
    """
    x, labels = images(spec)
    if spec["layout"] == "channels_last":
        net.to(memory_format=torch.channels_last)
    facts: dict[str, Any] = {
        "computes": computes,
        "parameters": sum(p.numel() for p in net.parameters()),
        "firing_rate": None if spec.get("bare") else _firing_rate(net, neurons, x, reset),
    }
    if facts["parameters"] != spec.get("parameters", facts["parameters"]):
        raise ValueError(f"the network has {facts['parameters']} parameters, not {spec['parameters']}")
    forward = torch.compile(net) if spec.get("compile") else net
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        reset()
        with around(), torch.autocast("cpu", torch.bfloat16, enabled=bool(spec.get("autocast"))):
            return F.cross_entropy(forward(x), labels)

    def step(x: Tensor = x, labels: Tensor = labels) -> None:
        optimiser.zero_grad()
        loss(x, labels).backward()
        optimiser.step()

    parts = {"net": net, "x": x, "labels": labels, "loss": loss, "step": step, "optimiser": optimiser, "reset": reset}
    return Prepared(step, facts, parts)


def _firing_rate(
    net: nn.Module, neurons: tuple[type[nn.Module], ...], x: Tensor, reset: Callable[[], object]
) -> float | None:
    """Mean firing rate over the layers, on the batch that is trained on, with fresh weights."""
    rates: list[float] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        rates.append(rate(output[0] if isinstance(output, tuple) else output))

    hooks = [m.register_forward_hook(keep) for m in net.modules() if isinstance(m, neurons)]
    with torch.no_grad():
        reset()
        net(x)
        reset()
    for hook in hooks:
        hook.remove()
    return round(sum(rates) / len(rates), 4) if rates else None
