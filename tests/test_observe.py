"""The activity collector against examples counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike import observe, trace
from bitspike.formats import SpikeFormat
from bitspike.layers import BatchNorm, Conv2d, Linear, Repeat
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Ternary
from bitspike.observe import Activity, levels_of, potentials
from networks import liven, make_neuron, samples, small_cnn


def one_step(neuron: Neuron, values: list[float]) -> Activity:
    """Activity of one neuron layer of that many neurons, one sample, one step."""
    return observe(nn.Sequential(neuron), [torch.tensor([[values]])])["_0"]


def test_binary_by_hand() -> None:
    seen = one_step(LIF(1.0), [0.0, 1.0, 2.0, 0.9])
    assert (seen.sent, seen.fired, seen.set_bits, seen.saturated) == (4, 2, 2.0, 0)
    assert seen.histogram == {0: 2, 1: 2} and seen.rate == 0.5 and seen.bits_per_step == 0.5


def test_ternary_by_hand() -> None:
    seen = one_step(Ternary(0.5, amplitude=1.37), [-0.6, -0.5, 0.4, 0.5, -0.1])
    assert (seen.sent, seen.fired, seen.set_bits, seen.saturated) == (5, 3, 3.0, 0)
    assert seen.histogram == {-1: 2, 0: 2, 1: 1} and seen.saturation == 0.0


def test_multibit_by_hand() -> None:
    """Levels 0, 1, 2, 3, 3 have 0, 1, 1, 2, 2 set bits; level 3 is the end of the range."""
    seen = one_step(MultiBit(1, 1, amplitude=0.731), [0.4, 0.5, 1.2, 1.5, 9.0])
    assert seen.histogram == {0: 1, 1: 1, 2: 1, 3: 2}
    assert (seen.sent, seen.fired, seen.set_bits, seen.saturated) == (5, 4, 6.0, 2)
    assert seen.rate == 0.8 and seen.bits_per_step == 1.2 and seen.saturation == 0.4


def test_integer_by_hand() -> None:
    """D = 4 = 100 in binary: one set bit at the end of the range."""
    seen = one_step(Integer(4), [0.2, 1.0, 3.0, 4.0, 7.0])
    assert seen.histogram == {0: 1, 1: 1, 3: 1, 4: 2}
    assert (seen.fired, seen.set_bits, seen.saturated) == (4, 1 + 2 + 1 + 1, 2)


def test_real_by_hand() -> None:
    seen = one_step(Real(0.5, amplitude=2.0), [0.4, 0.5, 1.2])
    assert (seen.sent, seen.fired, seen.set_bits, seen.saturated) == (3, 2, 64.0, 0)
    assert seen.histogram == {} and seen.format.real


def test_batches_time_and_places_add_up() -> None:
    """decay 1, threshold 1, current 0.5: a spike every second step."""
    net = nn.Sequential(Repeat(4), LIF(1.0, decay=1.0), nn.Sequential(LIF(1.0, decay=1.0, amplitude=3.0)))
    seen = observe(net, [torch.full((2, 3), 0.5), torch.full((1, 3), 0.5)])
    assert list(seen) == ["_1", "_2_0"]
    first, second = seen.values()
    assert (first.path, second.path) == ("1", "2.0")
    assert (first.samples, first.shape, first.T, first.sent) == (3, (3,), 4, 36)
    assert first.fired == 18 and first.histogram == {0: 18, 1: 18}
    assert second.fired == 18 and second.format == SpikeFormat(amplitude="layer")


def test_one_module_called_twice_is_counted_per_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = LIF(1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(0.5 * self.neuron(x))

    seen = observe(Twice(), [torch.ones(1, 1, 2)])
    assert {name: a.rate for name, a in seen.items()} == {"neuron": 1.0, "neuron_1": 0.0}
    assert [a.path for a in seen.values()] == ["neuron", "neuron"]


@pytest.mark.parametrize("spiking", ["lif", "ternary", "multibit", "integer", "real"])
def test_consistent_on_a_network(spiking: str) -> None:
    x = samples(6)
    neuron = make_neuron(spiking, amplitude=1.37, train_amplitude="channel")
    model = liven(small_cnn(neuron, T=3), x)
    graph = trace(model)
    whole, parts = observe(graph, [x]), observe(model, x.split(2))
    assert whole == parts
    assert whole["body_2"].shape == (6, 8, 8) and whole["body_4_neuron2"].shape == (12, 4, 4)
    for seen in whole.values():
        assert seen.T == 3 and seen.sent == 3 * 6 * seen.shape[0] * seen.shape[1] * seen.shape[2]
        assert 0.02 < seen.rate < 0.98
        if spiking != "real":
            assert sum(seen.histogram.values()) == seen.sent
            assert seen.fired == sum(n for k, n in seen.histogram.items() if k)
            assert seen.set_bits == sum(n * abs(k).bit_count() for k, n in seen.histogram.items())
            assert min(seen.histogram) >= seen.format.low and max(seen.histogram) <= seen.format.high


def test_the_mode_and_the_statistics_are_left_alone() -> None:
    net = nn.Sequential(Conv2d(1, 2, 1), BatchNorm(2), LIF()).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    observe(net, [torch.rand(2, 2, 1, 4, 4)])
    assert not net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(p.grad is not None for p in net.parameters())
    net.train()
    observe(net, [torch.rand(2, 2, 1, 4, 4)])
    assert net.training


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="observe: a batch must be finite, got 1 NaN or inf of 2 values"):
        observe(nn.Sequential(LIF()), [torch.tensor([[[0.0, float("nan")]]])])


def test_nothing_seen_divides_by_nothing() -> None:
    seen = observe(nn.Sequential(LIF()), [])["_0"]
    assert (seen.rate, seen.bits_per_step, seen.saturation, seen.T) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_levels_undo_amplitude_and_fraction(sharing: str) -> None:
    neuron = MultiBit(1, 2, amplitude=1.37, train_amplitude=sharing).replicate(2)
    x = torch.linspace(0, 2.5, 24).reshape(1, 2, 2, 2, 3)
    levels = levels_of(neuron, neuron(x))
    assert torch.equal(levels, MultiBit(1, 2).normalised()(x).double())
    assert levels.max() == 7
    neuron_one = Real(0.5, amplitude=2.0)
    assert torch.allclose(levels_of(neuron_one, neuron_one(x)), Real(0.5)(x).double())


def test_potentials_by_hand() -> None:
    """Threshold 1, decay 0.5, hard reset: u = 0.6, 0.9, 1.05 (fires), 0.6."""
    u = potentials(LIF(1.0, decay=0.5), torch.full((4, 1, 1), 0.6))
    assert torch.allclose(u.flatten(), torch.tensor([0.6, 0.9, 1.05, 0.6]))


def test_potentials_decide_the_spikes() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4, 3) * 2
    for name in ("lif", "ternary", "multibit", "integer"):
        neuron = make_neuron(name)
        assert torch.equal(neuron.stairs.level(potentials(neuron, x)).double(), levels_of(neuron, neuron(x)))


def test_a_linear_layer_between() -> None:
    net = nn.Sequential(LIF(1.0), Linear(2, 1, bias=False), LIF(1.0))
    with torch.no_grad():
        net[1].weight.fill_(1.0)
    seen = observe(net, [torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])])
    assert (seen["_0"].rate, seen["_2"].rate, seen["_2"].T) == (0.25, 0.5, 2)
