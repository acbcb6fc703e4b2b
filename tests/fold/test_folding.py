"""Folded networks equal the trained ones, for every neuron × quantizer × topology, in float64 and float32."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import nn

from bitspike import fold
from bitspike.fold import FoldReport
from networks import NETS, SPIKING, WEIGHTS, flipped_samples, flips_between, liven, make_neuron, samples, spikes_of


@dataclass(frozen=True)
class Variant:
    """Options of a neuron and of the norms around it."""

    amplitude: float
    train_amplitude: str
    reset: str
    detach_reset: bool
    learn_decay: bool
    norm: str

    def __str__(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


VARIANTS = [
    Variant(
        amplitude=(0.731, 1.37, 2.0)[i % 3],
        train_amplitude=("none", "layer", "channel")[(i // 3) % 3],
        reset=("hard", "soft")[i % 2],
        detach_reset=(i // 2) % 2 == 1,
        learn_decay=(i // 4) % 2 == 1,
        norm=("joint", "per_step", "threshold")[(i + i // 3) % 3],
    )
    for i in range(18)
]
CELLS = [(s, w, net) for s in SPIKING for w in WEIGHTS for net in NETS]
ROTATED = [(*cell, VARIANTS[(7 * i) % len(VARIANTS)]) for i, cell in enumerate(CELLS)]
OTHERS = [(*cell, v) for i, cell in enumerate(CELLS) for v in VARIANTS if v is not ROTATED[i][3]]


def build(spiking: str, weight: str, net: str, variant: Variant, x: torch.Tensor) -> nn.Module:
    options = asdict(variant)
    norm = options.pop("norm")
    return liven(NETS[net](make_neuron(spiking, **options), WEIGHTS[weight](), T=3, norm=norm), x)


def check_alive(report: FoldReport, neurons: int) -> None:
    rates = {name: layer.rate for name, layer in report.layers.items()}
    assert len(rates) == neurons
    assert all(0.02 < rate < 0.98 for rate in rates.values()), rates


def check_equal(model: nn.Module, x: torch.Tensor, tolerance: float, real: bool) -> FoldReport:
    """Fold; compare independently of the report, then the report with that."""
    folded = fold(model, x)
    report = folded.report
    wanted, before = spikes_of(model, x)
    got, after = spikes_of(folded.graph, x)
    check_alive(report, len(before))
    flips = flips_between(before, after, real)
    assert report.end_to_end_flips == sum(int(f.sum()) for f in flips.values())
    assert sum(layer.spikes for layer in report.layers.values()) == sum(f.numel() for f in flips.values())
    flipped = flipped_samples(flips)
    assert report.samples == len(x) and report.samples_with_flips == int(flipped.sum())
    assert not flipped.all()
    size = max(1.0, float(wanted.abs().max()))
    difference = (wanted - got)[~flipped].abs().max()
    assert difference <= tolerance * size
    assert report.max_logit_difference == pytest.approx(float(difference), abs=1e-12)
    assert report.max_logit_difference_forced <= tolerance * size
    return report


def check_double(spiking: str, weight: str, net: str, variant: Variant) -> None:
    x = samples(12)
    report = check_equal(build(spiking, weight, net, variant, x), x, 1e-9, spiking == "real")
    assert all(layer.worst_margin <= 1e-9 for layer in report.layers.values())


@pytest.mark.parametrize(("spiking", "weight", "net", "variant"), ROTATED, ids=str)
def test_float64(spiking: str, weight: str, net: str, variant: Variant) -> None:
    check_double(spiking, weight, net, variant)


@pytest.mark.slow
@pytest.mark.parametrize(("spiking", "weight", "net", "variant"), OTHERS, ids=str)
def test_float64_all_variants(spiking: str, weight: str, net: str, variant: Variant) -> None:
    check_double(spiking, weight, net, variant)


@pytest.mark.parametrize("weight", ["float", "sign-input", "ternary-output", "uniform4-layer"])
@pytest.mark.parametrize("spiking", SPIKING)
@pytest.mark.parametrize("net", NETS)
def test_float32(spiking: str, weight: str, net: str) -> None:
    x = samples(24, dtype=torch.float32)
    variant = Variant(1.37, "channel", "soft", True, True, "threshold")
    check_equal(build(spiking, weight, net, variant, x), x, 1e-4, spiking == "real")


@pytest.mark.slow
@pytest.mark.parametrize(("spiking", "weight", "net", "variant"), ROTATED, ids=str)
def test_float32_all(spiking: str, weight: str, net: str, variant: Variant) -> None:
    x = samples(24, dtype=torch.float32)
    check_equal(build(spiking, weight, net, variant, x), x, 1e-4, spiking == "real")


@pytest.mark.parametrize("readout", ["mean", "steps"])
@pytest.mark.parametrize(("encoder", "T"), [("repeat", 1), ("repeat", 8), ("poisson", 5), ("latency", 5)])
def test_encoders_readouts_and_time(encoder: str, T: int, readout: str) -> None:
    x = samples(8).sigmoid()
    neuron = make_neuron("multibit", amplitude=1.37)
    model = liven(NETS["study_cnn"](neuron, WEIGHTS["sign-layer"](), T=T, encoder=encoder, readout=readout), x)
    folded = fold(model, x)
    with torch.no_grad():
        wanted, got = model(x), folded(x)
    assert wanted.shape == ((8, 5) if readout == "mean" else (T, 8, 5))
    assert folded.report.end_to_end_flips == 0 and (wanted - got).abs().max() <= 1e-9
    check_alive(folded.report, 5)


def test_the_randomised_norms_hold_every_kind_of_gamma() -> None:
    model = build("lif", "float", "study_cnn", VARIANTS[0], samples(4))
    for name, gamma in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert (gamma == 0).any() and (gamma < 0).any() and (gamma.abs() > 0.1).any()
            assert ((gamma != 0) & (gamma.abs() < 1e-5)).any()


def test_the_model_is_left_as_it_was() -> None:
    x = samples(4)
    model = build("ternary", "uniform4-layer", "study_cnn", VARIANTS[1], x).train()
    frozen = model.get_submodule("body.1").eval()
    before = copy.deepcopy(model.state_dict())
    modes = {name: module.training for name, module in model.named_modules()}
    folded = fold(model, x)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not frozen.training and model.get_submodule("body.3").training and not folded.training
    for parameter in folded.parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_model_is_left_as_it_was_when_folding_fails() -> None:
    model = build("lif", "float", "study_cnn", VARIANTS[0], samples(4)).train()
    with pytest.raises(ValueError, match="the input must have 2 channels"):
        fold(model, samples(2).repeat(1, 2, 1, 1))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("weight", ["float", "sign-input", "uniform4-layer"])
@pytest.mark.parametrize("spiking", SPIKING)
def test_folding_a_folded_network_changes_nothing(spiking: str, weight: str) -> None:
    x = samples(6)
    once = fold(build(spiking, weight, "study_cnn", VARIANTS[7], x), x)
    twice = fold(once, x)
    with torch.no_grad():
        assert torch.equal(once(x), twice(x))
    assert not twice.report.gains and not twice.report.affines and twice.report.forced_flips == 0
