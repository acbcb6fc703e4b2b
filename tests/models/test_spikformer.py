"""Spikformer: the paper's counts, operations by hand, fold, streams, programs and refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import bitspike
from bitspike.data import Batches
from bitspike.layers import ATTENTION
from bitspike.lower import compare
from bitspike.models import MODELS, Network
from bitspike.runtime import Program
from bitspike.runtime.engine import why_missing
from bitspike.training import build_model, load_data
from bitspike.training.health import Watch, dead_layers
from bitspike.training.recipe import recipe_from_mapping
from networks import WEIGHTS, liven, make_neuron, rng

SIZES = {"width": 24, "heads": 3, "depth": 2, "patch": 2, "classes": 5, "T": 2}
KINDS = [
    ("lif", "none", "float"),
    ("ternary", "layer", "ternary-layer"),
    ("multibit", "channel", "uniform4-layer"),
    ("adaptive", "layer", "float"),
]


def small(neuron: nn.Module, weight: nn.Module | None = None, **options: object) -> Network:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(0)
        return MODELS["spikformer"](neuron, weight, **{"shape": (3, 4, 6), **SIZES, **options})


def images(samples: int, *shape: int) -> torch.Tensor:
    return torch.randn(samples, *shape, generator=rng(1), dtype=torch.float64)


def live(name: str, neuron: str, train: str, weight: str) -> tuple[Network, torch.Tensor]:
    x = images(8, 3, 4, 6)
    net = small(make_neuron(neuron, train_amplitude=train), WEIGHTS[weight](), attention=name)
    return liven(net.double(), x), x  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"shape": (3, 32, 32)}, 9_310_906),
        (
            {"depth": 8, "width": 512, "heads": 8, "patch": 16, "shape": (3, 224, 224), "classes": 1000},
            29_664_808,
        ),
    ],
)
def test_parameters_of_the_paper(options: dict, wanted: int) -> None:
    with torch.device("meta"):
        net = MODELS["spikformer"](make_neuron("lif"), **options)
    assert sum(p.numel() for p in net.parameters()) == wanted


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_folded_is_the_network_and_streams_are_whole_runs(name: str, kind: tuple[str, str, str]) -> None:
    net, x = live(name, *kind)
    folded = bitspike.fold(net, x)
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-9
    assert not bitspike.cost(folded, x).uncounted
    x_seq = net.encoder(x)
    whole, states = bitspike.stream(net, x_seq)[0], None
    for chunk in x_seq.split(1):
        y, states = bitspike.stream(net, chunk, states)
    assert torch.equal(y, whole) and whole.unique().numel() > 5


def test_operations_by_hand() -> None:
    """2×4 images, patch 2: 8 places for four convs (the last pools behind itself), 2 tokens of 8 channels."""
    net = small(make_neuron("lif"), shape=(1, 2, 4), width=8, heads=1, depth=1, classes=3).eval()
    counted = bitspike.cost(net, torch.rand(2, 1, 2, 4, generator=rng(0)))
    convs = 9 * 8 * (1 * 1 + 1 * 2 + 2 * 4 + 4 * 8)
    position = 9 * 2 * 8 * 8
    maps = 2 * 8 * 8 * (3 + 1)
    mlp = 2 * 2 * 8 * 32
    synapses = sum(row.macs for row in counted.rows if row.kind != "product")
    products = sum(row.macs for row in counted.rows if row.kind == "product")
    assert synapses == convs + position + maps + mlp + 8 * 3
    assert products == 2 * (2 * 2 * 8)
    assert not counted.uncounted


def test_maps_behind_shortcuts_cost_a_shift_addition_per_set_bit() -> None:
    """Sums of n blocks behind the position reach 2n + 2: the third block's queries, keys and values read {0..6}."""
    x = images(8, 3, 4, 6)
    net = liven(small(make_neuron("lif"), depth=3).double(), x)
    maps = {f"body.block3.attention.{part}.0.0": 6 for part in "qkv"} | {"body.block3.mlp.0.conv": 7}
    read: dict[str, torch.Tensor] = {}
    for name in maps:
        net.get_submodule(name).register_forward_hook(lambda _, given, __, name=name: read.update({name: given[0]}))
    rows = {row.name.replace(".", "_"): row for row in bitspike.cost(net, x).layers}
    net(x)
    for name, top in maps.items():
        row, levels = rows[name.replace(".", "_")], read[name].long()
        assert torch.equal(levels.double(), read[name]) and 4 <= levels.max() <= top
        ones = sum(bin(level).count("1") for level in levels.flatten().tolist())
        outputs = net.get_submodule(name).weight.shape[0]
        assert row.shift_adds == pytest.approx(ones * outputs / len(x)) and row.input_bits == 3
        assert row.adds == row.multiplications == 0


@pytest.mark.parametrize("name", list(ATTENTION))
def test_programs_on_random_data(name: str) -> None:
    net, x = live(name, "ternary", "layer", "ternary-layer")
    folded = bitspike.fold(net, x)
    program = bitspike.compile(folded, x, weight_bits=16, spike_bits=16, input_bits=16)
    found = compare(program, folded, [x])
    assert sum(v.forced for v in found.layers.values()) <= 1e-2 * sum(v.spikes for v in found.layers.values())
    assert found.agreement is None or found.agreement > 0.9
    if why_missing():
        pytest.skip(f"not run: {why_missing()}")
    native, plain = (Program(program.spec, engine=engine)(x.numpy()) for engine in ("native", "interpreter"))
    assert np.array_equal(native.levels, plain.levels) and np.abs(plain.levels).max() > 0


@pytest.mark.parametrize("threshold", [0.5, 1e3])
@pytest.mark.parametrize("name", list(ATTENTION))
def test_gates_that_never_fire_are_found(name: str, threshold: float) -> None:
    options = {**{key: SIZES[key] for key in ("width", "heads", "depth", "patch")}, "attention": name}
    lif = {"name": "lif", "decay": 0.25}
    recipe = recipe_from_mapping(
        {
            "name": "gates",
            "model": {"name": "spikformer", "options": options},
            "neuron": {**lif, "threshold": 0.25},
            "weight": {"name": "float"},
            "layers": [{"match": "*.gate*", "neuron": {**lif, "threshold": threshold}}],
        },
        "gates",
    )
    data = load_data(recipe)
    net = build_model(recipe, data.train)
    watch = Watch(net)
    with watch.watching():
        net.train()(next(iter(Batches(data.train, 16)))[0])
    silent = [said for said in dead_layers(watch.report()) if ".gate" in said and "silent;" in said]
    assert len(silent) == (SIZES["depth"] if threshold == 1e3 else 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 12}, "multiple of 8"),
        ({"heads": 5}, "heads"),
        ({"patch": 3}, "patch"),
        ({"shape": (3, 5, 6)}, "2"),
        ({"shape": (3, 4, 7)}, "2"),
        ({"wiring": "input"}, "wiring"),
        ({"attention": "sas"}, "attention"),
        ({"depth": 0}, "depth"),
    ],
)
def test_refusals(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small(make_neuron("lif"), **options)
