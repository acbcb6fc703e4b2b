"""Widths that are learned: a real number per layer, rounded for use, with a straight-through gradient."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.functional.quantize import round_half


class Widths(Protocol):
    """What training asks of a neuron or quantizer with bits that may be learned.

    Attributes:
        width: int64 bits in use, [] or [steps], a buffer. raw_bits: the learned numbers, or None for fixed bits.
        channel_axis: axis of the quantized values [T, B, C, ...] or [O, I, ...] with a step size per entry, or None.
        least_bits, bound: least and greatest bits. format: alphabet in use, of spikes or weights.
    """

    width: Tensor
    raw_bits: nn.Parameter | None
    channel_axis: int | None
    least_bits: int
    bound: int
    format: Any

    def wanted_width(self) -> Tensor:
        """Bits that the learned numbers ask for."""

    def refresh(self) -> None:
        """Put the wanted width to use."""

    def levels(self, bits: int) -> tuple[int, int, int]:
        """Least and greatest level and their stride at a width."""

    def step_parameter(self) -> nn.Parameter | None:
        """The learned step sizes, to be started and renewed: rows per time step if `width` has them, else of any shape,
        one entry per column; None where there are none."""


def learns_bits(module: object) -> TypeGuard[Widths]:
    """Whether a module has the parts of `Widths` and a width (its bits may yet be fixed)."""
    parts = ("width", "raw_bits", "channel_axis", "wanted_width", "refresh", "levels", "step_parameter")
    return all(hasattr(module, part) for part in parts) and getattr(module, "width", None) is not None


def rounded(raw: Tensor, low: int, high: int) -> Tensor:
    """Width that a learned number asks for: ``round_half(clip(|raw|, low, high))``, int64, no gradient; NaN asks for 0.

    Source: adaptive bit allocation (arXiv 2506.23717), eq. 9-11; the absolute value is of its code.

    >>> rounded(torch.tensor([0.2, 2.5, -3.2, 9.0, math.nan]), 1, 6).tolist()
    [1, 3, 3, 6, 0]
    """
    return round_half(raw.detach().abs().clamp(low, high)).nan_to_num(0.0).to(torch.int64)


def asked(where: str, wanted: Tensor) -> Tensor:
    """``wanted`` of `rounded`, if every number behind it is one; waits for the device.

    Raises:
        ValueError: one is NaN.
    """
    if bool((wanted < 1).any()):
        must, todo = "learned bits and time steps must be numbers", "lower the learning rate or clip the gradient"
        raise bad_value(where, must, "NaN", todo)
    return wanted


def follow(value: Tensor, raw: Tensor) -> Tensor:
    """``value`` forward, ``raw`` backward: clip and rounding are both straight-through.

    >>> raw = torch.tensor(2.6, requires_grad=True)
    >>> y = follow(torch.tensor(3), raw); y.backward(); y.item(), raw.grad.item()
    (3.0, 1.0)
    """
    return value.to(raw.dtype) + (raw - raw.detach())


def greatest_level(width: Tensor, raw: Tensor | None, signed: bool, dtype: torch.dtype, halve: bool = False) -> Tensor:
    """Q of an alphabet of ``width`` bits: ``2^width − 1``, signed ``2^(width−1) − 1`` and at least 1.

    Gradient: ``dQ/d|raw| = ln2·2^width`` (signed ``ln2·2^(width−1)``), that of the formula, one signed bit included.

    Source: adaptive bit allocation (arXiv 2506.23717), code.

    Args:
        width: int64 bits, any shape. raw: the learned number behind it, the same shape; None for no gradient.
        signed: whether the alphabet is −Q .. Q (one bit: −1 and 1). dtype: of the result.
        halve: half the gradient where the width is 1, as the release has it for spikes.

    >>> greatest_level(torch.tensor([1, 2, 8]), None, False, torch.float32).tolist()
    [1.0, 3.0, 255.0]
    >>> greatest_level(torch.tensor([1, 2, 8]), None, True, torch.float32).tolist()
    [1.0, 1.0, 127.0]
    """
    power = torch.ones_like(width) << (width - 1 if signed else width)
    top = (power - 1).clamp(min=1).to(dtype)
    if raw is None:
        return top
    slope = math.log(2.0) * power.to(dtype)
    if halve:
        slope = torch.where(width == 1, slope / 2, slope)
    through = raw.abs().to(dtype)
    return top + slope * (through - through.detach())


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(gain)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gain,) = ctx.saved_tensors
        return grads[0] * gain, None


def scale_gradient(x: Tensor, gain: Tensor) -> Tensor:
    """x forward, its gradient times ``gain`` backward.

    >>> x = torch.ones(1, requires_grad=True); scale_gradient(x, torch.tensor(0.5)).backward(); x.grad.tolist()
    [0.5]
    """
    return _Scaled.apply(x, gain.detach())  # type: ignore[no-any-return,no-untyped-call]


def lsq_gain(elements: int, sharing: int, top: Tensor) -> Tensor:
    """LSQ's gradient scale of a step size, ``1/√(N·Q)``.

    Source: LSQ (arXiv 1902.08153). N counts the elements of one tensor that share a step, over all processes that
    train together, so that their number changes nothing.

    Args:
        elements: of the quantized tensor in this process. sharing: number of steps. top: Q.
    """
    return (top.detach() * (elements / sharing)).clamp(min=1.0).rsqrt()  # an empty batch has no gradient, not NaN


def processes() -> int:
    """Processes that train together; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
