"""Stepping a neuron over time in plain PyTorch: the definition that every fast scan must equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from bitspike.ops.dispatch import REFERENCE, register

S = TypeVar("S")
Step = Callable[[Tensor, S], tuple[Tensor, S]]


def scan(step: Step[S], x_seq: Tensor, state: S) -> tuple[Tensor, S]:
    """Run ``step`` over axis 0.

    Args:
        step: pure function (x [B, ...], state) → (s [B, ...], state).
        x_seq: [T, B, ...], T >= 1.
        state: state before the first step.

    Returns:
        (s_seq [T, B, ...], state after the last step).

    >>> s, v = scan(lambda x, v: (x + v, x + v), torch.tensor([[1.0], [2.0]]), torch.zeros(1))
    >>> s.tolist(), v.tolist()
    ([[1.0], [3.0]], [3.0])
    """
    spikes = []
    for x in x_seq.unbind(0):
        s, state = step(x, state)
        spikes.append(s)
    return torch.stack(spikes), state


register("scan", REFERENCE, scan)
