"""Connections between the layers of a network: where they go, what they leave alone, folding, streams, cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import ann2snn, fold, lean, stream
from bitspike.cost import cost
from bitspike.fold import expand_unary
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Refined, Restimulate, Synapse
from bitspike.models import Policy, mlp, resnet20, restimulate, study_cnn
from bitspike.models.residual_block import ResidualBlock
from bitspike.neurons import LIF, Integer, MultiBit
from bitspike.quantizers import Uniform
from bitspike.training.build import build_network
from bitspike.training.recipe import ComponentConfig, ModelConfig, Recipe
from networks import SHAPE, liven, make_neuron, rng, samples, small_cnn, values_of

NEURONS = ["body.3.neuron1", "body.3.neuron2", "body.4.neuron1", "body.4.neuron2"]
PATHS = [name.replace("neuron", "restimulate") for name in NEURONS]


def attentions(net: nn.Module) -> dict[str, Restimulate]:
    return {name: module for name, module in net.named_modules() if isinstance(module, Restimulate)}


def test_connections_by_pattern() -> None:
    for match, count in (("*", 4), (["body.3.*"], 2), (["body.3.neuron2", "body.4.neuron2"], 2), (["*.neuron1"], 2)):
        assert len(attentions(small_cnn(LIF(), stimulated=match))) == count
    model = small_cnn(LIF())
    assert restimulate(model, "*.neuron2") == [NEURONS[1], NEURONS[3]]
    assert restimulate(model, "*.neuron1") == [NEURONS[0], NEURONS[2]]
    assert sorted(attentions(model)) == sorted(f"{path}.0" for path in PATHS)
    kinds = [type(module) for module in model.get_submodule("body.4.restimulate1").children()]
    assert kinds == [Restimulate, AvgPool2d, Conv2d, BatchNorm]
    assert [len(model.get_submodule(path)) for path in PATHS] == [1, 1, 4, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("attention", ["efficient", "one"])
def test_shared_weights_do_not_depend_on_connections(attention: str) -> None:
    """The three arms of an ablation begin alike; the control differs from the connection by the attention alone."""
    plain = small_cnn(MultiBit(1, 1)).state_dict()
    full = small_cnn(MultiBit(1, 1), stimulated="*").state_dict()
    found = small_cnn(MultiBit(1, 1), stimulated="*", attention=attention).state_dict()
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert all(torch.equal(full[name], value) for name, value in found.items())
    gone = set(full) - set(found)
    assert gone == (set() if attention == "efficient" else {f"{path}.0.weight" for path in PATHS})


@pytest.mark.parametrize("over", ["step", "whole"])
@pytest.mark.parametrize("attention", ["efficient", "one"])
@torch.no_grad()
def test_currents_by_hand(attention: str, over: str) -> None:
    """neuron1 gets norm(conv(x)) + P(a·x); neuron2 gets norm(conv(s)) + a·s + shortcut(x)."""
    options: dict[str, Any] = {"attention": attention, "attention_over": over}
    net = liven(small_cnn(MultiBit(1, 1), T=3, stimulated="*", **options), samples(4))
    outputs, inputs = values_of(net, samples(4))

    def attended(path: str, s: Tensor) -> Tensor:
        weight = attentions(net)[f"{path}.0"].weight
        if weight is None:
            return s
        z = s.mean((0, 3, 4), keepdim=True) if over == "whole" else s.mean((3, 4), keepdim=True)
        k = len(weight)
        padded = nn.functional.pad(z, (0, 0, 0, 0, k // 2, k // 2))
        mixed = sum(weight[j] * padded[:, :, j : j + s.shape[2]] for j in range(k))
        return s / (1 + torch.exp(-mixed))  # type: ignore[operator]

    for index, before in ((3, "body_2"), (4, "body_3_neuron2")):
        block, x = net.get_submodule(f"body.{index}"), outputs[before]
        assert isinstance(block, ResidualBlock) and block.restimulate1 is not None
        x_in = attended(f"body.{index}.restimulate1", x)
        for part in list(block.restimulate1.children())[1:]:
            x_in = part(x_in)
        first = block.norm1(block.conv1(x)) + x_in
        torch.testing.assert_close(inputs[f"body_{index}_neuron1"][0], first, rtol=0, atol=1e-12)
        s = outputs[f"body_{index}_neuron1"]
        second = block.norm2(block.conv2(s)) + attended(f"body.{index}.restimulate2", s) + block.shortcut(x)
        torch.testing.assert_close(inputs[f"body_{index}_neuron2"][0], second, rtol=0, atol=1e-12)
        assert s.any() and x.any()


def test_every_parameter_learns() -> None:
    net = small_cnn(MultiBit(1, 1), Uniform(4), T=2, stimulated="*").double().train()
    labels = torch.randint(0, 5, (32,), generator=rng(4))
    nn.functional.cross_entropy(net(samples(32)), labels).backward()
    parameters = {name: p for name, p in net.named_parameters() if "restimulate" in name}
    assert len(parameters) == 4 + 4  # kernels; weight, step size, γ and β of the projection
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in parameters.values())


def test_projections_are_hidden_layers_of_the_policy() -> None:
    net = study_cnn(LIF(), Uniform(3), shape=SHAPE, width=4, stem_stride=1, stimulated="*", policy=Policy())
    projection = net.get_submodule("body.4.restimulate1.2")
    assert isinstance(projection, Synapse) and (projection.role, projection.quantizer.bits) == ("hidden", 3)


@pytest.mark.parametrize("over", ["step", "whole"])
@pytest.mark.parametrize("attention", ["efficient", "one"])
@pytest.mark.parametrize(
    ("spiking", "amplitude"), [("multibit", 0.731), ("multibit", 1.0), ("ternary", 1.37), ("real", 1.37), ("lif", 2.0)]
)
def test_folding_leaves_the_attention_and_verifies(spiking: str, amplitude: float, attention: str, over: str) -> None:
    x = samples(6)
    neuron = make_neuron(spiking, amplitude=amplitude, train_amplitude="channel")
    options: dict[str, Any] = {"attention": attention, "attention_over": over}
    net = liven(small_cnn(neuron, Uniform(4), T=3, stimulated="*", **options), x)
    before = {name: module.weight for name, module in attentions(net).items()}
    folded = fold(net, x)
    report = folded.report
    rates = [layer.rate for layer in report.layers.values()]
    assert len(rates) == 5 and all(0.02 < rate < 0.98 for rate in rates), rates
    assert report.forced_flips == 0 and report.max_logit_difference_forced < 1e-9
    after = attentions(folded)
    assert len(after) == 4
    for name, weight in before.items():
        kept = after["net." + name.replace(".", "_")].weight
        assert kept is None if weight is None else kept is not None and torch.equal(kept, weight)
    into = [name for name in report.gains if "_restimulate" in name and "_0_gain_" in name]
    assert len(into) == (0 if attention == "one" else 4)  # factors per channel: named in front of the attention


@torch.no_grad()
def test_streams_equal_the_whole_run() -> None:
    net = liven(small_cnn(make_neuron("multibit"), T=5, readout="steps", stimulated="*"), samples(4))
    x = samples(5 * 4).unflatten(0, (5, 4))
    whole = net.readout(net.body(x))  # type: ignore[operator]
    states, outputs = None, []
    for chunk in x.split((1, 3, 1)):
        y, states = stream(net, chunk, states)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"body_3_restimulate1_0 \(it reads later time steps\)"):
        stream(small_cnn(LIF(), stimulated="*", attention_over="whole").double().eval(), x)


@torch.no_grad()
def test_cost_by_hand() -> None:
    """6 channels of 8×8, T = 3, kernel 1 (log2 6 = 2.58, (2.58 + 1)/2 = 1.79).

    A step: 6·63 additions and 6 shifts (÷ 64) of the means, 6·1 multiplications of the kernel, 384 of the signal.
    """
    net = small_cnn(LIF(), T=3, stimulated=["body.3.neuron1"]).eval()
    counted = cost(net, samples(2, dtype=torch.float32))
    row = next(row for row in counted.layers if row.kind == "attention")
    assert row.name == "body_3_restimulate1_0" and row.T == 3
    assert (row.multiplications, row.adds, row.shifts) == (3 * (6 + 384), 3 * 6 * 63, 3 * 6)
    assert (row.parameters, row.size_bits, row.weight_bytes, row.inputs, row.outputs) == (1, 32, 4.0, 384, 384)
    assert counted.uncounted == ["body_3_restimulate1_0.sigmoid"]


@torch.no_grad()
def test_cost_of_one_attention_for_all_steps_by_hand() -> None:
    """12 channels of 4×4, T = 3, kernel 3 (log2 12 = 3.58, 2.29 → 2 → 3): a mean over 48 values is a multiplication."""
    net = small_cnn(LIF(), T=3, stimulated=["body.4.neuron2"], attention_over="whole").eval()
    row = next(row for row in cost(net, samples(2, dtype=torch.float32)).layers if row.kind == "attention")
    assert (row.multiplications, row.adds, row.shifts) == (12 + 12 * 3 + 3 * 192, 12 * 47 + 12 * 2, 0)


@torch.no_grad()
def test_the_control_costs_a_sum_alone() -> None:
    x = samples(2, dtype=torch.float32)
    plain, control = (small_cnn(LIF(), T=3, **options).eval() for options in ({}, _CONTROL))
    kept, more = cost(plain, x), cost(control, x)
    assert more.total("side_adds") > kept.total("side_adds") and not more.uncounted
    assert more.total("parameters") == kept.total("parameters")
    assert not [row for row in more.rows if row.kind == "attention"]
    assert len([row for row in more.elements if row.kind == "add"]) == 3


_CONTROL = {"stimulated": ["body.3.neuron1"], "attention": "one"}


def test_other_networks_of_residual_blocks() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = resnet20(LIF(), T=1, shape=(3, 16, 16), classes=4)
    changed = restimulate(net, "*", over="step")
    assert len(changed) == 2 * len([m for m in net.modules() if isinstance(m, ResidualBlock)]) > 0
    assert net.eval()(torch.randn(2, 3, 16, 16, generator=rng(0))).shape == (2, 4)
    with pytest.raises(ValueError, match="restimulate: the pattern must match one of"):
        restimulate(mlp(LIF(), shape=(4,), hidden=(3,), classes=2))


@pytest.mark.parametrize("sides", [(13, 13), (17, 10)])
@pytest.mark.parametrize("attention", ["efficient", "one"])
def test_images_of_odd_sides(sides: tuple[int, int], attention: str) -> None:
    """Shortcuts and projections halve 13 to 7 as the convolutions do; folding verifies, gradients reach everything."""
    x = torch.randn(6, 1, *sides, generator=rng(2), dtype=torch.float64)
    neuron = make_neuron("multibit", amplitude=0.731, train_amplitude="channel")
    net = liven(small_cnn(neuron, Uniform(4), shape=(1, *sides), stimulated="*", attention=attention), x)
    report = fold(net, x).report
    assert report.forced_flips == 0 and report.max_logit_difference_forced < 1e-9
    height, breadth = ((side + 1) // 2 for side in sides)
    halved = [row.outputs for row in cost(net, x).elements if row.kind == "pool"]
    assert sorted(halved)[-2:] == [6 * height * breadth] * 2  # of the connection and of the shortcut
    net(x).sum().backward()
    assert all(value.grad is not None for value in net.parameters())


@torch.no_grad()
def test_refined_neurons_of_their_own_steps() -> None:
    for squeeze in ("always", "differs"):
        net = small_cnn(Refined(LIF(), T=3, squeeze=squeeze), T=1, stimulated="*").eval()  # type: ignore[arg-type]
        block = net.get_submodule("body.3")
        assert isinstance(block, ResidualBlock) and isinstance(block.neuron1, Refined)
        block.neuron1.set_steps(2)
        assert net(samples(2, dtype=torch.float32)).shape == (2, 5)


@pytest.mark.parametrize("attention", ["efficient", "one"])
@torch.no_grad()
def test_integer_spikes_still_expand(attention: str) -> None:
    x = samples(6)
    net = liven(small_cnn(Integer(4), Uniform(4), T=2, stimulated="*", attention=attention), x, grid=16)
    folded = fold(net, x)
    torch.testing.assert_close(expand_unary(folded).run(x), folded(x), rtol=0, atol=1e-9)


@torch.no_grad()
def test_conversion_takes_the_control_and_the_attention() -> None:
    """A mean over time does not pass through σ: the attention stays, of the means so far."""
    x, neuron = samples(16), MultiBit(1, 7, decay=1.0)
    for attention in ("efficient", "one"):
        ann = small_cnn(nn.ReLU(), T=1, stimulated="*", attention=attention).double().eval()  # type: ignore[arg-type]
        snn = ann2snn(ann, neuron, x, 4)
        kept = set(snn.report.analog.values())  # type: ignore[union-attr]
        assert kept == ({"Restimulate"} if attention == "efficient" else set())
        wanted, got = ann(x), snn(x)
        assert wanted.abs().max() > 0.1 and (got - wanted).abs().max() < 0.05 * wanted.abs().max()
        torch.testing.assert_close(fold(snn, x)(x), got, rtol=1e-9, atol=1e-9)


def test_lean_memory_has_equal_gradients() -> None:
    net = small_cnn(MultiBit(1, 1), T=2, stimulated="*").double().train()
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


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"restimulate: the pattern must match one of .*, got 'body.9.\*'"):
        small_cnn(LIF(), stimulated=["body.3.*", "body.9.*"])
    model = small_cnn(LIF(), stimulated="body.3.neuron1")
    with pytest.raises(ValueError, match=r"a neuron takes one connection, got body\.3\.neuron1"):
        restimulate(model, "*")
    with pytest.raises(ValueError, match="attention must be one of"):
        small_cnn(LIF(), stimulated="*", attention="eca")


def test_a_recipe_switches_it_on() -> None:
    plain = Recipe(
        name="a",
        neuron=ComponentConfig("multibit"),
        weight=ComponentConfig("float"),
        model=ModelConfig(options={"width": 4}),
    )
    options = {"width": 4, "stimulated": ["body.3.*"], "attention": "one"}
    other = replace(plain, model=replace(plain.model, options=options))
    shape, classes = (1, 28, 28), 10
    assert not attentions(build_network(plain, shape, classes))
    found = attentions(build_network(other, shape, classes))
    assert list(found) == ["body.3.restimulate1.0", "body.3.restimulate2.0"]
    assert {module.attention for module in found.values()} == {"one"}
    assert plain.key("d") != other.key("d")
