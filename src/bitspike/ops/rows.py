"""How kernels see tensors in memory: every step a dense row, contiguous or channels-last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bitspike.functional import repeats
from bitspike.ops import buffers


def in_rows(x: Tensor) -> Tensor:
    """x [T, B, ...] whose steps are dense rows: contiguous, or channels-last over [T·B, C, H, W]; else a copy.

    A row that repeats is copied in its own memory order.
    """
    if repeats(x) and channels_last(one_row(x)):
        return x.movedim(2, -1).contiguous().movedim(-1, 2)
    return x if x.is_contiguous() or channels_last(x) else x.contiguous()


def one_row(x: Tensor) -> Tensor:
    """x [T, ...] itself, or one row [1, ...] of it where all are the same memory."""
    return x[0].unsqueeze(0) if repeats(x) else x


def rows_or_one(x: Tensor) -> Tensor:
    """x as dense rows (see `in_rows`), or one dense row that repeats."""
    row = one_row(x)
    dense = in_rows(row)
    return x if dense is row else dense.expand_as(x)


def channels_last(x: Tensor) -> bool:
    """Whether x [T, B, C, H, W] is channels-last with time and batch outermost."""
    if x.dim() != 5 or x.is_contiguous():
        return False
    _, batch, channels, height, width = x.shape
    step = channels * height * width
    return x.stride() == (batch * step, step, 1, width * channels, channels)


def empty_rows(like: Tensor, shape: Sequence[int], last: bool, dtype: torch.dtype, real: bool) -> Tensor:
    """Uninitialised rows of a shape [T, B, ...] (or one step of it), channels-last or contiguous."""
    if last:
        *outer, channels, height, width = shape
        rows = empty_rows(like, (*outer, height, width, channels), False, dtype, real).movedim(-1, -3)
        return rows.detach()  # a result that is a view could not be changed in place
    return buffers.empty(shape, dtype) if real else like.new_empty(shape, dtype=dtype)


def same_rows(x: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor | None:
    """x in the memory order and dtype wanted, copied only where it differs."""
    if x is None or (x.stride() == like.stride() and x.dtype == dtype):
        return x
    return torch.empty_like(like, dtype=dtype).copy_(x)


def packed(numbers: Tensor | None) -> Tensor | None:
    """Learned numbers one after the other in memory."""
    return None if numbers is None else numbers.contiguous()


def address(tensor: Tensor | None) -> int:
    """Where the memory of a tensor begins; 0 where there is none."""
    return 0 if tensor is None else tensor.data_ptr()


def given_where(present: Sequence[bool], grads: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients as autograd wants them: None where there was nothing to differentiate."""
    return tuple(grad if there else None for grad, there in zip(grads, present, strict=True))
