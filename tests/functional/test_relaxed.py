"""The tool for finite differences: what it freezes, what it replaces, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike.functional import ATan, Rectangle, Stairs, fire, round_ste
from bitspike.neurons import LIF
from bitspike.testing import Relaxed, Tape, finite_differences, relaxed


class Rounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return round_ste(x / self.scale) * self.scale


def test_the_reference_pass_is_the_hard_network() -> None:
    neuron, x = LIF(reset="soft", surrogate="atan"), torch.randn(4, 3, 5, dtype=torch.float64) * 2
    hard = neuron(x)
    with relaxed(neuron) as tape, tape.reference():
        assert torch.equal(neuron(x), hard)
    with relaxed(neuron) as tape:
        with tape.reference():
            neuron(x)
        with tape.replay():
            assert torch.equal(neuron(x), hard)
        with tape.replay():
            assert not torch.equal(neuron(x + 0.01), hard)


def test_the_model_comes_back_whole() -> None:
    model, x = nn.Sequential(LIF(), Rounded()), torch.full((1, 1, 1), 1.3)
    before = model[0].surrogate
    with pytest.raises(KeyError), relaxed(model, {Rounded: lambda module, y: y + 7 * module.scale}):
        assert model(x).item() == 1 + 7 * 0.5
        assert isinstance(model[0].surrogate, Relaxed)
        raise KeyError
    assert model[0].surrogate is before
    assert "forward" not in vars(model[1])
    assert model(x).item() == 1


def test_rounding_by_hand() -> None:
    """y = a·round(x/a) with a = 0.5, x = 0.8: residual r = 2 − 1.6 frozen, so dy/dx = 1 and dy/da = r = 0.4."""
    model, x = Rounded(), torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    model(x).sum().backward()
    by_x, by_scale = finite_differences(lambda: model(x).sum(), [x, model.scale], model)
    assert float(by_x) == pytest.approx(1.0, abs=1e-8) == float(x.grad)
    assert float(by_scale) == pytest.approx(0.4, abs=1e-8)
    assert float(model.scale.grad) == pytest.approx(0.4, abs=1e-12)


def test_a_wrong_gradient_is_seen() -> None:
    """The differences do not follow autograd: an undetached pass with a wrong derivative disagrees."""

    class Half(Rectangle):
        def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
            return super().derivative(u, stairs) / 2

    neuron, x = LIF(surrogate=Half()), torch.tensor([[[0.75]]], dtype=torch.float64, requires_grad=True)
    neuron(x).sum().backward()
    [wanted] = finite_differences(lambda: neuron(x).sum(), [x], neuron)
    assert float(x.grad) == 0.5
    assert float(wanted) == pytest.approx(1.0, abs=1e-8)


def test_fire_is_shifted_to_the_hard_level() -> None:
    tape, stairs, u = Tape(), Stairs(1.0), torch.tensor([0.7, 1.3], dtype=torch.float64)
    soft, ramp = Relaxed(ATan(), tape), ATan().primitive
    with tape.reference():
        assert fire(u, stairs, soft).tolist() == [0.0, 1.0]
    with tape.replay():
        moved = fire(u + 0.1, stairs, soft)
    assert torch.equal(moved, torch.tensor([0.0, 1.0]) + (ramp(u + 0.1, stairs) - ramp(u, stairs)))
    assert torch.equal(soft.derivative(u, stairs), ATan().derivative(u, stairs))


def test_a_pass_that_strays_is_refused(refuses: Any) -> None:
    tape, u = Tape(), torch.ones(1)
    soft = Relaxed(Rectangle(), tape)
    with tape.reference():
        fire(u, Stairs(), soft)
    with refuses("Tape", "2 values", "got 3"), tape.replay():
        fire(u, Stairs(), soft)
        fire(u, Stairs(), soft)
    with refuses("Tape", "2 values", "got 0"), tape.replay():
        pass


def test_single_precision_is_refused(refuses: Any) -> None:
    with refuses("finite_differences", "float64", "torch.float32", kind=TypeError):
        finite_differences(lambda: torch.zeros(()), [torch.zeros(1)], LIF())
