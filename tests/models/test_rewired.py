"""Other signals and places of re-stimulation: currents by hand, gradients, fold, stream, cost, lean, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from bitspike import fold, lean, stream, trace
from bitspike.cost import cost
from bitspike.fold import expand_unary
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Gain,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    MeanReadout,
    Potential,
    Refined,
    Repeat,
    Restimulate,
)
from bitspike.models import assign, mlp, resnet20, restimulate, study_cnn, vgg11
from bitspike.models.network import Network
from bitspike.models.rewired import PLACES, SIGNALS
from bitspike.neurons import LIF, Integer, MultiBit
from bitspike.quantizers import Uniform
from bitspike.training.build import build_network
from bitspike.training.recipe import ComponentConfig, ModelConfig, Recipe
from networks import SHAPE, liven, make_neuron, rng, samples, small_cnn, values_of

NEURONS = ["body.3.neuron1", "body.3.neuron2", "body.4.neuron1", "body.4.neuron2"]
OTHERS = [(signal, into) for signal in SIGNALS for into in PLACES if (signal, into) != ("spikes", "current")]
MATCH = {"current": "*", "potential": "*", "input": "*"}
NODES = [name.replace(".", "_") for name in NEURONS]


def net_with(signal: str, into: str, neuron: Any = None, weight: Any = None, **options: Any) -> Network:
    given = {"stimulated": MATCH[into], "attention_signal": signal, "attention_into": into, "T": 3, **options}
    return small_cnn(MultiBit(1, 1) if neuron is None else neuron, weight, **given)


def sigmoid_of(weight: Tensor, x: Tensor) -> Tensor:
    z, k = x.mean((3, 4), keepdim=True), len(weight)
    padded = nn.functional.pad(z, (0, 0, 0, 0, k // 2, k // 2))
    return torch.sigmoid(sum(weight[j] * padded[:, :, j : j + x.shape[2]] for j in range(k)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@torch.no_grad()
def test_what_neurons_and_weights_receive_by_hand(signal: str, into: str) -> None:
    net = liven(net_with(signal, into), samples(4))
    values, given = values_of(net, samples(4))

    def stimulus(index: int, before: str) -> Tensor:
        """P(a ⊙ x) for the index-th neuron of NEURONS."""
        name = NEURONS[index]
        current = given[before][0]
        x = {"spikes": values[before], "current": current}.get(signal)
        if x is None:  # soft reset: u = decay·(u − s) + I, by hand
            u = [current[0]]
            for i, s in zip(current[1:], values[before][:-1], strict=True):
                u.append(0.5 * (u[-1] - s) + i)
            x = torch.stack(u)
        layers = net.get_submodule(f"{name}_restimulate")
        weight = layers.get_submodule("0").weight
        y = sigmoid_of(weight, x) * x  # type: ignore[arg-type]
        for child in list(layers.children())[1:]:
            y = y * 0.5 if isinstance(child, Gain) else child(y)
        return y

    before = ["body_2", NODES[0], NODES[1], NODES[2]]
    for index, name in enumerate(NODES):
        added = stimulus(index, before[index])
        conv = name.replace("neuron", "conv")
        norm = net.get_submodule(NEURONS[index].replace("neuron", "norm"))
        sent = values[before[index]]
        shortcut = 0.0
        if index == 1:
            shortcut = values["body_2"]
        elif index == 3:
            shortcut = values["body_4_shortcut_2"]
        if into == "input":
            torch.testing.assert_close(given[conv][0], sent + added, rtol=0, atol=1e-12)
            wanted = norm(values[conv]) + shortcut
        else:
            assert torch.equal(given[conv][0], sent)
            wanted = norm(values[conv]) + shortcut + added
        torch.testing.assert_close(given[name][0], wanted, rtol=0, atol=1e-12)
        assert added.abs().max() > 0 and sent.any()


@torch.no_grad()
def test_drawn_into_the_body_or_within_the_blocks_is_the_same() -> None:
    """The two ways agree where both can: spikes into the current."""
    inside = small_cnn(MultiBit(1, 1), T=2, stimulated="*")
    drawn = small_cnn(MultiBit(1, 1), T=2, stimulated="*", attention_into="potential")
    assert isinstance(drawn.body, fx.GraphModule)
    renamed = {name.replace("neuron", "restimulate"): name for name in NEURONS}
    state = inside.state_dict()
    for inner, name in renamed.items():
        state = {key.replace(f"{inner}.", f"{name}_restimulate."): value for key, value in state.items()}
    kinds = [type(m) for m in drawn.get_submodule(f"{NEURONS[2]}_restimulate").children()]
    assert kinds == [Restimulate, AvgPool2d, Conv2d, BatchNorm, Gain]
    for name in NEURONS:  # with a factor of 1 in place of the decay it is an addition to the current
        layers = drawn.get_submodule(f"{name}_restimulate")
        gain = list(layers.children())[-1]
        assert isinstance(gain, Gain) and float(gain.factor) == 0.5
        gain.factor.fill_(1.0)
    gains = {key: value for key, value in drawn.state_dict().items() if key.endswith("factor")}
    drawn.load_state_dict(state | gains)
    torch.testing.assert_close(drawn.eval()(samples(4).float()), inside.eval()(samples(4).float()))


@pytest.mark.parametrize(("signal", "into"), OTHERS)
def test_layers_keep_names_and_first_weights(signal: str, into: str) -> None:
    plain, net = small_cnn(MultiBit(1, 1), T=3), net_with(signal, into)
    state = net.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert next(m.role for m in net.modules() if isinstance(m, Conv2d)) == "first"
    control = net_with(signal, into, attention="one").state_dict()
    assert all(torch.equal(state[name], value) for name, value in control.items())
    assert len(state) == len(control) + 4


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@pytest.mark.parametrize("attention", ["efficient", "one"])
def test_gradients_reach_both_paths(signal: str, into: str, attention: str) -> None:
    """Of what stimulates a neuron and of its own synapse; the connection alone carries the rest."""
    net = net_with(signal, into, weight=Uniform(4), attention=attention).double().train()
    labels = torch.randint(0, 5, (32,), generator=rng(4))
    nn.functional.cross_entropy(net(samples(32)), labels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    for name in ("body.3.conv1", "body.4.conv2"):
        net.get_submodule(name).weight.detach().zero_()  # type: ignore[operator,union-attr]
    net.zero_grad()
    nn.functional.cross_entropy(net(samples(32)), labels).backward()
    stem = net.get_submodule("body.0").weight.grad
    assert isinstance(stem, Tensor) and stem.abs().max() > 0


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@pytest.mark.parametrize(("spiking", "amplitude"), [("multibit", 0.731), ("lif", 2.0), ("ternary", 1.0)])
@pytest.mark.parametrize("over", ["step", "first"])
def test_folding_verifies(signal: str, into: str, spiking: str, amplitude: float, over: str) -> None:
    x = samples(6)
    train = "none" if signal == "potential" else "channel"
    neuron = make_neuron(spiking, amplitude=amplitude, train_amplitude=train)
    net = liven(net_with(signal, into, neuron, Uniform(4), attention_over=over), x)
    folded = fold(net, x)
    report = folded.report
    assert len(report.layers) == 5 and all(0.02 < layer.rate < 0.98 for layer in report.layers.values())
    assert report.forced_flips == 0 and report.max_logit_difference_forced < 1e-9
    assert len([m for m in folded.modules() if isinstance(m, Restimulate)]) == 4
    followed = [m for m in folded.modules() if isinstance(m, Potential)]
    assert len(followed) == (4 if signal == "potential" else 0) and all(m.level == 1 for m in followed)


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@pytest.mark.parametrize("over", ["step", "first"])
@torch.no_grad()
def test_streams_equal_the_whole_run(signal: str, into: str, over: str) -> None:
    net = liven(net_with(signal, into, T=5, readout="steps", attention_over=over), samples(4))
    x = samples(5 * 4).unflatten(0, (5, 4))
    whole = net.readout(net.body(x))  # type: ignore[operator]
    states, outputs = None, []
    for chunk in x.split((1, 3, 1)):
        y, states = stream(net, chunk, states)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@torch.no_grad()
def test_cost_by_hand(signal: str, into: str) -> None:
    """One connection into body.3.neuron1: 6 channels of 8×8, T = 3, kernel 1.

    The attention: 6 + 384 multiplications a step, whatever the signal. Into the input: 6·6·9·64 = 20,736 products of
    the convolution a step, additions before. Into the potential: a shift by the decay ½ of all 384 values.
    """
    net = net_with(signal, into, LIF(decay=0.5), stimulated="body.3.neuron1").eval()
    counted = cost(net, samples(2, dtype=torch.float32))
    row = next(row for row in counted.layers if row.kind == "attention")
    assert (row.multiplications, row.T) == (3 * (6 + 384), 3)
    conv = next(row for row in counted.synapses if row.name == "body_3_conv1")
    assert (conv.multiplications == 0) == (into != "input") and (conv.multiplications > 0) != (conv.adds > 0)
    gains = [row for row in counted.layers if row.kind == "gain"]
    if into == "potential":
        assert len(gains) == 1 and gains[0].multiplications == 0 and gains[0].shifts > 0
    assert counted.uncounted == ["body_3_neuron1_restimulate_0.sigmoid"]


@pytest.mark.parametrize(("signal", "into"), OTHERS)
def test_lean_memory_has_equal_gradients(signal: str, into: str) -> None:
    net = net_with(signal, into, T=2).double().train()
    found = []
    for kept in (False, True):
        net.zero_grad()
        if kept:
            with lean():
                net(samples(8)).square().sum().backward()
        else:
            net(samples(8)).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("signal", "into"), OTHERS)
@torch.no_grad()
def test_integer_spikes_still_expand(signal: str, into: str) -> None:
    """A layer whose input is stimulated reads real numbers and stays; the others expand."""
    x, match = samples(6), "body.3.*" if into == "input" else "*"
    folded = fold(liven(net_with(signal, into, Integer(4), Uniform(4), T=2, stimulated=match), x, grid=16), x)
    torch.testing.assert_close(expand_unary(folded).run(x), folded(x), rtol=0, atol=1e-9)


@torch.no_grad()
def test_any_network_of_layers() -> None:
    """No residual blocks: the connection is drawn into the body, spikes into the current included."""
    x = torch.randn(4, 3, generator=rng(0), dtype=torch.float64)
    net = mlp(MultiBit(1, 1), shape=(3,), hidden=(7, 5, 5), classes=2, T=2).double()
    names = restimulate(net, "*", signal="potential")
    assert len(names) == 2
    kinds = [[type(m) for m in net.get_submodule(f"{name}_restimulate").children()] for name in names]
    assert kinds[0][:2] == [Restimulate, Linear] and kinds[1] == [Restimulate]
    assert net.eval()(x).shape == (4, 2)
    deep = vgg11(LIF(), shape=(3, 32, 32), classes=4, T=1)
    names = restimulate(deep, "*")
    assert len(names) > 3 and deep.eval()(torch.randn(2, 3, 32, 32, generator=rng(1))).shape == (2, 4)
    other = resnet20(LIF(), T=1, shape=(3, 16, 16), classes=4)
    inside = resnet20(LIF(), T=1, shape=(3, 16, 16), classes=4)
    assert restimulate(other, "body.layer*", signal="current") == restimulate(inside, "*")
    assert restimulate(other, "body.stem?.neuron", into="potential") == ["body.stem2.neuron", "body.stem3.neuron"]
    assert other.eval()(torch.randn(2, 3, 16, 16, generator=rng(0))).shape == (2, 4)


ROUND_DOWN = [(AvgPool2d(2), [(2, False), (2, True)]), (MaxPool2d(3, 2), [(3, False), (2, True)])]
ROUND_UP = [
    (AvgPool2d(2, ceil=True), [(4, True)]),
    (AvgPool2d(3, 1, padding=1), [(2, True)]),
    (AvgPool2d(3, 2, padding=1), [(4, True)]),
    (AvgPool2d(3, 2, padding=1, ceil=True), [(3, True), (2, True)]),
]


@pytest.mark.parametrize(("pool", "wanted"), ROUND_DOWN + ROUND_UP)
@pytest.mark.parametrize("side", [9, 10, 11, 12, 13])
@torch.no_grad()
def test_images_of_any_side(pool: nn.Module, wanted: list[tuple[int, bool]], side: int) -> None:
    """The signal follows a pool and a convolution with stride 2 to images of the same sides."""
    layers = (Conv2d(1, 3, 3, padding=1), LIF(), pool, Conv2d(3, 4, 3, stride=2, padding=1), BatchNorm(4), LIF())
    net = Network(Repeat(2), nn.Sequential(*layers, GlobalAvgPool(), Linear(4, 2)), MeanReadout())
    assert restimulate(net, "*") == ["body.5"]
    connection = net.get_submodule("body.5_restimulate")
    pools = [module for module in connection.modules() if isinstance(module, AvgPool2d)]
    assert len(list(connection.children())) == 4  # attention, pools in one place, convolution, norm
    assert [(module.kernel, module.ceil) for module in pools] == wanted
    assert net.eval()(torch.randn(2, 1, side, side, generator=rng(0))).shape == (2, 2)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"signal must be one of 'spikes', 'current', 'potential'"):
        net_with("voltage", "current")
    with pytest.raises(ValueError, match=r"into must be one of 'current', 'potential', 'input'"):
        restimulate(small_cnn(LIF()), "*", into="synapse")
    for neuron, why in ((LIF(learn_decay=True), "learned decay"), (make_neuron("real"), "Real with real spikes")):
        with pytest.raises(ValueError, match=f"body.3.neuron1 must be within reach of the signal, got .*{why}"):
            net_with("potential", "current", neuron)
    with pytest.raises(ValueError, match="a membrane whose decay is learned or 0"):
        net_with("spikes", "potential", LIF(learn_decay=True))
    with pytest.raises(ValueError, match="time steps of its own"):
        net_with("current", "current", Refined(LIF(), T=2))
    with pytest.raises(ValueError, match=r"the pattern must match one of .*, got 'body.9.\*'"):
        net_with("current", "current", stimulated="body.9.*")
    for first in ({}, {"signal": "current"}, {"into": "input"}):
        net = small_cnn(LIF(), T=2)
        restimulate(net, "*", **first)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"a neuron takes one connection|it has a connection already"):
            restimulate(net, "body.4.neuron2", signal="current")
    with pytest.raises(ValueError, match=r"the pattern must match one of \[\]"):
        study_cnn(nn.ReLU(), T=1, shape=SHAPE, width=4, stem_stride=1, stimulated="*", attention_signal="current")
    with pytest.raises(TypeError, match="with another signal or place the model must be a Network"):
        restimulate(nn.Sequential(LIF()), "*", signal="current")
    net = net_with("potential", "current")
    with pytest.raises(ValueError, match="assign: a network in which potentials stimulate"):
        assign(net, "body.3.neuron1", LIF())
    assert assign(net, "body.3.conv1", weight=Uniform(2)) == ["body.3.conv1"]


def test_a_recipe_builds_and_traces_it() -> None:
    options = {"width": 4, "stimulated": "*", "attention_signal": "potential", "attention_over": "first"}
    model = ModelConfig(T=2, options=options)
    recipe = Recipe(name="a", neuron=ComponentConfig("multibit"), weight=ComponentConfig("float"), model=model)
    net = build_network(recipe, (1, 28, 28), 10)
    graph = trace(net)
    assert [n.path for n in graph if isinstance(n.module, Potential)] == [f"{name}_potential" for name in NEURONS]
    assert [n.T for n in graph if isinstance(n.module, Restimulate)] == [2] * 4


def test_a_convolution_that_changes_the_size_of_its_images_is_refused() -> None:
    """The sum failed in the first forward; where images of 3 × 3 became one pixel it was spread over all nine."""

    def net(kernel: int, padding: int) -> Network:
        layers = (
            Conv2d(2, 4, 3, padding=1),
            LIF(),
            Conv2d(4, 4, kernel, padding=padding),
            LIF(),
            Flatten(),
            Linear(36, 3),
        )
        return Network(Repeat(2), nn.Sequential(*layers), MeanReadout())

    for kernel, padding in ((3, 0), (5, 1), (1, 1)):
        with pytest.raises(
            ValueError, match=r"body.3 must be within reach of the signal, got a convolution that changes"
        ):
            restimulate(net(kernel, padding))
    assert restimulate(net(3, 0), into="input") == ["body.3"]
    for kernel, padding in ((3, 1), (1, 0)):
        same = net(kernel, padding)
        assert restimulate(same) == ["body.3"] and same(torch.randn(2, 2, 3, 3, generator=rng(0))).shape == (2, 3)
