"""A map that is not linear, over time: of the means so far, so that the mean of what it sends is that of the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, time_first
from bitspike.layers.base import TimeLayer, in_full

State = tuple[tuple[Tensor, ...], Tensor | None, int]


class TallyMap(TimeLayer):
    """Runs an operation of an ANN that spikes cannot do, such as a GELU or a norm, inside a converted network.

    An analog operation of a converted network: ``y_t = t·f(m_t) − (t − 1)·f(m_{t−1})``, m_t the mean of x_1 … x_t.

    The sum of the first t outputs is t·f(m_t): a mean over time is mapped as the ANN maps its activations, whatever f
    is (GELU, a norm, a product of several inputs), as `TallyPool` does for maxima. At T = 1 it is f itself.

    Source: ours.

    Args:
        body: f on [B, ...], of one tensor or more, which keeps the batch in front. what: its name, for people.

    >>> TallyMap(nn.Sigmoid(), "sigmoid")(torch.tensor([2.0, -2.0]).reshape(2, 1, 1)).mean().item()
    0.5
    """

    stateful = True

    def __init__(self, body: nn.Module, what: str = "") -> None:
        super().__init__()
        self.body: nn.Module = body
        self.what: str = what or type(body).__name__

    def forward(self, *inputs: Tensor) -> Tensor:
        """Tensors [T, B, ...] → [T, B, ...]."""
        return self.stream_step(*inputs, None)[0]

    def stream_step(self, *given: Any) -> tuple[Tensor, State]:
        """One chunk of every input, then the state: (sums of the inputs, t·f(m_t), t), None at first."""
        *inputs, state = given
        for x in inputs:
            time_first("TallyMap", x)
        plain = torch.contiguous_format  # the order of sums in f must not depend on how a chunk lies in memory
        sums, sent, steps = state or (
            tuple(torch.zeros_like(in_full(x[0]), memory_format=plain) for x in inputs),
            None,
            0,
        )
        outputs = []
        for parts in zip(*(x.unbind(0) for x in inputs), strict=True):
            steps += 1
            sums = tuple(total + part.contiguous() for total, part in zip(sums, parts, strict=True))
            y: Tensor = self.body(*((total / steps).to(x.dtype) for total, x in zip(sums, inputs, strict=True)))
            if y.dim() == 0 or len(y) != len(inputs[0][0]):
                must, got = f"axis 0 of {self.what} must stay the batch", list(y.shape)
                raise bad_value("TallyMap", must, got, "use x.shape[0] for the batch, and keep it in front")
            total = in_full(y) * steps
            outputs.append(total if sent is None else total - sent)
            sent = total
        return torch.stack(outputs).to(inputs[0].dtype), (sums, sent, steps)

    def extra_repr(self) -> str:
        return self.what
