"""The mean over time steps as one native pass each way, ``bitspike::squeeze``; float32 on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bitspike import native
from bitspike.ops.adaptive_native import pack_mean
from bitspike.ops.dispatch import register
from bitspike.ops.operators import Operator, define, library
from bitspike.ops.rows import channels_last, empty_rows, in_rows, same_rows

_CALLS = "bitspike_squeeze_forward", "bitspike_squeeze_backward"


def refuses(dtype: object) -> str | None:
    """Why native code cannot take the mean of values of this dtype, or None."""
    if dtype != torch.float32:
        return f"it takes float32, here they are {dtype}"
    native.warn_if_missing()
    return native.why_missing()


def squeeze_native(x_seq: Tensor, divisor: Tensor | float) -> Tensor:
    """The mean; the arguments are those of every kernel of "squeeze", see `bitspike.ops.refined`."""
    learned = divisor if isinstance(divisor, Tensor) else None
    fixed = 1.0 if isinstance(divisor, Tensor) else float(divisor)
    return torch.ops.bitspike.squeeze(in_rows(x_seq), learned, fixed)[0]  # type: ignore[no-any-return]


def _one(x: Tensor, real: bool) -> Tensor:
    """[1, ...] uninitialised, laid out as a step of x [T, ...]."""
    return empty_rows(x, (1, *x.shape[1:]), channels_last(x), x.dtype, real)


def _fake_forward(x: Tensor, divisor: Tensor | None, fixed: float) -> Tensor:
    return _one(x, False)


def _forward(x: Tensor, divisor: Tensor | None, fixed: float) -> Tensor:
    y = _one(x, True)
    if x.numel():
        by = fixed if divisor is None else float(divisor)
        library(*_CALLS).bitspike_squeeze_forward(pack_mean(len(x), by, x=x, s=y))
    return y


def _fake_backward(grad: Tensor, mean: Tensor | None, divisor: Tensor | None, fixed: float) -> tuple[Tensor, Tensor]:
    return _one(grad, False), grad.new_empty(()) if divisor is None else torch.empty_like(divisor)


def _backward(grad: Tensor, mean: Tensor | None, divisor: Tensor | None, fixed: float) -> tuple[Tensor, Tensor]:
    """Gradient of every step [1, ...], and of the divisor."""
    grad = in_rows(grad)
    found, of_divisor = _one(grad, True), grad.new_zeros(()) if divisor is None else torch.zeros_like(divisor)
    if grad.numel():
        by = fixed if divisor is None else float(divisor)
        sums = grad.new_zeros(library().bitspike_norm_blocks(grad.numel()), dtype=torch.float64)
        alike = same_rows(mean, grad, grad.dtype)
        call = pack_mean(1, by, s=alike, grad_s=grad, grad_x=found, sums=sums)
        library(*_CALLS).bitspike_squeeze_backward(call)
        of_divisor.copy_(sums.sum())
    return found, of_divisor


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, divisor, fixed = inputs
    ctx.steps, ctx.fixed = len(x), fixed
    ctx.save_for_backward(None if divisor is None else output, divisor)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
    mean, divisor = ctx.saved_tensors
    found, of_divisor = torch.ops.bitspike.squeeze_backward(grad, mean, divisor, ctx.fixed)
    return found.expand(ctx.steps, *found.shape[1:]), None if divisor is None else of_divisor, None


define(
    "squeeze",
    Operator("(Tensor x, Tensor? divisor, float fixed) -> Tensor", _forward, _fake_forward),
    Operator(
        "(Tensor grad, Tensor? mean, Tensor? divisor, float fixed) -> (Tensor, Tensor)", _backward, _fake_backward
    ),
    _save,
    _differentiate,
    "the native mean is",
)
register("squeeze", "native", squeeze_native, device="cpu", refuses=refuses)
