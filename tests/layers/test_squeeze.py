"""Layers with different numbers of time steps: means, sums, gradients of T, residual branches, every neuron."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, stream, trace
from bitspike.cost import cost
from bitspike.fold.expand import UnarySynapse, expand_unary
from bitspike.layers import BatchNorm, Join, Linear, Refined, Squeeze
from bitspike.models import assign, mlp, resnet20
from bitspike.neurons import LIF, NEURONS, Adaptive, MultiBit, Neuron, Ternary
from bitspike.quantizers import LearnedBits, Uniform
from bitspike.testing import finite_differences
from networks import SPIKING, dyadic, liven, make_neuron, samples, small_cnn, spikes_of


def test_a_mean_is_held() -> None:
    x = torch.tensor([1.0, 2.0, 6.0]).reshape(3, 1, 1)
    assert Squeeze(2)(x).flatten().tolist() == [3.0, 3.0]
    assert Squeeze(3)(x).flatten().tolist() == [3.0] * 3
    assert Squeeze(3, always=False)(x) is x
    assert Squeeze(2, always=False)(x).flatten().tolist() == [3.0, 3.0]
    assert Squeeze(4)(x[:1]).flatten().tolist() == [1.0] * 4


def test_branches_that_differ_are_squeezed() -> None:
    a, b = torch.tensor([1.0, 3.0]).reshape(2, 1, 1), torch.tensor([3.0, 4.0, 8.0]).reshape(3, 1, 1)
    assert Join()(a, a).flatten().tolist() == [2.0, 6.0]
    assert Join()(a, b).flatten().tolist() == [7.0]
    assert Join()(a, b, a[:1]).flatten().tolist() == [8.0]


def test_the_gradient_of_steps_sees_the_divisor_alone() -> None:
    """dL/dT̂ = −(1/T²)·Σ g·Σ_t x_t."""
    squeeze = Squeeze(1, learned=2.4).double()
    x, g = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(1, 4, 5, dtype=torch.float64)
    y = squeeze(x)
    assert torch.equal(y[0], x.sum(0) / 3)
    y.backward(g)
    wanted = -(g[0] * x.sum(0)).sum() / 9
    assert squeeze.raw_steps is not None and torch.allclose(squeeze.raw_steps.grad, wanted, rtol=1e-12)  # type: ignore[arg-type]


def test_steps_are_clipped_and_rounded_at_refresh() -> None:
    refined = Refined(LIF(), T=2, learn_T=True)
    assert refined.bound == 3 and refined.raw_steps is not None
    for raw, steps in ((2.5, 3), (1.4, 1), (-7.0, 1), (99.0, 3)):
        before = refined.time_steps
        refined.raw_steps.data.fill_(raw)
        assert refined.time_steps == before
        refined.refresh()
        assert refined.time_steps == steps == refined.soft_steps().item()
        assert torch.autograd.grad(refined.soft_steps(), refined.raw_steps)[0].item() == 1
    twin = Refined(LIF(), T=2, learn_T=True)
    refined.set_steps(3)
    twin.load_state_dict(refined.state_dict())
    assert twin.time_steps == 3 == copy.deepcopy(twin).time_steps


def test_a_refined_neuron_by_hand() -> None:
    """Held 0.75 for 2 steps: u = .75 → 1, v −.25; .5 → 0 (fires at .5·γ: 1), so both fire: mean 1 with γ = 1."""
    refined = Refined(Adaptive(2), T=2)
    assert refined(torch.full((1, 1, 1), 0.75)).tolist() == [[[1.0]]]
    # 0.3: u = .3 → 0, v .3; .6 → 1: mean ½. Two steps of current 0.1 and 0.5 are averaged to 0.3 first.
    assert refined(torch.tensor([[[0.1]], [[0.5]]])).tolist() == [[[0.5]]]


CHOSEN = {
    "lif": LIF(reset="soft"),
    "ternary": Ternary(train_amplitude="channel"),
    "multibit": MultiBit(1, 1, train_amplitude="layer"),
    "integer": NEURONS["integer"](D=3),
    "signed": NEURONS["signed"](D=2),
    "real": NEURONS["real"](gradient="surrogate"),
    "adaptive": Adaptive(2, threshold=0.5, scale_gradient=False),
}


NEURON_CASES = {
    name: CHOSEN.get(name) or kind() for name, kind in NEURONS.items() if kind.__module__.startswith("bitspike.")
}


@pytest.mark.parametrize(("first", "second"), [*itertools.product(NEURON_CASES, ("adaptive", "ternary"))])
def test_gradients_equal_differences_with_different_steps_and_learned_bits(first: str, second: str) -> None:
    """Input, weights, norms, neurons, learned weight bits and learned T, all through layers of 3, 2 and 1 steps."""
    weight = LearnedBits(3, scale_gradient=False)  # at 2 bits a row may be all zeros, and norm amplifies rounding
    layers: list[nn.Module] = []
    widths, steps = (4, 5, 6), (3, 2)
    for name, inputs, outputs, T in zip((first, second), widths, widths[1:], steps, strict=False):
        norm = BatchNorm(outputs)
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, 0.4, 0.3)
        layers += [Linear(inputs, outputs, bias=False, weight=weight), norm]
        layers.append(Refined(NEURON_CASES[name], T=T, learn_T=True).replicate(outputs))
    model = nn.Sequential(*layers, Linear(6, 2, weight=weight)).double()
    for module in model.modules():
        if isinstance(module, LearnedBits) and module.step is not None:
            module.step.data *= 0.6  # so that some weights clip
    x = torch.randn(1, 16, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 16, 2, dtype=torch.float64)
    named = {"x": x, **dict(model.named_parameters())}

    def loss() -> Tensor:
        return (model(x) - target).square().mean()

    found = torch.autograd.grad(loss(), list(named.values()))
    wanted = finite_differences(loss, named.values(), model)
    for (name, one), other in zip(zip(named, found, strict=True), wanted, strict=True):
        gap = ((one - other).abs() / (1 + other.abs())).max()
        assert gap <= 1e-6, f"{name}: autograd {one.tolist()}, differences {other.tolist()}"
    by = dict(zip(named, found, strict=True))
    assert by["2.after.raw_steps"].abs() > 0 and by["5.after.raw_steps"].abs() > 0
    assert by["0.quantizer.raw_bits"].abs() > 0
    assert trace(model)["_2_neuron"].T == 3 and trace(model)["_5_neuron"].T == 2


def refined_cnn(spiking: str, x: Tensor, grid: int | None = None, **options: Any) -> nn.Module:
    """`study_cnn` with T = 2, 4, 1, … by layer."""
    given = {"amplitude": 2.0, "train_amplitude": "channel", "decay": 0.5, **options}
    net = liven(small_cnn(Refined(make_neuron(spiking, **given), T=2), Uniform(3), T=1), x)
    for module, T in zip([m for m in net.modules() if isinstance(m, Refined)], itertools.cycle((2, 4, 1))):
        module.set_steps(T)
    return liven(net, x, grid=grid)


@pytest.mark.parametrize("spiking", SPIKING)
def test_folding_is_exact_where_steps_are_powers_of_two(spiking: str) -> None:
    x = dyadic(samples(8), 4)
    net = refined_cnn(spiking, x, 16)
    folded = fold(net, x)
    wanted, before = spikes_of(net, x)
    got, after = spikes_of(folded.graph, x)
    assert {len(levels) for levels in before.values()} == {1, 2, 4}
    if spiking != "real":
        assert torch.equal(wanted, got)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert folded.report.forced_flips == 0
    assert all(0.02 < layer.rate < 0.98 for layer in folded.report.layers.values())


@pytest.mark.parametrize("spiking", ["adaptive", "ternary", "multibit"])
def test_a_folded_squeeze_sums_integers(spiking: str) -> None:
    """T steps of levels up to M reach T·M; the synapse behind it adds once, not T times."""
    x = samples(6)
    net = refined_cnn(spiking, x, train_amplitude="layer")
    for module in net.modules():
        if isinstance(module, Refined):
            module.set_steps(3)
    folded = fold(liven(net, x), x)
    squeezes = [n for n in folded.graph if isinstance(n.module, Squeeze) and n.module.T == 1]
    assert len(squeezes) == 5
    for node in squeezes:
        neuron = folded.graph[node.inputs[0]]
        assert isinstance(node.module, Squeeze) and node.module.summed and isinstance(neuron.module, Neuron)
        assert node.format is not None and neuron.format is not None
        assert (node.format.low, node.format.high) == (3 * neuron.format.low, 3 * neuron.format.high)
    values: dict[str, Tensor] = {}

    def note(node: Any, call: Any, args: Any) -> Any:
        values[node.name] = call()
        return values[node.name]

    with torch.no_grad():
        folded.graph.run(x, handler=note)
    assert all(torch.equal(values[n.name], values[n.name].round()) for n in squeezes)
    rows = {row.name: row for row in cost(folded.graph, x).layers if row.kind == "synapse"}
    hidden = [row for row in rows.values() if row.role == "hidden"]
    assert len(hidden) == 4 and all(row.T == 1 and row.input_bits > 2 for row in hidden)
    assert all(row.shift_adds > 0 and row.multiplications == 0 for row in hidden)


@pytest.mark.parametrize("sharing", ["layer", "channel"])
@pytest.mark.parametrize("shifts", [True, False])
def test_step_sizes_by_time_step_fold_into_a_gain(shifts: bool, sharing: str) -> None:
    """Ratios that are powers of two are shifts and the squeeze sums integers; others are multiplications, counted."""
    x = samples(6)
    net = small_cnn(Refined(Adaptive(2, steps=3, sharing=sharing), T=3), Uniform(3), T=1)
    for module in net.modules():
        if isinstance(module, Adaptive):
            factors = torch.tensor([2.0, 0.5, 1.0] if shifts else [1.3, 0.9, 0.6])
            module.emission.raw_amplitude.data.mul_(factors.reshape(3, 1))  # type: ignore[union-attr]
    net.to(x.dtype)
    kept = {n: p.detach().clone() for n, p in net.named_parameters() if "raw_amplitude" in n}
    liven(net, x)
    for name, parameter in net.named_parameters():
        if name in kept:
            parameter.data.copy_(kept[name])
    folded = fold(net, x)
    assert all(layer.rate > 0.02 for layer in folded.report.layers.values())
    gains = [node for node in folded.graph if node.name.endswith("gain_by_step")]
    assert len(gains) == 5 and all(node.name in folded.report.gains for node in gains)
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-9
    counted = {row.name: row for row in cost(folded.graph, x).layers}
    for node in gains:
        assert (node.format is not None) == shifts and node.T == 3
        assert (counted[node.name].multiplications == 0) == shifts
        assert node.format is None or node.format.high == 3 * 4
    hidden = [row for row in counted.values() if row.role == "hidden"]
    assert all((row.multiplications == 0) == shifts for row in hidden if sharing == "layer")
    assert sum(row.shift_adds for row in hidden) > 0 or not shifts
    untouched = cost(net, x)
    assert {row.kind for row in untouched.layers} >= {"amplitude"}


def test_binary_sub_steps_of_a_sum() -> None:
    """T steps of integers up to D are T·D binary sub-steps behind the squeeze."""
    x = samples(4)
    folded = fold(refined_cnn("integer", x, train_amplitude="layer"), x)
    expanded = expand_unary(folded)
    assert torch.allclose(expanded.run(x), folded(x), atol=1e-9)
    steps = [node.module.steps for node in expanded if isinstance(node.module, UnarySynapse)]
    assert set(steps) == {4, 8, 16, 64}  # the last behind a pool of four


@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize("sew", [False, True])
def test_residual_networks_of_layers_with_different_steps(wiring: str, sew: bool) -> None:
    from bitspike.models import resnet34

    net = resnet34(
        Refined(Adaptive(2), T=2, learn_T=True), LearnedBits(3), T=1, width=2, shape=(3, 32, 32), wiring=wiring, sew=sew
    )
    refined = [m for m in net.modules() if isinstance(m, Refined)]
    for index, module in enumerate(refined):
        module.set_steps(1 + index % 3)
    x = torch.randn(2, 3, 32, 32)
    net(x).square().sum().backward()
    assert all(m.raw_steps is not None and m.raw_steps.grad is not None for m in refined)
    graph = trace(net)
    assert {node.T for node in graph.of_kind("neuron")} == {1, 2, 3}
    assert {node.T for node in graph.of_kind("add")} == {1}
    fold(net.eval().double(), x.double())


@pytest.mark.parametrize("wiring", ["spike", "input"])
def test_equal_steps_pass_unchanged_and_others_are_squeezed(wiring: str) -> None:
    """squeeze "differs": with equal T the network is the plain one bit for bit; one other T squeezes around it."""
    options: dict[str, Any] = {"width": 4, "shape": (3, 16, 16), "wiring": wiring, "T": 3}
    x = torch.randn(2, 3, 16, 16)
    plain = liven(resnet20(MultiBit(1, 1), Uniform(3), **options), x)
    other = resnet20(Refined(MultiBit(1, 1), T=3, squeeze="differs"), Uniform(3), **options).eval()
    names = [name for name in other.state_dict() if not name.endswith("steps")]
    other.load_state_dict(dict(zip(names, plain.state_dict().values(), strict=True)), strict=False)
    assert torch.equal(plain(x), other(x)) and plain(x).abs().max() > 0.1
    assert torch.equal(stream(other, x.expand(3, *x.shape))[0], plain(x))
    name = "body.layer2.0.neuron1"
    refined = other.get_submodule(name)
    assert isinstance(refined, Refined)
    refined.set_steps(2)
    assert not torch.equal(plain(x), other(x))
    graph = trace(other)
    joins = [node for node in graph if isinstance(node.module, Join)]
    assert len(joins) == 8 and graph["body_layer2_0_neuron1_neuron"].T == 2
    frames = x.expand(3, *x.shape)
    for sizes in ([3], [1, 2], [1, 1, 1]):
        states = None
        for part in frames.split(sizes):
            y, states = stream(other, part, states)
        assert torch.equal(y, other(x))
    fold(other.double(), x.double())


@pytest.mark.parametrize("T", [1, 3])
def test_a_stream_waits_for_what_a_mean_is_made_of(T: int) -> None:
    net = mlp(Refined(LIF(), T=2), T=T, hidden=(8, 8))
    x = torch.randn(2, 1, 28, 28)
    liven(net, x)
    y, states = torch.zeros(()), None
    for index in range(T):
        y, states = stream(net, x[None], states)
        assert torch.equal(y, net(x) if index == T - 1 else torch.zeros(2, 10))


def test_a_stream_names_a_squeeze_of_unknown_length() -> None:
    net = nn.Sequential(Linear(4, 3), Refined(LIF(), T=2)).eval()
    with pytest.raises(ValueError, match=r"_1_before \(it reads later time steps\)"):
        stream(net, torch.randn(1, 2, 4))


def test_assign_reaches_the_neuron_inside() -> None:
    net = mlp(Refined(LIF(), T=2), T=1, hidden=(8, 8))
    assert assign(net, "body.3.neuron", neuron=Adaptive(3, sharing="channel")) == ["body.3.neuron"]
    neuron = net.get_submodule("body.3.neuron")
    assert isinstance(neuron, Adaptive) and neuron.step_size().shape == (8,)


def test_assign_sets_time_steps(refuses: Any) -> None:
    net = mlp(Refined(LIF(), T=2, learn_T=True), T=1, hidden=(8, 8))
    assert assign(net, "body.3", T=5) == ["body.3"]
    refined = net.get_submodule("body.3")
    assert isinstance(refined, Refined) and (refined.time_steps, refined.wanted_steps(), refined.bound) == (5, 5, 5)
    with refuses("assign", "refined neuron"):
        assign(mlp(LIF(), hidden=(8,)), "body.3", T=2)


def test_bad_values(refuses: Any) -> None:
    with refuses("Refined", "squeeze", "'always', 'differs'"):
        Refined(LIF(), squeeze="never")
    with refuses("Refined", "learned through its divisor"):
        Refined(LIF(), learn_T=True, squeeze="differs")
    with refuses("Refined", "bound must lie in [3"):
        Refined(LIF(), T=3, bound=2)
    with refuses("Squeeze", "T must lie in [1"):
        Squeeze(0)
