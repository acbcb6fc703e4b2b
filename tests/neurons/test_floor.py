"""The membrane floor: where it acts, what gradient passes, who keeps it, and that no kernel leaves it out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bitspike
from bitspike.layers import Affine, Conv2d, Linear, MeanReadout
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Ternary
from bitspike.observe import potentials
from bitspike.ops import ScanFacts, explain, using
from bitspike.quantizers import Sign
from bitspike.sealed import amend
from networks import rng
from neurons.cases import OWN_FLOORS, Options, build

CASES = [(name, options) for name, given in OWN_FLOORS.items() for options in given]


def currents(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=rng(0), dtype=torch.float64).mul(16).round() / 16


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]['floor']}")
def test_no_membrane_is_below_it(case: tuple[str, Options]) -> None:
    """It acts on many membranes of the case, and changes what is sent."""
    name, options = case
    neuron: Neuron = build(name, options).double()
    x = currents(8, 20, 5)
    u = potentials(neuron, x).detach()
    free = build(name, {**options, "floor": None}).double()
    assert float(u.min()) == options["floor"]
    at = (u == options["floor"]).double().mean()
    assert 0.02 < at < 0.9 and not torch.equal(neuron(x), free(x))
    assert float(potentials(free, x).detach().min()) < options["floor"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]['floor']}")
def test_no_kernel_leaves_it_out(case: tuple[str, Options]) -> None:
    neuron = build(*case)
    facts = ScanFacts(neuron.fused(), torch.float32, torch.float32)
    lines = explain("scan", "cpu", facts).splitlines()
    assert lines[-1] == "reference: taken" and "native: a membrane floor has no kernel" in lines
    assert "a membrane floor has no kernel" in explain("norm_scan", "cpu", facts)
    with using("native"), pytest.raises(ValueError, match="a membrane floor has no kernel"):
        neuron(torch.zeros(2, 1, 5))


def test_gradient_by_hand() -> None:
    """u1 = −2 → floor −1; u2 = −1 + 1.75 = .75, inside the window: x1 and x2's gradients are 0 and 1."""
    x = torch.tensor([[[-2.0]], [[1.75]]], requires_grad=True)
    LIF(decay=1.0, reset="soft", floor=-1.0)(x).sum().backward()
    assert x.grad is not None and x.grad.flatten().tolist() == [0.0, 1.0]
    x.grad = None
    LIF(decay=1.0, reset="soft", floor=-2.0)(x + torch.tensor([[[0.0]], [[1.0]]])).sum().backward()
    assert x.grad.flatten().tolist() == [1.0, 1.0]  # at the floor itself it passes


def test_rounding_from_half_a_level_below_is_flooring() -> None:
    """Integer that starts half a level below 0 is MultiBit with whole levels; its floor is half a level lower."""
    x = 2 * currents(12, 6, 4)
    whole = MultiBit(3, 0, decay=1.0, floor=-1.0).double()
    half = Integer(7, decay=1.0, initial=-0.5, floor=-1.5).double()
    assert torch.equal(whole(x), half(x)) and float(whole(x).max()) > 1


def test_a_floor_per_channel_of_thresholds() -> None:
    """A real neuron with thresholds times c: fed c·x it sends c·s, at the floor too, twice over as once."""
    neuron = Real(floor=-0.25, decay=1.0).double()
    factor = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
    x = currents(6, 5, 3, 2, 2)
    wide = factor.reshape(3, 1, 1)
    twin = neuron.rescaled(factor)
    s, state = neuron.run(x)
    got, last = twin.run(x * wide)
    assert torch.equal(got, s * wide) and torch.equal(last.v, state.v * wide)
    again = twin.rescaled(factor)
    assert torch.equal(again(x * wide * wide), s * wide * wide)
    assert float(last.v.amin((0, 2, 3)).max()) < 0 and "floor_factor" not in "".join(neuron.state_dict())
    assert not torch.equal(Real(decay=1.0).double()(x), s)


