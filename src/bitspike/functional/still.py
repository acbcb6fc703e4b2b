"""Steps that are one tensor seen T times, as direct coding makes them: what is done to one is done to all."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def repeats(x: Tensor) -> bool:
    """Whether all steps of x [T, ...], T > 1, are the same memory (stride 0 over time).

    >>> import torch
    >>> step = torch.ones(1, 2)
    >>> repeats(step.expand(3, 2)), repeats(step.repeat(3, 1)), repeats(step)
    (True, False, False)
    """
    return x.dim() > 0 and x.shape[0] > 1 and x.stride(0) == 0


def still(x: object) -> bool:
    """Whether a layer may compute one step of x [T, B, ...] for all: `repeats`, and nobody asks for gradients by step.

    A sequence that is itself a leaf with gradients gets those of each of its steps, so it is computed step by step.
    """
    return isinstance(x, Tensor) and repeats(x) and not (x.requires_grad and x.is_leaf)


def held(y: Tensor, steps: int) -> Tensor:
    """One step [1, B, ...] → the same at every step [T, B, ...], a view; its gradient is the sum over the steps.

    Of dense steps it is repeated as one row of numbers: the sum of such rows is fast and keeps the memory order.
    """
    if y.is_contiguous() and y.dim() > 1:
        rows: Tensor = y.reshape(1, -1).expand(steps, -1)
        return rows.reshape(steps, *y.shape[1:])
    if y.dim() == 5 and y.movedim(2, -1).is_contiguous():
        return held(y.movedim(2, -1), steps).movedim(-1, 2)
    return y.expand(steps, *y.shape[1:])


def once(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) for a function that treats all steps of [T, B, ...] alike: of one step where all are one (`still`).

    The gradient of all steps together reaches what was repeated; at the repeated x [T, B, ...] it stands at step 0.

    >>> import torch
    >>> sizes = []
    >>> once(lambda x: sizes.append(len(x)) or 2 * x, torch.ones(1, 2).expand(3, 2)).shape, sizes
    (torch.Size([3, 2]), [1])
    """
    if still(x):
        try:
            return held(function(x[:1]), x.shape[0])
        except (TypeError, ValueError):
            pass  # of the whole sequence, so that the message has its shape
    return function(x)
