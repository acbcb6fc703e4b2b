"""Mean over time steps, and a neuron whose current is held and whose spikes are averaged: definitions in PyTorch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bitspike.ops.dispatch import REFERENCE, register


def squeeze_reference(x_seq: Tensor, divisor: Tensor | float) -> Tensor:
    """The reference kernel of "squeeze": the sum over time steps, divided. Every kernel has these arguments.

    Args:
        x_seq: [T, B, ...]. divisor: a number, or a tensor [] with a gradient.

    Returns:
        [B, ...].

    >>> import torch; squeeze_reference(torch.tensor([[1.0], [2.0]]), 2).tolist()
    [1.5]
    """
    y = x_seq[0] if len(x_seq) == 1 else x_seq.sum(0)
    if isinstance(divisor, Tensor):
        return y / divisor.to(y.dtype)
    return y if divisor == 1 else y / divisor


def refined_reference(refined: Any, x_seq: Tensor, spec: object) -> Tensor:
    """The reference kernel of "refined". Every kernel has these arguments.

    Args:
        refined: a `bitspike.layers.Refined` that squeezes always. x_seq: currents [T₁, B, ...].
        spec: what ``refined.neuron.fused()`` returned; the reference needs none.

    Returns:
        Mean spikes [1, B, ...].
    """
    return refined.after(refined.neuron(refined.before(x_seq)))  # type: ignore[no-any-return]


register("squeeze", REFERENCE, squeeze_reference)
register("refined", REFERENCE, refined_reference)