def test_it_is_shown_and_checked() -> None:
    assert "floor=-1" in repr(LIF(floor=-1.0).membrane) and "floor" not in repr(LIF().membrane)
    for floor in (0.5, float("nan"), -float("inf")):
        with pytest.raises(ValueError, match=r"Membrane: the floor must be finite, <= 0 and <= the initial membrane"):
            LIF(floor=floor)
    with pytest.raises(ValueError, match="initial"):
        MultiBit(floor=-0.25, initial=-0.5)
    with pytest.raises(ValueError, match=r"Ternary: the floor must be <= -threshold, -0\.5 here, got -0\.25"):
        Ternary(floor=-0.25)


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(decay=1.0, reset="soft", floor=-0.25, amplitude=0.5),
        MultiBit(1, 2, floor=-0.25, amplitude=1.5, train_amplitude="channel"),
        Ternary(floor=-0.75, reset="soft", amplitude=2.0, train_amplitude="layer"),
        Integer(3, decay=1.0, floor=-0.5, amplitude=0.25),
        Real(floor=-0.25, amplitude=2.0),
    ],
    ids=lambda n: type(n).__name__,
)
def test_fold_and_stream_keep_it(neuron: Neuron) -> None:
    """Folded spikes equal, teacher-forced and end to end; chunks equal the whole; without the floor neither holds."""
    net = nn.Sequential(Conv2d(2, 6, 3, padding=1), neuron.replicate(6), Conv2d(6, 4, 3), neuron.replicate(4)).double()
    net.eval()
    x = 2 * currents(5, 6, 2, 6, 6)
    folded = bitspike.fold(net, x)
    assert folded.report.forced_flips == folded.report.end_to_end_flips == 0
    assert all(0.02 < layer.rate < 0.98 for layer in folded.report.layers.values())
    assert [n.module.membrane.floor for n in folded.graph.of_kind("neuron")] == [neuron.membrane.floor] * 2  # type: ignore[union-attr]
    for network in (net, folded.net):
        states, parts = None, []
        for part in x.split((1, 3, 1)):
            y, states = bitspike.stream(network, part, states)
            parts.append(y)
        assert torch.equal(torch.cat(parts), network(x))
    for node in folded.graph.of_kind("neuron"):
        amend(node.module.membrane, floor=None)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(folded.net(x) != 0, net(x) != 0)


def test_fold_moves_it_with_the_thresholds_of_a_real_neuron() -> None:
    """±1 weights with a factor per input channel: threshold and floor take the factor; nothing flips."""
    synapse = Conv2d(6, 4, 3, weight=Sign("input"))
    neuron = Real(floor=-0.125, decay=1.0)
    net = nn.Sequential(Conv2d(2, 6, 3, padding=1), neuron, synapse, MeanReadout()).double().eval()
    x = 2 * currents(5, 6, 2, 6, 6)
    folded = bitspike.fold(net, x)
    assert folded.report.absorbed == ["_1"] and folded.report.end_to_end_flips == 0 and not folded.report.gains
    made = folded.graph["_1"].module
    assert isinstance(made, Real) and made.membrane.floor_factor is not None
    assert made.threshold_factor is not None
    assert torch.equal(made.membrane.floor_factor, made.threshold_factor)
    assert any("floor_factor" in name for name in folded.state_dict())
    made.membrane.floor_factor = None
    assert not torch.allclose(folded(x), net(x))


def test_norm_in_training_calls_the_plain_scan() -> None:
    from bitspike.layers import BatchNorm, Chain

    x = currents(4, 6, 3, 5, 5).float()
    fused, apart = Chain(BatchNorm(3), LIF(floor=-0.25)), nn.Sequential(BatchNorm(3), LIF(floor=-0.25))
    assert torch.equal(fused(x), apart(x))
    with_affine = nn.Sequential(Affine(torch.ones(3), torch.zeros(3)), LIF(floor=-0.25), nn.Identity())
    assert bitspike.trace(with_affine).of_kind("neuron")


def test_conversion_keeps_it() -> None:
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    snn = bitspike.ann2snn(ann, MultiBit(2, 2, decay=1.0, floor=-1.0), torch.rand(32, 4), T=3)
    assert [n.module.membrane.floor for n in snn.graph.of_kind("neuron")] == [-1.0]  # type: ignore[union-attr]
    assert isinstance(next(iter(snn.graph.of_kind("synapse"))).module, Linear)
