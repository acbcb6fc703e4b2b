"""Recipe → network: options reach the classes, bad ones are refused with the nearest spelling."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from bitspike.layers import BatchNorm, Synapse
from bitspike.models import Network
from bitspike.neurons import Integer, MultiBit, Neuron, Ternary
from bitspike.quantizers import Uniform
from bitspike.training.build import build_network, build_neuron, build_quantizer
from bitspike.training.recipe import ComponentConfig, Recipe, recipe_from_mapping

SHAPE = (1, 8, 8)
TYPES = "the options must have the right types"


def recipe(**tables: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "r",
        "model": {"options": {"width": 4, "stem_stride": 1}},
        "neuron": {"name": "lif"},
        "weight": {"name": "sign", "factor": "input"},
    }
    return recipe_from_mapping({**base, **tables})


def build(**tables: Any) -> Network:
    return build_network(recipe(**tables), SHAPE, 10)


def test_components_get_their_options() -> None:
    neuron = build_neuron(ComponentConfig("ternary", {"threshold": 0.3, "reset": "soft", "train_amplitude": "channel"}))
    assert isinstance(neuron, Ternary) and neuron.stairs.first == 0.3
    assert neuron.membrane.reset_kind == "soft" and neuron.emission.train_kind == "channel"
    weight = build_quantizer(ComponentConfig("uniform", {"bits": 3, "scale": "output"}))
    assert isinstance(weight, Uniform) and weight.bits == 3 and weight.format.scale == "output"


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("neuron", ComponentConfig("lif", {"thresold": 0.5}), r"lif: .*'thresold'; did you mean 'threshold'"),
        ("neuron", ComponentConfig("ternery"), r"^neuron registry: .*'ternery'; did you mean 'ternary'"),
        ("neuron", ComponentConfig("multibit", {"m": "two"}), rf"^\[neuron\] multibit: {TYPES}"),
        ("neuron", ComponentConfig("lif", {"threshold": "high"}), rf"^\[neuron\] lif: {TYPES}"),
        ("neuron", ComponentConfig("lif", {"decay": -1.0}), "decay must lie in"),
        ("weight", ComponentConfig("sign", {"factr": "input"}), r"^\[weight\] sign: .*'factr'; did you mean 'factor'"),
        ("weight", ComponentConfig("sing"), r"^quantizer registry: .*'sing'; did you mean 'sign'"),
        ("weight", ComponentConfig("uniform", {"bits": 4.0}), rf"^\[weight\] uniform: {TYPES}"),
        ("weight", ComponentConfig("float", {"bits": 4}), r"^\[weight\] float: there are no options"),
    ],
)
def test_bad_components_are_refused(kind: str, config: ComponentConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        (build_neuron if kind == "neuron" else build_quantizer)(config)


def test_the_network_of_a_recipe() -> None:
    model = build(model={"T": 3, "norm": "threshold", "readout": "steps", "options": {"width": 4, "stem_stride": 1}})
    assert model(torch.rand(2, *SHAPE)).shape == (3, 2, 10)
    assert {m.mode for m in model.modules() if isinstance(m, BatchNorm)} == {"threshold"}
    labels = {m.role: m.quantizer.format.label() for m in model.modules() if isinstance(m, Synapse)}
    assert labels == {"first": "float", "last": "float", "hidden": "±1·α", "downsample": "±1·α"}
    mlp = build(model={"name": "mlp", "options": {"hidden": [5, 6]}})
    assert [m.weight.shape for m in mlp.modules() if isinstance(m, Synapse)] == [(5, 64), (6, 5), (10, 6)]


def test_the_policy_names_quantizers_by_role() -> None:
    model = build(policy={"first": "uniform", "last": "same", "downsample": "float"})
    labels = {m.role: m.quantizer.format.label() for m in model.modules() if isinstance(m, Synapse)}
    assert labels == {"first": "4 bit·α", "last": "±1·α", "hidden": "±1·α", "downsample": "float"}
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        build(policy={"first": "unifrom"})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"options": {"widht": 4}}}, r"^\[model.options\]: the keys .*'width'.*got \['widht'\]"),
        ({"model": {"options": {"T": 3}}}, r"^\[model.options\]: .*got \['T'\]"),
        ({"model": {"name": "study_cn"}}, r"^model registry: .*did you mean 'study_cnn'"),
        ({"model": {"options": {"width": 0}}}, "study_cnn: width must lie in"),
    ],
)
def test_bad_models_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**tables)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = build(), build(), build(seed=1)
    assert torch.equal(torch.rand(3), expected)
    weights = [m.state_dict()["body.3.conv1.weight"] for m in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_arms_of_one_seed_start_from_the_same_weights() -> None:
    """What is compared between arms is the neuron, not the draw."""
    one, two = build(), build(neuron={"name": "multibit", "train_amplitude": "channel"}, weight={"name": "float"})
    left, right = ({n: m for n, m in net.named_modules() if isinstance(m, Synapse)} for net in (one, two))
    assert left.keys() == right.keys() and all(torch.equal(left[name].weight, right[name].weight) for name in left)


def test_layers_of_their_own() -> None:
    tables = [
        {"match": "body.4.*", "neuron": {"name": "integer", "D": 3}, "weight": {"name": "uniform", "bits": 2}},
        {"match": "body.2", "neuron": {"name": "multibit"}},
    ]
    model = build(layers=tables)
    neurons = {name: type(m) for name, m in model.named_modules() if isinstance(m, Neuron)}
    assert neurons["body.2"] is MultiBit and neurons["body.4.neuron1"] is Integer
    bits = {name: m.quantizer.bits for name, m in model.named_modules() if isinstance(m, Synapse)}
    assert bits["body.4.conv2"] == 2 and bits["body.3.conv2"] == 1 and bits["body.0"] == 32
    with pytest.raises(ValueError, match=r"assign: the pattern must match a neuron, got 'body\.9'"):
        build(layers=[{"match": "body.9", "neuron": {"name": "lif"}}])
    with pytest.raises(ValueError, match="did you mean 'bits'"):
        build(layers=[{"match": "body.4.conv1", "weight": {"name": "uniform", "bit": 2}}])


LAYER_AMPLITUDE = {"name": "lif", "train_amplitude": "layer"}


def test_layers_of_their_own_warn_once_and_about_the_finished_network() -> None:
    table = {"match": "body.3.*", "neuron": {"name": "lif"}}
    with pytest.warns(UserWarning, match="inert") as caught:
        build(neuron=LAYER_AMPLITUDE, layers=[table])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "body.4.neuron1" in str(caught[0].message) and "body.3" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(neuron=LAYER_AMPLITUDE, layers=[{"match": "body.*", "neuron": {"name": "lif"}}])
        build_network(recipe(neuron=LAYER_AMPLITUDE), SHAPE, 10, warn=False)


def test_inert_factors_are_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"inert.*body\.3\.neuron1\.emission\.raw_amplitude") as caught:
        build(neuron=LAYER_AMPLITUDE)
    assert len(caught) == 1
