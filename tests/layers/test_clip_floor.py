"""The quantization-clip-floor activation: values, ties, gradients."""

from __future__ import annotations

import pytest
import torch

from bitspike.layers import ClipFloor


def test_values_and_ties() -> None:
    act = ClipFloor(3, 1.5)
    x = torch.tensor([-1.0, 0.0, 0.24, 0.25, 0.74, 0.75, 1.5, 9.0])
    assert act(x).tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.5, 1.5]
    assert float(ClipFloor(1, 1.0)(torch.tensor(0.49999997))) == 0.0


def test_gradients() -> None:
    act, x = ClipFloor(4, 2.0).double(), torch.tensor([-0.3, 0.6, 1.3, 2.7], dtype=torch.float64, requires_grad=True)
    y = act(x)
    slopes = []
    for value in y:
        act.zero_grad()
        value.backward(retain_graph=True)
        slopes.append(float(act.raw_ceiling.grad))  # type: ignore[arg-type]
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert slopes == pytest.approx([0.0, (0.5 - 0.6) / 2, (1.5 - 1.3) / 2, 1.0])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="levels"):
        ClipFloor(0)
    with pytest.raises(ValueError, match="ceiling"):
        ClipFloor(3, 0.0)
