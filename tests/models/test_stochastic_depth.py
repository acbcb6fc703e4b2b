"""Stochastic depth: who skips, by how much, in every residual builder; evaluation and its passes see nothing of it."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.cost import cost
from bitspike.data import Splits
from bitspike.graph import trace
from bitspike.layers import Conv2d, DropPath, Refined
from bitspike.models import MODELS, Network, assign, he_resnet20, resnet18, restimulate, stochastic_depth, vgg11
from bitspike.models.residual_block import ResidualBlock, ResidualJoin
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.stream import stream
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.job import load_data, measure
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.train_config import TrainConfig
from runs import CutError, cut_after, equal

SMALL: dict[str, Any] = {"width": 4, "shape": (3, 8, 8)}


def joins(model: nn.Module) -> list[ResidualJoin]:
    return [module for module in model.modules() if isinstance(module, ResidualJoin)]


def test_a_sample_keeps_or_loses_all_steps_and_survivors_are_scaled() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4000, 2, 3)
    y = DropPath(0.25)(x)
    kept = (y != 0).flatten(2).all(2)  # [T, B]
    assert bool((kept == kept[0]).all()) and abs(float(kept[0].double().mean()) - 0.75) < 0.03
    assert torch.allclose(y[:, kept[0]], x[:, kept[0]] / 0.75) and bool((y[:, ~kept[0]] == 0).all())
    assert DropPath(0.0)(x) is x and DropPath(0.5).eval()(x) is x
    assert DropPath(0.5)(x.bfloat16()).dtype == torch.bfloat16


def test_the_rate_grows_linearly_with_depth_and_zero_takes_it_away() -> None:
    net = he_resnet20(LIF(), T=1, **SMALL)
    names = stochastic_depth(net, 0.9)
    assert [module.drop.rate for module in joins(net) if module.drop] == pytest.approx([0.1 * n for n in range(1, 10)])
    assert [name.split(".")[1:3] for name in names[::3]] == [["layer1", "0"], ["layer2", "0"], ["layer3", "0"]]
    stochastic_depth(net, 0.0)
    assert all(module.drop is None for module in joins(net))


def made(name: str) -> nn.Module:
    build = MODELS[name]
    heads = {"heads": 2} if "heads" in inspect.signature(build).parameters else {}
    return build(Ternary(), T=1, width=8, shape=(3, 16, 16), **heads)


def residual_builders() -> list[str]:
    found = []
    for name in MODELS:
        try:
            model = made(name)
        except (TypeError, ValueError):  # no images of this size
            continue
        if joins(model):
            found.append(name)
    return found


RESIDUAL = residual_builders()


def test_every_residual_builder_has_it() -> None:
    wanted = {"resnet19", "resnet20", "wide_resnet20", "resnet18_cifar", "he_resnet20", "he_resnet32"}
    assert wanted | {"resnet18", "resnet34"} <= set(RESIDUAL)
    with pytest.raises(ValueError, match="must have residual blocks"):
        stochastic_depth(vgg11(LIF(), shape=(3, 32, 32), width=4), 0.1)


@pytest.mark.parametrize("name", RESIDUAL)
def test_training_draws_and_evaluation_does_not(name: str) -> None:
    torch.manual_seed(0)
    net = made(name)
    plain, x = copy.deepcopy(net), torch.randn(4, 3, 16, 16)
    stochastic_depth(net, 0.9)
    assert net.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        first, second = (seeded(net, x, seed) for seed in (1, 2))
        assert first.equal(seeded(net, x, 1)) and not first.equal(second)
        net.load_state_dict(plain.state_dict())
        assert net.eval()(x).equal(plain.eval()(x))
    assert [(n.name, n.kind, n.inputs) for n in trace(net)] == [(n.name, n.kind, n.inputs) for n in trace(plain)]


def seeded(net: nn.Module, x: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return net(x)  # type: ignore[no-any-return]


WAYS = {
    "spike": lambda: he_resnet20(MultiBit(), T=2, **SMALL),
    "input": lambda: he_resnet20(MultiBit(), T=2, wiring="input", **SMALL),
    "sew": lambda: resnet18(LIF(), T=2, width=4, shape=(3, 32, 32), sew=True),
    "steps": lambda: he_resnet20(Refined(LIF(), T=2, squeeze="differs"), T=2, **SMALL),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_block_whose_branch_is_dropped_is_its_shortcut(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all but every branch dropped the branch's weights get no gradient, and the shortcut's input does."""
    torch.manual_seed(0)
    net = WAYS[way]()
    stochastic_depth(net, 0.5)
    for module in joins(net):
        assert module.drop is not None
        module.drop.set_rate(1 - 1e-12)
    net(torch.randn(2, *((3, 32, 32) if way == "sew" else (3, 8, 8)))).sum().backward()
    block = net.get_submodule("body.layer2.1")
    for conv in (block.conv1, block.conv2):
        assert isinstance(conv, Conv2d) and (conv.weight.grad is None or not conv.weight.grad.any())


