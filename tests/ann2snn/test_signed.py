"""Conversion to signed spikes: ternary ones that take back, and LeakyReLU with two amplitudes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from analog import Residual, ann, inputs
from bitspike.cost import cost
from bitspike.formats import SpikeFormat
from bitspike.layers import Gain
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Signed
from bitspike.observe import levels_of, observe

LEAKY = nn.LeakyReLU(0.25)


def leaky(dtype: torch.dtype = torch.float64, slope: float = 0.25) -> nn.Module:
    """`Residual` with LeakyReLU as a module; the two functions inside stay ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual(nn.LeakyReLU(slope)).to(dtype).eval()


class Leaks(nn.Module):
    """LeakyReLU in every spelling; the second one has the default slope."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.act = nn.LeakyReLU(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.a(x))
        x = F.leaky_relu(self.b(x), 0.125)
        return F.leaky_relu(self.c(x), negative_slope=0.3)


def test_ternary_takes_back_what_a_binary_neuron_cannot() -> None:
    """Currents that change sign: the sum of the levels is ReLU's of the sum of the currents, within half a level."""
    x = torch.randn(64, 200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(0.6).clamp(-1, 1)
    signed, binary = Signed(decay=1.0, cancels_only=True), LIF(1.0, 1.0, reset="soft", initial=0.5)
    totals = {neuron: levels_of(neuron, neuron(x)).sum(0) for neuron in (signed, binary)}
    assert set(levels_of(signed, signed(x)).unique().tolist()) == {-1.0, 0.0, 1.0}
    running = levels_of(signed, signed(x)).cumsum(0)
    assert (running >= 0).all()
    wanted = x.sum(0).clamp_min(0)
    assert (totals[signed] - wanted).abs().max() <= 0.5
    assert (totals[binary] - wanted).mean() > 1


def test_at_one_step_taking_back_changes_nothing() -> None:
    """At T = 1 nothing was sent: a signed neuron of D levels is the unsigned one of D levels."""
    net, x = ann("residual", torch.float64), inputs(24, torch.float64)
    signed = bitspike.ann2snn(net, Signed(3, decay=1.0), x, 1)
    plain = bitspike.ann2snn(net, Integer(3, decay=1.0), x, 1)
    torch.testing.assert_close(signed(x), plain(x), rtol=1e-9, atol=1e-9)


def test_ternary_is_closer_than_binary_in_a_deep_network() -> None:
    net, x = ann("he", torch.float64), inputs(24, torch.float64)
    options = {"T": 16, "correction": "none"}
    ternary = bitspike.ann2snn(net, Signed(decay=1.0), x, **options).report  # type: ignore[arg-type]
    binary = bitspike.ann2snn(net, LIF(1.0, 1.0, reset="soft"), x, **options).report  # type: ignore[arg-type]
    assert ternary is not None and binary is not None
    assert ternary.logit_error < 0.85 * binary.logit_error


@pytest.mark.parametrize("neuron", [Signed(7, decay=1.0), Signed(decay=1.0)], ids=["seven", "ternary"])
@pytest.mark.parametrize("slope", [0.25, 0.1])
@pytest.mark.parametrize("T", [1, 3])
def test_leaky_relu_through_fold_stream_and_cost(neuron: Neuron, slope: float, T: int) -> None:
    net, x = leaky(slope=slope), inputs(12, torch.float64)
    snn = bitspike.ann2snn(net, neuron, x, T)
    first = next(iter(snn.graph.of_kind("neuron"))).module
    assert isinstance(first, Signed) and first.format.slope == slope and not first.cancels_only
    others = [node.module for node in snn.graph.of_kind("neuron")][1:]
    assert all(isinstance(other, Signed) and other.cancels_only and other.format.slope == 1 for other in others)
    folded = bitspike.fold(snn, x)
    assert folded.report.forced_flips == 0 and folded.report.agreement == 1
    torch.testing.assert_close(folded(x), snn(x), rtol=1e-9, atol=1e-9)
    sent: dict[str, Tensor] = {}

    def note(node, call, args):  # type: ignore[no-untyped-def]
        value = call()
        if node.kind == "neuron":
            sent[node.name] = value
        return value

    with torch.no_grad():
        folded.graph.run(x, handler=note)
    values = next(iter(sent.values()))
    assert set(values[values >= 0].tolist()) <= {float(k) for k in range(neuron.format.high + 1)}
    negative = (values[values < 0] / slope).round(decimals=9)
    assert len(negative) and set(negative.tolist()) <= {-float(k) for k in range(1, neuron.format.high + 1)}
    sequence, states, parts = x.unsqueeze(0).expand(T, *x.shape), None, None
    for step in sequence.split(1):
        parts, states = bitspike.stream(snn.graph, step, states)
    assert torch.equal(parts, snn(x))
    seen = next(iter(observe(snn, [x]).values()))
    assert any(level < 0 for level in seen.histogram) and max(map(abs, seen.histogram)) <= neuron.format.high
    row = next(row for row in cost(folded.graph, x).layers if row.kind == "synapse" and row.role == "hidden")
    assert (row.multiplications > 0) == (slope == 0.1) and row.adds + row.shift_adds > 0


def test_cost_of_two_amplitudes_by_hand() -> None:
    """Spikes 1, 0, −1/4, −2/4 into 3 outputs: + adds, − shifts (a power of two) or multiplies; levels above 1 shift."""
    from bitspike.layers import Linear

    x = torch.tensor([[[1.0, 0.0, -1.0, -2.0]]])
    for slope, wanted in ((0.25, (0.0, 9.0, 0.0)), (0.3, (0.0, 3.0, 6.0))):
        net = nn.Sequential(Signed(2, decay=1.0, slope=slope), Linear(4, 3, bias=False))
        [row] = [row for row in cost(net, x).layers if row.kind == "synapse"]
        assert (row.adds, row.shift_adds, row.multiplications) == wanted
    net = nn.Sequential(Signed(1, decay=1.0, slope=0.25), Linear(4, 3, bias=False))
    [row] = [row for row in cost(net, x).layers if row.kind == "synapse"]
    assert (row.adds, row.shift_adds, row.multiplications) == (3.0, 6.0, 0.0)


def test_every_spelling_and_fine_levels() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net, x = Leaks().double().eval(), torch.randn(40, 6, dtype=torch.float64)
    snn = bitspike.ann2snn(net, Signed(200, decay=1.0), x, 4, "max", correction="none")
    slopes = [node.module.format.slope for node in snn.graph.of_kind("neuron")]  # type: ignore[union-attr]
    assert slopes == [0.5, 0.125, 0.3]
    with torch.no_grad():
        assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01
    for threshold in ("mse", "percentile"):
        report = bitspike.ann2snn(net, Signed(7, decay=1.0), x, 1, threshold).report
        assert report is not None and report.logit_error < 0.2
    assert report is not None and [layer.activation for layer in report.layers.values()] == ["LeakyReLU"] * 3


def test_what_is_refused() -> None:
    x = inputs(4, torch.float64)
    for neuron in (MultiBit(2, 2, decay=1.0), LIF(1.0, 1.0, reset="soft"), Integer(3, decay=1.0)):
        with pytest.raises(ValueError, match=r"ann2snn act: LeakyReLU sends values below 0, so the format"):
            bitspike.ann2snn(leaky(), neuron, x)
        with pytest.raises(ValueError, match=r"ann2snn act: LeakyReLU sends values below 0, so the format"):
            bitspike.ann2snn(leaky(slope=-0.5), neuron, x)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), LEAKY, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)).double().eval()
    bitspike.ann2snn(pooled, Signed(3, decay=1.0), x, 1)
    with pytest.raises(ValueError, match=r"ann2snn 1: max pooling behind a LeakyReLU needs T = 1, got T = 2"):
        bitspike.ann2snn(pooled, Signed(3, decay=1.0), x, 2)
    with pytest.raises(ValueError, match="the slope must be 1 where spikes are taken back"):
        Signed(cancels_only=True, slope=0.5)
    with pytest.raises(ValueError, match=r"slope must lie in \(0, 1\], and be 1 where no level is negative"):
        SpikeFormat(0, 3, slope=0.5)
    for slope in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match="slope"):
            Signed(slope=slope)


