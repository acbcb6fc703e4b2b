"""Builders: shapes, roles, quantizers by role, refusals, and layers given something else afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bitspike import trace
from bitspike.layers import BatchNorm, Flatten, MeanReadout, Repeat, Synapse
from bitspike.models import MODELS, Network, Policy, mlp, policy_for, study_cnn
from bitspike.models.network import assign, channels_of, finish
from bitspike.neurons import LIF, Ternary
from bitspike.quantizers import Float, Sign, Uniform
from networks import make_neuron, small_cnn

SIZE = {"shape": (3, 8, 12), "classes": 7, "width": 4, "stem_stride": 1}
ROLES = {
    "body.0": "first",
    "body.3.conv1": "hidden",
    "body.3.conv2": "hidden",
    "body.4.conv1": "hidden",
    "body.4.conv2": "hidden",
    "body.4.shortcut.1": "downsample",
    "body.7": "last",
}


def synapses(model: nn.Module) -> dict[str, Synapse]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Synapse)}


@pytest.mark.parametrize(("readout", "shape"), [("mean", (2, 7)), ("steps", (3, 2, 7))])
@pytest.mark.parametrize("encoder", ["repeat", "poisson", "latency"])
@pytest.mark.parametrize("norm", ["joint", "per_step", "threshold"])
def test_shapes(norm: str, encoder: str, readout: str, shape: tuple[int, ...]) -> None:
    options = {"norm": norm, "encoder": encoder, "readout": readout, "T": 3, "classes": 7}
    assert study_cnn(LIF(), None, **{**SIZE, **options})(torch.rand(2, 3, 8, 12)).shape == shape
    assert mlp(LIF(), None, shape=(3, 4), hidden=(5,), **options)(torch.rand(2, 3, 4)).shape == shape


def test_study_cnn_has_the_topology_it_promises() -> None:
    graph = trace(small_cnn(LIF()))
    kinds = [node.kind for node in graph]
    assert kinds.count("neuron") == 5 and kinds.count("synapse") == 7 and kinds.count("add") == 2
    identity, down = (graph[node.inputs[1]] for node in graph.of_kind("add"))
    assert identity.kind == "neuron" and isinstance(down.module, BatchNorm)
    assert graph["body_7"].inputs == ("body_6",) and isinstance(graph["body_6"].module, Flatten)
    assert graph["body_6"].inputs == ("body_5",)


def test_roles_and_policy() -> None:
    model = study_cnn(LIF(), Sign("input"), policy=Policy(last=Uniform(8), downsample=Float()), **SIZE)
    assert {name: module.role for name, module in synapses(model).items()} == ROLES
    labels = {name: module.quantizer.format.label() for name, module in synapses(model).items()}
    assert labels == {n: {"last": "8 bit·α", "downsample": "float"}.get(r, "±1·α") for n, r in ROLES.items()}
    default = {n: m.quantizer.format.real for n, m in synapses(study_cnn(LIF(), Sign("input"), **SIZE)).items()}
    assert default == {name: role in ("first", "last") for name, role in ROLES.items()}
    assert all(module.quantizer.format.real for module in synapses(study_cnn(LIF(), **SIZE)).values())


def test_policies_of_the_papers() -> None:
    assert policy_for("ternary") == Policy()
    real = {paper: [q is not None for q in vars(policy_for(paper)).values()] for paper in ("reverb", "multibit")}
    assert real == {"reverb": [True, True, True], "multibit": [True, True, False]}
    adaptive = policy_for("adaptive")
    assert adaptive.first is not None and adaptive.first.bits == 8 and adaptive.last is None
    with pytest.raises(ValueError, match="did you mean 'reverb'"):
        policy_for("reverbb")


def test_every_layer_owns_its_neuron_and_quantizer() -> None:
    neuron, weight = LIF(train_amplitude="channel", learn_decay=True), Sign("input")
    model = small_cnn(neuron, weight)
    parameters = [id(p) for p in model.parameters()]
    assert len(parameters) == len(set(parameters))
    assert neuron.emission.raw_amplitude is not None and neuron.emission.raw_amplitude.shape == ()
    assert weight.factor.raw_factor is None
    sizes = [m.emission.raw_amplitude.numel() for m in model.modules() if isinstance(m, LIF)]
    assert sizes == [6, 6, 6, 12, 12]


def test_tdbn_takes_the_threshold_of_the_neuron() -> None:
    heights = {m.height for m in small_cnn(Ternary(0.3), norm="threshold").modules() if isinstance(m, BatchNorm)}
    assert heights == {0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": 0}, r"study_cnn: T must lie in \[1, 10000\], got 0"),
        ({"width": 0}, "study_cnn: width must lie in"),
        ({"stem_stride": 3}, "study_cnn: stem_stride must lie in"),
        ({"shape": (1, 5, 4), "stem_stride": 2}, r"sides >= 3 after the stem, got \(1, 5, 4\) at stem_stride 2"),
        ({"shape": (1, 2, 2)}, "sides >= 3 after the stem"),
        ({"shape": (8, 8)}, r"the image must be \(C, H, W\)"),
        ({"norm": "layer"}, "mode must be one of"),
        ({"encoder": "poison"}, "did you mean 'poisson'"),
        ({"readout": "max"}, "readout: name must be one of"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study_cnn(LIF(), **{**SIZE, **options})  # type: ignore[arg-type]


def test_mlp_refusals_and_roles() -> None:
    with pytest.raises(ValueError, match="mlp: number of hidden layers must lie in"):
        mlp(LIF(), hidden=())
    model = mlp(LIF(), Sign("input"), shape=(4,), hidden=(3, 2), classes=2)
    assert [m.role for m in synapses(model).values()] == ["first", "hidden", "last"]
    assert [m.bias is None for m in synapses(model).values()] == [True, True, False]
    assert MODELS["mlp"] is mlp and MODELS["study_cnn"] is study_cnn


def test_a_network_without_synapses_is_refused() -> None:
    with pytest.raises(ValueError, match="finish: a network must have synapses"):
        finish(Network(Repeat(1), nn.Sequential(LIF()), MeanReadout()), None, None)


def test_assign_replaces_neurons_and_quantizers_by_name() -> None:
    model = small_cnn(LIF(), Sign("layer"))
    before = {name: module.weight for name, module in synapses(model).items()}
    changed = assign(model, "body.4.*", make_neuron("multibit", train_amplitude="channel"), Uniform(4))
    assert changed == [
        "body.4.conv1", "body.4.neuron1", "body.4.conv2", "body.4.shortcut.1", "body.4.neuron2",
    ]  # fmt: skip
    bits = {name: module.quantizer.bits for name, module in synapses(model).items()}
    assert bits == {n: 4 if n.startswith("body.4") else 1 for n in ROLES}
    assert all(module.weight is before[name] for name, module in synapses(model).items())
    amplitude = model.get_submodule("body.4.neuron2").emission.raw_amplitude
    assert amplitude is not None and amplitude.shape == (12,)
    assert model(torch.zeros(1, 2, 8, 8)).shape == (1, 5)


@pytest.mark.parametrize(("match", "kind"), [("body.9.*", "neuron"), ("body.1", "neuron"), ("", "neuron")])
def test_assign_must_match_something(match: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"assign: the pattern must match a {kind}, got '{match}'"):
        assign(small_cnn(LIF()), match, LIF())


def test_channels_are_found_through_pools_and_additions() -> None:
    model = small_cnn(LIF())
    assert [channels_of(model, p) for p in ("body.2", "body.3.neuron2", "body.4.neuron2")] == [6, 6, 12]
    with pytest.raises(ValueError, match="channels_of: a synapse or norm must come before the neuron, got 0"):
        channels_of(nn.Sequential(LIF()), "0")