@pytest.mark.parametrize("way", WAYS)
def test_what_is_dropped_never_is_what_is_added_before(way: str) -> None:
    """At a rate that drops nothing in this draw, training equals training without the layer up to the scale."""
    torch.manual_seed(0)
    net = WAYS[way]()
    plain = copy.deepcopy(net)
    stochastic_depth(net, 1e-9)
    x = torch.randn(2, *((3, 32, 32) if way == "sew" else (3, 8, 8)))
    assert torch.allclose(net(x), plain(x), atol=1e-5)


def test_inner_stimulation_is_dropped_with_the_branch() -> None:
    torch.manual_seed(0)
    net = he_resnet20(LIF(), T=2, **SMALL)
    restimulate(net, ["body.layer1.1.neuron1", "body.layer1.1.neuron2"])
    plain = copy.deepcopy(net)
    stochastic_depth(net, 1e-9)
    block = net.get_submodule("body.layer1.1")
    assert isinstance(block, ResidualBlock) and block.restimulate2 is not None
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(net(x), plain(x), atol=1e-5)
    assert block.join.drop is not None
    block.join.drop.set_rate(1 - 1e-12)
    s = (torch.rand(2, 2, 4, 8, 8) < 0.5).float()
    assert block(s).equal(block.neuron2(s))  # the shortcut alone


def test_passes_see_nothing() -> None:
    torch.manual_seed(0)
    net = he_resnet20(Ternary(), T=2, **SMALL)
    plain, x = copy.deepcopy(net), torch.randn(4, 3, 8, 8)
    stochastic_depth(net, 0.5)
    assert cost(net, x[:1]).total("macs") == cost(plain, x[:1]).total("macs")  # in training, too
    net.load_state_dict(plain.state_dict())  # whose statistics these passes moved
    folded = [bitspike.fold(model, x) for model in (net, plain)]  # as they are, in training
    assert folded[0](x).equal(folded[1](x)) and net.training
    net.eval()
    plain.eval()
    assert cost(net, x[:1]).as_dict() == cost(plain, x[:1]).as_dict()
    program, other = (bitspike.compile(one, x) for one in folded)
    assert program(x.numpy()).values.tolist() == other(x.numpy()).values.tolist()
    assert stream(net.body, x[None, :1]) is not None


def test_a_body_that_is_redrawn_in_training_keeps_it_and_still_compiles() -> None:
    torch.manual_seed(0)
    net, x = he_resnet20(Ternary(), T=2, **SMALL), torch.randn(4, 3, 8, 8)
    stochastic_depth(net, 0.9)
    restimulate(net, "body.layer1.0.neuron2", signal="spikes", into="input")
    drops = [module for module in net.modules() if isinstance(module, DropPath)]
    assert len(drops) == 9 and not seeded(net, x, 1).equal(seeded(net, x, 2))
    folded = bitspike.fold(net.eval(), x)
    for module in drops:
        module.set_rate(0.0)
    assert folded(x).equal(bitspike.fold(net, x)(x))
    bitspike.compile(folded, x)
    with pytest.raises(ValueError, match="must have residual blocks"):
        stochastic_depth(net, 0.2)


def small(tables: dict[str, Any] | None = None, **train: Any) -> Recipe:
    base = {
        "name": "small",
        "data": {"name": "digits", "batch_size": 64, "test": False},
        "model": {"options": {"width": 4}},
        "neuron": {"name": "ternary"},
        "weight": {"name": "float"},
        "train": {"epochs": 1, "threads": 1, "log_every": 1, "stochastic_depth": 0.5, **train},
    }
    return recipe_from_mapping({**base, **(tables or {})})


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = load_data(small())
    return replace(whole, train=whole.train.subset(range(256)))


PENALTY = {"regulariser": {"kind": "rate", "weight": 1.0}}


@pytest.mark.parametrize("tables", [{}, PENALTY], ids=["plain", "penalty"])
def test_cut_runs_give_the_uninterrupted_curve(tmp_path: Path, splits: Splits, tables: dict[str, Any]) -> None:
    recipe = small(tables, ema=0.5, mixup=0.5)
    whole = fit(recipe, splits)
    with pytest.raises(CutError):
        fit(recipe, splits, cut_after(3), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(recipe, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))
    other = fit(small(tables, ema=0.5, mixup=0.5, stochastic_depth=0.0), splits)
    assert whole.history[0]["loss"] != other.history[0]["loss"]  # a network that is traced for its penalty drops, too


def test_the_figures_of_a_job_are_of_the_whole_network(splits: Splits) -> None:
    _, figures = measure(small(), splits, fit(small(), splits))
    assert figures["fold"]["agreement"] > 0.99 and figures["validation_accuracy"] >= 0


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    for make in (lambda: TrainConfig(stochastic_depth=rate), lambda: DropPath(rate)):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\)|must be finite"):
            make()


def test_a_network_without_blocks_is_refused_by_its_recipe(splits: Splits) -> None:
    with pytest.raises(ValueError, match="must have residual blocks"):
        fit(small({"model": {"name": "mlp", "options": {"hidden": [4]}}}), splits)


def test_assign_leaves_it(splits: Splits) -> None:
    net: Network = he_resnet20(LIF(), T=1, **SMALL)
    stochastic_depth(net, 0.3)
    assign(net, "body.layer3.*", neuron=Ternary())
    assert joins(net)[-1].drop is not None
