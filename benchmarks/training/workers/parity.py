"""Parity before speed: a kernel against the reference on a crop of the timed case. A difference is a fault."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.neurons import Neuron
from bitspike.ops import using
from workers.inputs import currents, images
from workers.protocol import Spec

BATCH, SIDE = 3, 13  # of the crop; the channel axis stays whole
GRADIENT = 1e-5  # greatest difference of a gradient or a real spike, relative to the greatest of the reference
NETWORK = 1e-4  # the same behind a whole network, where convolutions amplify it
Context = Callable[[], AbstractContextManager[Any]]


class ParityError(AssertionError):
    """The kernel differs from the reference."""


def same_scan(neuron: Neuron, spec: Spec, kernel: Context) -> dict[str, str]:
    """Spikes equal (graded by an exact factor, or within GRADIENT if the value is learned or real), gradients near."""
    shape = spec["shape"]
    crop = [shape[0], min(shape[1], BATCH), shape[2], *(min(side, SIDE) for side in shape[3:])]
    x, gradient = currents({**spec, "shape": crop})
    wanted = (x, *neuron.parameters())
    found = []
    for context in (kernel, lambda: using("reference")):
        with context(), torch.autocast("cpu", torch.bfloat16, enabled=bool(spec.get("autocast"))):
            s = neuron(x)
        found.append((s.detach(), *torch.autograd.grad(s, wanted, gradient.to(s.dtype))))
    exact = not neuron.format.real and neuron.emission.train_kind == "none"
    for index, (got, reference) in enumerate(zip(*found, strict=True)):
        what = "spikes" if index == 0 else "input gradient" if index == 1 else "parameter gradient"
        bfloat = x.dtype == torch.bfloat16
        _near(what, got, reference, 0.0 if exact and index == 0 else 1e-2 if bfloat else GRADIENT)
    return {"parity": f"equal to the reference on {crop}"}


def same_network(build: Callable[[int, int], nn.Module], spec: Spec, kernel: Context) -> dict[str, str]:
    """Logits and gradients of a network half as wide on smaller images, near the reference's (float32)."""
    small = {**spec, "batch": 2, "image": 16}
    x, labels = images(small)
    found = []
    for context in (kernel, lambda: using("reference")):
        net = build(max(4, spec["width"] // 2), 16)
        if spec["layout"] == "channels_last":
            net.to(memory_format=torch.channels_last)
        with context():
            logits = net(x)
        grads = torch.autograd.grad(F.cross_entropy(logits, labels), list(net.parameters()))
        found.append((logits.detach(), *grads))
    for index, (got, reference) in enumerate(zip(*found, strict=True)):
        _near("logits" if index == 0 else f"gradient of parameter {index - 1}", got, reference, NETWORK)
    return {"parity": "logits and gradients near the reference's on 2 images of 16x16, half the width"}


def _near(what: str, got: Tensor, reference: Tensor, tolerance: float) -> None:
    worst = float((got - reference).abs().max())
    limit = tolerance * float(reference.abs().max())
    if not worst <= limit:
        raise ParityError(f"parity: {what} differ from the reference by {worst:.3g}, allowed are {limit:.3g}")
