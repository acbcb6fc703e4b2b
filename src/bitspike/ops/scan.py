"""Stepping a neuron over time in plain PyTorch: the definition that every fast scan must equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

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


def scan_reference(neuron: Any, x_seq: Tensor, state: Any, keep: bool, spec: object) -> tuple[Tensor, Any]:
    """The reference kernel of "scan". Every kernel has these arguments.

    Args:
        neuron: a `bitspike.neurons.Neuron`.
        x_seq: [T, B, ...] currents.
        state: state before the first step, or None for a discharged neuron.
        keep: whether the state after the last step is wanted; a kernel may return None for it otherwise.
        spec: what `Neuron.fused` returned; the reference needs none.

    Returns:
        (spikes [T, B, ...], state or None).
    """
    return scan(neuron.step, x_seq, neuron.initial_state(x_seq[0]) if state is None else state)


register("scan", REFERENCE, scan_reference)
