"""Cases with one layer of neurons: forward and backward of a neuron, alone or behind a linear map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workers.inputs import currents, rate
from workers.protocol import Prepared, Spec

Forward = Callable[[Tensor], Tensor]


def scan_case(
    spec: Spec,
    forward: Forward,
    computes: str,
    parameters: tuple[Tensor, ...] = (),
    arrange: Forward | None = None,
) -> Prepared:
    """Forward and backward of a neuron.

    Args:
        spec: of kind "neuron" (the input requires a gradient) or "linear" (a linear map n → n stands in front, the
            gradients of weight and bias are taken, the input is data); autocast: forward under bfloat16 autocast.
        forward: currents [T, B, ...] → spikes, from a fresh state.
        computes: what the neuron computes, in words.
        parameters: learned by the neuron; their gradients are taken too.
        arrange: the library's own order of axes; applied to input and gradient before anything is timed.
    """
    x, gradient = currents(spec)
    if arrange is not None:
        x = arrange(x.detach()).contiguous().requires_grad_()
        gradient = arrange(gradient).contiguous()
    if spec["kind"] == "linear":
        torch.manual_seed(0)
        linear = nn.Linear(x.shape[-1], x.shape[-1])
        x = x.detach()
        wanted: tuple[Tensor, ...] = (*linear.parameters(), *parameters)

        def run() -> Tensor:
            return forward(linear(x))
    else:
        wanted = (x, *parameters)

        def run() -> Tensor:
            return forward(x)

    def fired() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(spec.get("autocast"))):
            return run()

    with torch.no_grad():
        spikes = fired()
    gradient = gradient.to(spikes.dtype)
    timed = fired if spec.get("autocast") else run

    def call() -> Any:
        return torch.autograd.grad(timed(), wanted, gradient)

    if spec.get("autocast"):
        computes += f"; autocast, currents {x.dtype}, spikes {spikes.dtype}".replace("torch.", "")
    return Prepared(call, {"computes": computes, "firing_rate": round(rate(spikes), 4)})
