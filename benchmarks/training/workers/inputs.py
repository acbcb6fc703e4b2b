"""The same numbers for every library: currents, upstream gradients, images, all from fixed seeds."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.protocol import Spec

SEED = 20260801
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def currents(spec: Spec) -> tuple[Tensor, Tensor]:
    """Input currents that require a gradient, N(mean, deviation), and a fixed upstream gradient N(0, 1).

    Args:
        spec: shape [T, B, ...], mean, deviation, dtype; gain: factor on the currents (default 1), for neurons that
            divide their input.
    """
    shape, dtype = spec["shape"], DTYPES[spec.get("dtype", "float32")]
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(shape, generator=generator).mul_(spec["deviation"]).add_(spec["mean"])
    gradient = torch.randn(shape, generator=generator)
    return (x * spec.get("gain", 1.0)).to(dtype).requires_grad_(), gradient.to(dtype)


def images(spec: Spec) -> tuple[Tensor, Tensor]:
    """Random images [batch, 3, image, image] and labels [batch]."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(spec["batch"], 3, spec["image"], spec["image"], generator=generator)
    labels = torch.arange(spec["batch"]) % 10
    if spec["layout"] == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    return x, labels


def rate(spikes: Tensor) -> float:
    """Share of neurons and steps that fire."""
    return int(torch.count_nonzero(spikes.detach())) / spikes.numel()