@pytest.mark.parametrize("slope", [-0.5, 2.0])
def test_a_slope_that_no_spike_has_stays_analog(slope: float) -> None:
    net, x = leaky(slope=slope), inputs(24, torch.float64)
    snn = bitspike.ann2snn(net, Signed(255, decay=1.0), x, 2, "max")
    assert snn.report is not None and snn.report.analog == {"act": "LeakyReLU"}
    with torch.no_grad():
        assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01


def test_a_slope_of_zero_is_a_relu() -> None:
    x = inputs(8, torch.float64)
    snn = bitspike.ann2snn(leaky(slope=0.0), Signed(7, decay=1.0), x, 2)
    same = bitspike.ann2snn(relu_of(leaky(slope=0.0)), Signed(7, decay=1.0), x, 2)
    assert torch.equal(snn(x), same(x))


def relu_of(net: nn.Module) -> nn.Module:
    """The same weights with ReLU."""
    made = copy.deepcopy(net)
    made.act = nn.ReLU()
    return made


def test_gains_carry_both_amplitudes() -> None:
    """An identity shortcut behind a LeakyReLU: its gain scales positive and negative spikes alike."""
    x = inputs(12, torch.float64)
    snn = bitspike.ann2snn(leaky(), Signed(50, decay=1.0), x, 2, "max", correction="none")
    assert sum(isinstance(node.module, Gain) for node in snn.graph) == 1
    with torch.no_grad():
        assert float((snn(x) - leaky()(x)).norm() / leaky()(x).norm()) < 0.02
