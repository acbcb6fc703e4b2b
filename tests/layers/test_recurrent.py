"""Recurrent spiking layers: a trace by hand, gradients, pieces, fold, cost, and what they learn."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import int8, lean
from bitspike.ann2snn.rectifier import check_neuron as check_rectifier
from bitspike.cost import cost
from bitspike.fold.expand import expand_unary
from bitspike.fold.folding import fold
from bitspike.layers import BatchNorm, Conv2d, Gain, Linear, Recurrent
from bitspike.models import assign
from bitspike.models.network import inert_parameters
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.observe import observe, potentials
from bitspike.ops import using
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.stream import stream
from bitspike.testing import finite_differences
from bitspike.testing import neuron as suite
from bitspike.testing.compiled import expect_compiles
from bitspike.testing.trial import Trial

C = 5
NEURONS: list[Neuron] = [
    LIF(reset="soft"),
    LIF(train_threshold="channel", learn_decay="channel", amplitude=1.5, train_amplitude="channel"),
    Ternary(amplitude=2.0),
    MultiBit(1, 1, amplitude=1.5, train_amplitude="layer"),
    Integer(3),
    Signed(2, slope=0.25),
    Signed(2, cancels_only=True),
    Real(),
]
WEIGHTS: list[Quantizer | None] = [None, Uniform(4), Sign("output"), TernaryWeight("input"), Uniform(3, "output")]


def layer(neuron: Neuron, weight: Quantizer | None = None, bias: bool = False, seed: int = 0) -> Recurrent:
    torch.manual_seed(seed)
    synapse = Linear(C, C, bias=bias, weight=weight)
    if synapse.bias is not None:
        nn.init.normal_(synapse.bias, 0.0, 0.2)
    return Recurrent(neuron, synapse).replicate(C)


def name(value: Any) -> str:
    return type(value).__name__


def test_a_trace_by_hand() -> None:
    """Two neurons that excite each other crosswise with ½ and 2; θ = 1, decay ½, soft reset.

    u₁ = (1, 0) → s (1, 0), v (0, 0). u₂ = (0, 0 + 2) → s (0, 1), v (0, 1). u₃ = (½ + ¼, ½) → silent.
    """
    layer = Recurrent(LIF(1.0, 0.5, reset="soft"), Linear(2, 2, bias=False))
    layer.synapse.weight.data = torch.tensor([[0.0, 0.5], [2.0, 0.0]])
    x = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.25, 0.0]], [[0.0, 0.0]]])
    s, state = layer.run(x)
    assert s[:, 0].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert state.v.tolist() == [[0.375, 0.25]]
    assert potentials(layer, x)[:, 0].tolist() == [[1.0, 0.0], [0.0, 2.0], [0.75, 0.5], [0.375, 0.25]]


@pytest.mark.parametrize("neuron", NEURONS, ids=name)
def test_without_weights_it_is_the_plain_neuron(neuron: Neuron) -> None:
    made = layer(neuron)
    made.synapse.weight.data.zero_()
    x = 2 * torch.randn(6, 4, C)
    s, state = made.run(x)
    wanted, after = made.neuron.run(x)
    assert torch.equal(s, wanted)
    for one, other in zip(state, (*after, wanted[-1]), strict=True):
        assert torch.equal(one, other)
    made.synapse.weight.data.fill_(1.0)
    assert not torch.equal(made(x), wanted), "weights must matter"


EXACT: list[Neuron] = [  # whose values are dyadic, so that the sums of dyadic weights are exact
    LIF(reset="soft"),
    LIF(train_threshold="channel", learn_decay="channel"),
    Ternary(amplitude=2.0),
    MultiBit(1, 1, amplitude=0.5, reset="hard"),
    Integer(3),
    Signed(2, slope=0.25),
    Signed(2, cancels_only=True),
]


@pytest.mark.parametrize("neuron", EXACT, ids=name)
def test_it_keeps_the_contract_of_a_neuron(neuron: Neuron) -> None:
    """All checks of the suite but those that give [T, B, C, H, W] to a linear map; gradients among them.

    Weights are eighths: no bit depends on the order of sums, which BLAS chooses by the size of the batch.
    """
    made = layer(neuron, bias=False)
    made.synapse.weight.data = (4 * made.synapse.weight.data).round() / 8
    trial = Trial(made, C, torch.device("cpu"), made.constants)
    for check in suite.CHECKS:
        if check not in (suite.shapes_are_kept, suite.places_are_independent):
            check(trial)


def test_it_compiles_and_exports() -> None:
    trial = Trial(layer(LIF()), C, torch.device("cpu"), ())
    expect_compiles(trial.neuron, trial.uniform(2, 4, C), trial.uniform(2, 3, C, seed=1), "Recurrent")


@pytest.mark.parametrize(
    "neuron", [LIF(surrogate="atan"), Ternary(train_amplitude="layer"), MultiBit(learn_decay=True)]
)
def test_gradients_are_those_of_the_relaxed_network(neuron: Neuron) -> None:
    torch.manual_seed(0)
    made = layer(neuron, bias=True)
    model = nn.Sequential(Linear(3, C), BatchNorm(C), made, Linear(C, 2)).double()
    x = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    named = {"x": x, **dict(model.named_parameters())}

    def loss() -> Tensor:
        return model(x).square().mean()

    assert 0.02 <= float((model[:3](x) != 0).double().mean()) <= 0.98
    found = torch.autograd.grad(loss(), list(named.values()))
    for key, one, other in zip(named, found, finite_differences(loss, named.values(), model), strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-6), key
    assert dict(zip(named, found, strict=True))["2.synapse.weight"].abs().max() > 1e-4


@pytest.mark.parametrize("weight", WEIGHTS, ids=name)
def test_pieces_give_the_bits_of_the_whole(weight: Quantizer | None) -> None:
    made = layer(MultiBit(1, 1, amplitude=1.25), weight, bias=True)
    x = torch.randn(7, 3, C)
    whole, end = made.run(x)
    first, state = made.run(x[:3])
    rest, state = made.run(x[3:], state)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert all(torch.equal(one, other) for one, other in zip(state, end, strict=True))
    net = nn.Sequential(Linear(C, C), made, Linear(C, 2)).eval()
    all_at_once, _ = stream(net, x)
    states, parts = None, []
    for chunk in x.split(1):
        y, states = stream(net, chunk, states)
        parts.append(y)
    assert torch.equal(torch.cat(parts), all_at_once)


@pytest.mark.parametrize("weight", WEIGHTS, ids=name)
@pytest.mark.parametrize("neuron", NEURONS, ids=name)
def test_fold(neuron: Neuron, weight: Quantizer | None) -> None:
    """Norm in front, another layer behind; random statistics, zero and negative γ; in float64 no spike flips."""
    torch.manual_seed(3)
    made = layer(neuron, weight, bias=True, seed=1)
    raw = made.emission.raw_amplitude
    if raw is not None and raw.dim():
        raw.data += torch.linspace(-0.3, 0.4, C)
    norm = BatchNorm(C)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2.0)
    norm.weight.data = torch.tensor([1.0, -0.7, 0.0, 1.3, 0.9])
    norm.bias.data.normal_(0.6, 0.5)
    net = nn.Sequential(Linear(4, C), norm, made, Linear(C, 3, weight=weight)).double().eval()
    x = 2 * torch.randn(6, 16, 4, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())
    folded = fold(net, x)
    report = folded.report
    assert 0.02 < report.layers["_2"].rate < 0.98
    assert report.forced_flips == report.end_to_end_flips == 0
    assert report.max_logit_difference < 1e-9
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    own = folded.graph["_2"].module
    assert isinstance(own, Recurrent)
    if not made.format.real:
        assert float(own.emission.scale()) == 1.0
    if not made.synapse.quantizer.format.real:
        assert torch.equal(own.synapse.weight, own.synapse.weight.round()), "integers stay integers"
    elif made.format.real is False:
        scale = made.emission.scale()
        assert torch.allclose(own.synapse.weight, made.synapse.weight * made.synapse.columns(scale))


def test_fold_puts_a_gain_before_integer_weights_only_where_channels_differ() -> None:
    per_channel = layer(LIF(amplitude=1.5, train_amplitude="channel"), Uniform(4))
    assert not isinstance(per_channel.normalised().before, Gain), "equal amplitudes are one number"
    assert per_channel.emission.raw_amplitude is not None
    per_channel.emission.raw_amplitude.data += torch.linspace(0, 1, C)
    assert isinstance(per_channel.normalised().before, Gain)


def test_sub_steps_are_refused_where_integer_spikes_are_fed_back() -> None:
    net = nn.Sequential(Linear(4, C), layer(Integer(3)), Linear(C, 2)).eval()
    folded = fold(net, torch.randn(4, 3, 4))
    with pytest.raises(ValueError, match="no integer spikes may be fed back"):
        expand_unary(folded)


def test_lean_and_autocast() -> None:
    """The same gradients with less memory; membranes and spikes in the dtypes of every neuron under autocast."""
    net = nn.Sequential(Linear(4, C), layer(MultiBit(1, 1), Uniform(4)), Linear(C, 2))
    x = 2 * torch.randn(6, 8, 4)
    found = []
    for context in (contextlib.nullcontext(), lean()):
        net.zero_grad()
        with context:
            loss = net(x).square().sum()
        loss.backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        current = net[0](x)
        s, state = net[1].run(current)
    assert current.dtype == s.dtype == torch.bfloat16
    assert state.v.dtype == torch.float32
    assert 0.02 < float((s != 0).float().mean()) < 0.98


def test_convolutions() -> None:
    torch.manual_seed(0)
    made = Recurrent(Ternary(amplitude=0.75), Conv2d(3, 3, 3, padding=1, weight=Uniform(4)))
    net = nn.Sequential(Conv2d(2, 3, 3, padding=1), made, Conv2d(3, 2, 3)).double().eval()
    x = torch.randn(4, 2, 2, 6, 6, dtype=torch.float64)
    report = fold(net, x).report
    assert report.layers["_1"].rate > 0.02
    assert report.end_to_end_flips == 0
    first, states = stream(net, x[:1])
    rest, _ = stream(net, x[1:], states)
    assert torch.equal(torch.cat([first, rest]), stream(net, x)[0])


def test_cost_counts_the_recurrent_synapse_by_hand() -> None:
    """Two neurons, T = 3, one sample: the first fires at steps 1 and 2, the second never: two spikes are fed back."""
    made = Recurrent(LIF(1.0, 0.5), Linear(2, 2, bias=False))
    made.synapse.weight.data.zero_()
    x = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    found = cost(nn.Sequential(made).eval(), x)
    assert found.uncounted == []
    [row] = found.layers
    assert row.name == "_0.synapse"
    # 2 spikes times 2 outputs, and the sum with x of 2 neurons at 2 steps
    assert row.adds == 2 * 2 + 2 * 2
    assert row.multiplications == row.shift_adds == 0
    assert (row.weights, row.macs, row.size_bits) == (4, 4, 4 * 32)
    assert row.spike_bytes == 3 * 2 / 8
    [element], [plain] = found.elements, cost(nn.Sequential(LIF(1.0, 0.5)).eval(), x).elements
    assert element.membrane_bytes == plain.membrane_bytes
    assert element.updates == plain.updates == 6
    multi = cost(nn.Sequential(layer(MultiBit(1, 1), Uniform(4))).eval(), 2 * torch.rand(4, 3, C))
    assert multi.layers[-1].shift_adds > 0


def test_observe_counts_its_spikes_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    net = nn.Sequential(layer(LIF()), Linear(C, 2))
    x = torch.randn(5, 4, C)
    seen = observe(net, [x])
    assert list(seen) == ["_0"]
    assert seen["_0"].fired == int(net[0](x).sum())
    assert not recwarn.list


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Recurrent(nn.ReLU(), Linear(2, 2)), TypeError, "plain Neuron"),
        (lambda: Recurrent(LIF(), nn.Linear(2, 2)), TypeError, "must be a Synapse"),
        (lambda: Recurrent(LIF(), Linear(2, 3)), ValueError, "as many outputs"),
        (lambda: Recurrent(LIF(), Conv2d(2, 2, 3)), ValueError, "keep the size"),
        (lambda: Recurrent(LIF(), Conv2d(2, 2, 3, stride=2, padding=1)), ValueError, "keep the size"),
        (lambda: Recurrent(LIF(), Conv2d(2, 2, 2)), ValueError, "keep the size"),
        (lambda: Recurrent(Adaptive(), Linear(2, 2)), ValueError, "bits and step sizes"),
        (lambda: Recurrent(MultiBit(learn_bits="integer"), Linear(2, 2)), ValueError, "bits and step sizes"),
        (lambda: Recurrent(Recurrent(LIF(), Linear(2, 2)), Linear(2, 2)), TypeError, "plain Neuron"),
        (lambda: Recurrent(LIF(), Linear(2, 2)).replicate(3), ValueError, "2 channels"),
        (lambda: check_rectifier(Recurrent(MultiBit(decay=1.0), Linear(2, 2))), ValueError, "feed its spikes back"),
    ],
)
def test_what_it_refuses(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def test_kernels_refuse_it_and_the_reference_runs() -> None:
    x = torch.ones(2, 1, C)
    layer(LIF())(x)
    with using("native"), pytest.raises(ValueError, match="recurrent layers have no kernel"):
        layer(LIF())(x)


def test_assign_replaces_its_neuron_and_keeps_its_weights() -> None:
    net = nn.Sequential(Linear(C, C), layer(LIF()), Linear(C, C), LIF())
    weight = net[1].synapse.weight
    assert assign(net, "*", neuron=Ternary(train_amplitude="channel")) == ["1", "3"]
    assert isinstance(net[1].neuron, Ternary)
    assert net[1].synapse.weight is weight
    assert net[1].emission.raw_amplitude.shape == (C,)


def test_an_amplitude_that_is_fed_back_is_not_inert() -> None:
    """Behind linear → norm alone it would be."""
    neuron = LIF(amplitude=1.5, train_amplitude="layer")
    for made, inert in ((neuron, ["0.emission.raw_amplitude"]), (layer(neuron), [])):
        assert list(inert_parameters(nn.Sequential(made, Linear(C, C, bias=False), BatchNorm(C)))) == inert


def test_int8_forwards_give_the_same_bits() -> None:
    net = nn.Sequential(layer(LIF(), Uniform(4)))
    x = torch.randn(5, 3, C)
    with torch.no_grad():
        wanted = net(x)
        with int8():
            assert torch.equal(net(x), wanted)


def remembered(recurrent: bool) -> float:
    """Share of test sequences whose first step a net of 16 neurons tells at the last, 8 silent steps later.

    The neurons forget all (decay 0), so that only spikes that are fed back carry anything.
    """
    torch.manual_seed(0)
    hidden: nn.Module = LIF(0.5, decay=0.0, surrogate="atan")
    if recurrent:
        hidden = Recurrent(LIF(0.5, decay=0.0, surrogate="atan"), Linear(16, 16))
    net = nn.Sequential(Linear(2, 16), hidden, Linear(16, 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    generator = torch.Generator().manual_seed(1)

    def batch(size: int) -> tuple[Tensor, Tensor]:
        label = torch.randint(2, (size,), generator=generator)
        x = torch.zeros(9, size, 2)
        x[0, torch.arange(size), label] = 1.0
        return x, label

    for _ in range(60):
        x, label = batch(64)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x)[-1], label).backward()
        optimiser.step()
    with torch.no_grad():
        x, label = batch(500)
        return float((net(x)[-1].argmax(1) == label).double().mean())


def test_it_learns_to_remember_what_a_feed_forward_net_cannot() -> None:
    assert remembered(recurrent=True) > 0.95
    assert remembered(recurrent=False) < 0.6
