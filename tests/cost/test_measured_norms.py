"""Norms that measure what they get: counted by hand, named by fold, refused by compile; those of constants fold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.cost import LayerCost, activations, energy, energy_constants, quantized_ann
from bitspike.neurons import LIF, MultiBit

T, SHAPE = 2, (4, 3, 5)
VALUES = 60


class Called(nn.Module):
    """A norm written as a function, with weights of its own."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor], shape: tuple[int, ...] = (4,)) -> None:
        super().__init__()
        self.call = call
        self.weight, self.bias = nn.Parameter(torch.rand(shape) + 0.5), nn.Parameter(torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


NORMS: dict[str, tuple[Callable[[], nn.Module], int, int, int, int]] = {
    # deviations of a step, whether a mean is subtracted, whether factors and shifts follow, numbers
    "group": (lambda: nn.GroupNorm(2, 4), 2, 1, 1, 8),
    "one group, plain": (lambda: nn.GroupNorm(1, 4, affine=False), 1, 1, 0, 0),
    "instance": (lambda: nn.InstanceNorm2d(4), 4, 1, 0, 0),
    "layer": (lambda: nn.LayerNorm(5), 12, 1, 1, 10),
    "root mean square": (lambda: nn.RMSNorm([3, 5]), 4, 0, 1, 15),
    "function of groups": (lambda: Called(lambda s, x: F.group_norm(x, 2, s.weight, s.bias)), 2, 1, 1, 8),
    "function of a layer": (lambda: Called(lambda s, x: F.layer_norm(x, [5], s.weight), (5,)), 12, 1, 1, 5),
}


def network(norm: nn.Module) -> nn.Module:
    conv, other = nn.Conv2d(2, 4, 1, bias=False), nn.Conv2d(4, 3, 1)
    return nn.Sequential(nn.ReLU(), conv, norm, nn.ReLU(), other)


def upgraded(norm: nn.Module, x: Tensor, **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = network(norm).to(x.dtype).eval()
    net: nn.Module = bitspike.upgrade(model, {nn.ReLU: MultiBit(2, 1, decay=0.5, **options)}, x, T=T).eval()  # type: ignore
    return net


def row_of(net: nn.Module, x: Tensor) -> LayerCost:
    counted = bitspike.cost(net, x)
    assert not counted.uncounted
    (row,) = (row for row in counted.layers if row.kind == "norm")
    return row


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_counted_by_hand(name: str) -> None:
    make, groups, centred, affine, numbers = NORMS[name]
    x = torch.randn(3, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    row = row_of(upgraded(make(), x), x)
    shifted = int(affine and numbers not in (5, 15))
    sums = (1 + centred) * (VALUES - groups) + groups
    scalings = 0 if groups == 15 else (1 + centred) * groups
    assert row.adds == row.fixed_adds == T * (sums + VALUES * (centred + shifted))
    assert row.multiplications == T * (scalings + VALUES * (2 + affine))
    assert (row.divisions, row.shifts, row.parameters, row.size_bits) == (T * groups, 0, numbers, 32 * numbers)
    assert (row.inputs, row.outputs, row.spike_bytes) == (VALUES, VALUES, T * VALUES * 4 * 2)
    assert quantized_ann(bitspike.cost(upgraded(make(), x), x)).total("divisions") == groups


def test_windows_of_powers_of_two_shift_and_no_constant_charges_a_division() -> None:
    """16 values a group: means are shifts."""
    x = torch.randn(2, 2, 2, 4)
    net = upgraded(nn.GroupNorm(2, 4), x)
    row = row_of(net, x)
    assert (row.multiplications, row.shifts, row.divisions) == (T * 32 * 3, T * 4, T * 2)
    spent = energy(bitspike.cost(net, x), energy_constants("float32_45nm"))
    assert spent.not_charged["divide"] == T * 2


@pytest.mark.parametrize("name", NORMS)
def test_fold_names_it_and_compile_says_what_to_do(name: str) -> None:
    x = torch.randn(3, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    net = upgraded(NORMS[name][0](), x)
    folded = bitspike.fold(net, x)
    ((node, kind),) = folded.report.norms.items()
    assert f"{node} ({kind}) divide by what they measure and stay: train with batch norms" in str(folded.report)
    with pytest.raises(ValueError, match=rf"{node} .*{kind} divides by a deviation .* train with batch norms"):
        bitspike.compile(folded, x)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 2), nn.GroupNorm(1, 2), nn.LayerNorm(5), nn.InstanceNorm2d(2)])
def test_a_factor_of_all_its_values_goes_into_eps(norm: nn.Module) -> None:
    """(f·x − f·m)/√(f²v + ε) = (x − m)/√(v + ε/f²): no gain is left."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, 5, dtype=torch.float64)
    model = nn.Sequential(nn.ReLU(), norm, nn.ReLU(), nn.Conv2d(2, 3, 1)).double().eval()
    neuron = MultiBit(2, 1, decay=0.5, amplitude=0.03, train_amplitude="layer")
    net = bitspike.upgrade(model, {"0": neuron, "2": LIF()}, x, T=T).eval()
    folded = bitspike.fold(net, x)
    assert not folded.report.gains and folded.report.forced_flips == 0
    torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert float(folded(x).std()) > 0


NORMED: dict[str, Callable[[], nn.Module]] = {
    "instance": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "instance, plain": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    "cumulative batch": lambda: nn.BatchNorm2d(4, momentum=None),
}


@pytest.mark.parametrize("name", NORMED)
def test_norms_of_constants_fold_and_compile(name: str) -> None:
    torch.manual_seed(0)
    norm, x = NORMED[name]().double(), torch.randn(4, 2, 3, 5, dtype=torch.float64)
    norm(1 + 2 * torch.randn(8, 4, 3, 5, dtype=torch.float64))
    for parameter in norm.parameters():
        parameter.data.uniform_(0.5, 1.5)
    net = upgraded(norm, x)
    row = row_of(net, x)
    assert (row.adds, row.multiplications, row.divisions) == (T * VALUES, T * VALUES, 0)
    folded = bitspike.fold(net, x)
    assert not folded.report.norms and not [r for r in bitspike.cost(folded, x).layers if r.kind == "norm"]
    torch.testing.assert_close(folded(x), net(x), rtol=1e-12, atol=1e-12)
    assert bitspike.compile(folded, x).spec


def test_its_input_waits_in_memory() -> None:
    """Behind a convolution in 32 bits; a batch norm is formed as its input comes."""
    x = torch.randn(2, 2, 3, 5)
    peaks = [activations(upgraded(norm, x), x).peak_bytes for norm in (nn.GroupNorm(2, 4), nn.BatchNorm2d(4))]
    assert peaks[0] - peaks[1] > 2 * T * VALUES


def test_in_training_an_instance_norm_measures() -> None:
    x = torch.randn(4, 2, 3, 5)
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    net = upgraded(norm, x)
    assert row_of(net.train(), x).divisions == 4 * T and row_of(net.eval(), x).divisions == 0
