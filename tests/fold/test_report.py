"""What the fold report names and counts, and that the verification can fail."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, trace
from bitspike.fold import FoldReport, LayerFlips
from bitspike.fold import factors as fold_factors
from bitspike.fold.folding import _judge
from bitspike.fold.verify import compare
from bitspike.graph.surgery import Surgery
from bitspike.layers import Affine, BatchNorm, Gain, Linear, MeanReadout, Repeat, Synapse
from bitspike.models import Policy
from bitspike.neurons import LIF
from bitspike.quantizers import Float
from networks import NETS, WEIGHTS, WIDTH, liven, make_neuron, samples

NORMS = {"body_1", "body_3_norm1", "body_3_norm2", "body_4_norm1", "body_4_norm2", "body_4_shortcut_2"}
WRONG = "folding this network is wrong"


def build(
    spiking: str, weight: str, x: Tensor, net: str = "study_cnn", policy: Policy | None = None, **options: Any
) -> nn.Module:
    more = {} if policy is None else {"policy": policy}
    return liven(NETS[net](make_neuron(spiking, **options), WEIGHTS[weight](), T=3, **more), x)


@pytest.mark.parametrize(("sharing", "size"), [("layer", 1), ("channel", WIDTH)])
def test_the_identity_shortcut_is_the_only_gain_of_float_weights(sharing: str, size: int) -> None:
    x = samples(4)
    report = fold(build("ternary", "float", x, amplitude=1.37, train_amplitude=sharing), x).report
    assert report.gains == {"add_gain_body_2": size}
    assert report.affines == [] and report.absorbed == []


def test_without_amplitudes_there_is_nothing_to_gain() -> None:
    x = samples(4)
    report = fold(build("lif", "float", x), x).report
    assert report.gains == {} and report.affines == []


def test_quantized_weights_keep_affine_maps_and_per_channel_amplitudes_need_gains() -> None:
    x = samples(4)
    folded = fold(build("lif", "sign-layer", x, amplitude=1.37, train_amplitude="channel"), x)
    report = folded.report
    assert set(report.affines) == {*NORMS, "body_7_affine"}
    assert report.gains == {
        "body_3_conv1_gain_body_2": WIDTH,
        "body_3_conv2_gain_body_3_neuron1": WIDTH,
        "add_gain_body_2": WIDTH,
        "body_4_conv1_gain_body_3_neuron2": WIDTH,
        "body_4_conv2_gain_body_4_neuron1": 2 * WIDTH,
        "body_4_shortcut_1_gain_body_4_shortcut_0": WIDTH,
        "body_7_gain_body_6": 2 * WIDTH * 4,
    }
    names = {node.name: node.module for node in folded.graph}
    assert all(isinstance(names[name], Gain) for name in report.gains)
    assert all(isinstance(names[name], Affine) for name in report.affines)
    assert sum(isinstance(module, Gain) for module in names.values()) == len(report.gains)
    assert sum(isinstance(module, Affine) for module in names.values()) == len(report.affines)


def test_per_layer_amplitudes_of_quantized_weights_go_into_the_affine_maps() -> None:
    x = samples(4)
    report = fold(build("lif", "sign-output", x, amplitude=1.37, train_amplitude="layer"), x).report
    assert report.gains == {"add_gain_body_2": 1}
    assert set(report.affines) == {*NORMS, "body_7_affine"}


def test_real_spikes_absorb_per_input_channel_factors_where_one_consumer_reads_them() -> None:
    x = samples(4)
    report = fold(build("real", "sign-input", x, policy=Policy(Float(), Float(), Float())), x).report
    assert set(report.absorbed) == {"body_3_neuron1", "body_4_neuron1"}
    assert report.gains == {"body_3_conv1_gain_body_2": WIDTH, "body_4_conv1_gain_body_3_neuron2": WIDTH}
    assert set(report.affines) == {"body_3_norm1", "body_3_norm2", "body_4_norm1", "body_4_norm2"}


def test_a_norm_that_follows_no_synapse_stays() -> None:
    x = samples(4)
    report = fold(build("lif", "float", x, net="pool_net", amplitude=2.0), x).report
    assert report.affines == ["norm3"] and report.gains == {"add_gain_pool1": 1}


def test_the_report_is_plain_and_readable() -> None:
    x = samples(4, dtype=torch.float32)
    report = fold(build("multibit", "uniform4-layer", x, amplitude=1.37), x).report
    document = json.loads(json.dumps(report.as_dict()))
    assert document["samples"] == 4 and document["agreement"] == 1.0
    assert document["layers"]["body_2"]["spikes"] == 3 * 4 * WIDTH * 64
    assert document["forced_flips"] == report.forced_flips
    assert "4 samples" in str(report) and "1 explicit gains" in str(report) and "7 affine maps" in str(report)


def no_gain(surgery: Surgery, **_: Any) -> None:
    for module in surgery.module.modules():
        if isinstance(module, Gain):
            module.factor.fill_(1.0)


def scaled_weight(surgery: Surgery, name: str, factor: float) -> None:
    synapse = surgery.module.get_submodule(name)
    assert isinstance(synapse, Synapse)
    synapse.weight.data.mul_(factor)


def shifted_affine(surgery: Surgery, name: str, by: float) -> None:
    affine = surgery.module.get_submodule(name)
    assert isinstance(affine, Affine)
    affine.shift.add_(by)


def one_sign(surgery: Surgery, name: str) -> None:
    synapse = surgery.module.get_submodule(name)
    assert isinstance(synapse, Synapse)
    synapse.weight.data[3:] *= -1


def rescaled_affine(surgery: Surgery, name: str) -> None:
    affine = surgery.module.get_submodule(name)
    assert isinstance(affine, Affine)
    affine.scale.mul_(1.5)


SMALL = [
    ("float", no_gain, {}),
    ("float", scaled_weight, {"name": "body_0", "factor": 1 + 1e-3}),
    ("float", scaled_weight, {"name": "body_4_conv2", "factor": 1 + 1e-3}),
    ("float", scaled_weight, {"name": "body_7", "factor": 1 + 1e-6}),
    ("sign-layer", shifted_affine, {"name": "body_3_norm2", "by": 1e-3}),
    ("sign-input", one_sign, {"name": "body_4_shortcut_1"}),
]
LARGE = [
    ("float", no_gain, {}),
    ("float", scaled_weight, {"name": "body_4_conv2", "factor": 1.1}),
    ("float", scaled_weight, {"name": "body_7", "factor": 1.02}),
    ("sign-input", no_gain, {}),
    ("sign-input", one_sign, {"name": "body_4_shortcut_1"}),
    ("sign-layer", rescaled_affine, {"name": "body_3_norm1"}),
]


def fold_broken(
    monkeypatch: pytest.MonkeyPatch, weight: str, damage: Callable[..., None], options: dict[str, Any], x: Tensor
) -> None:
    model = build("multibit", weight, x, amplitude=1.37, train_amplitude="channel")
    fold(model, x)
    honest = fold_factors.move_factors

    def broken(surgery: Surgery, *arguments: Any) -> fold_factors.Moved:
        moved = honest(surgery, *arguments)
        damage(surgery, **options)
        return moved

    # The function `bitspike.fold.folding` hides the module of the same name.
    monkeypatch.setattr(importlib.import_module("bitspike.fold.folding"), "move_factors", broken)
    fold(model, x)


@pytest.mark.parametrize(("weight", "damage", "options"), SMALL)
def test_a_slightly_broken_folding_is_detected_in_float64(
    monkeypatch: pytest.MonkeyPatch, weight: str, damage: Callable[..., None], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=WRONG):
        fold_broken(monkeypatch, weight, damage, options, samples(16))


@pytest.mark.parametrize(("weight", "damage", "options"), LARGE)
def test_a_broken_folding_is_detected_in_float32(
    monkeypatch: pytest.MonkeyPatch, weight: str, damage: Callable[..., None], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=WRONG):
        fold_broken(monkeypatch, weight, damage, options, samples(16, dtype=torch.float32))


def test_a_gain_that_is_dropped_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(16)
    model = build("lif", "float", x, amplitude=1.37)
    monkeypatch.setattr(fold_factors, "_gain", lambda *_: None)
    with pytest.raises(ValueError, match=WRONG):
        fold(model, x)


@pytest.mark.parametrize(
    ("dtype", "report"),
    [
        (torch.float64, FoldReport(max_logit_difference=2e-9)),
        (torch.float64, FoldReport(max_logit_difference=float("nan"))),
        (torch.float64, FoldReport(max_logit_difference_forced=2e-9)),
        (torch.float64, FoldReport(layers={"a": LayerFlips(worst_margin=2e-9, largest=1e9)})),
        (torch.float32, FoldReport(max_logit_difference=2e-3)),
        (torch.float32, FoldReport(max_logit_difference_forced=float("nan"))),
        (torch.float32, FoldReport(layers={"a": LayerFlips(worst_margin=0.01, largest=5.0)})),
    ],
)
def test_the_judge_refuses(dtype: torch.dtype, report: FoldReport) -> None:
    graph = trace(nn.Sequential(nn.Identity()))
    with pytest.raises(ValueError, match=WRONG):
        _judge(report, graph, torch.ones(1, 1, dtype=dtype), None)


@pytest.mark.parametrize(
    ("dtype", "report"),
    [
        (torch.float64, FoldReport(max_logit_difference=5e-10, layers={"a": LayerFlips(worst_margin=5e-10)})),
        (torch.float32, FoldReport(max_logit_difference=5e-4, layers={"a": LayerFlips(worst_margin=1e-3, largest=2)})),
    ],
)
def test_the_judge_allows_rounding(dtype: torch.dtype, report: FoldReport) -> None:
    _judge(report, trace(nn.Sequential(nn.Identity())), torch.ones(1, 1, dtype=dtype), None)


def test_the_tolerance_is_relative_to_the_logits_and_can_be_set() -> None:
    graph = trace(nn.Sequential(nn.Identity()))
    report = FoldReport(max_logit_difference=0.05)
    _judge(report, graph, torch.full((1, 1), 100.0), None)
    with pytest.raises(ValueError, match=WRONG):
        _judge(report, graph, torch.full((1, 1), 100.0), 1e-4)
    x = samples(16, dtype=torch.float32)
    with pytest.raises(ValueError, match=WRONG):
        fold(build("lif", "float", x, amplitude=1.37), x, tolerance=0.0)


def test_flips_that_follow_a_tie_are_no_error() -> None:
    """At a tie rounding decides; the neuron's membrane then differs, and so may its later spikes, far from thresholds.

    ``u = 2·I`` is exactly the threshold in the second step of the unfolded network and just below it after folding.
    """
    norm = BatchNorm(1).double().eval()
    norm.weight.data.fill_(0.1)
    for seed in range(200):
        torch.manual_seed(seed)
        linear, x = Linear(8, 1, bias=False), torch.randn(1, 8, dtype=torch.float64)

        def net(threshold: float) -> nn.Sequential:
            neuron = LIF(threshold, decay=1.0)
            return nn.Sequential(Repeat(4), linear, norm, neuron, Linear(1, 2), MeanReadout()).double().eval()  # noqa: B023

        with torch.no_grad():
            current = float(norm(linear.double()(x[None])))
            folded = float(fold(net(1.0), x).net.get_submodule("_1")(x[None]))
        if 0 < folded < current:
            break
    report = fold(net(2 * current), x).report
    layer = report.layers["_3"]
    assert layer.forced == 3 and layer.end_to_end == 3 and layer.worst_margin == 0.0
    assert report.samples_with_flips == 1 and report.max_logit_difference == 0.0
    assert report.max_logit_difference_forced <= 1e-9 < report.max_logit_difference_all


def test_agreement_and_flips_of_the_report_against_a_network_with_another_threshold() -> None:
    """`compare` counts what is there: two networks that differ in one threshold."""

    def net(threshold: float) -> nn.Sequential:
        linear = Linear(1, 1, bias=False)
        linear.weight.data.fill_(1.0)
        return nn.Sequential(Repeat(2), LIF(threshold, decay=0.0), linear, MeanReadout())

    x = torch.tensor([[0.4], [0.6], [1.2]])
    report = compare(trace(net(1.0)), trace(net(0.5)), x, FoldReport())
    layer = report.layers["_1"]
    assert (layer.spikes, layer.forced, layer.end_to_end) == (6, 2, 2)
    assert layer.rate == pytest.approx(1 / 3) and layer.worst_margin == pytest.approx(0.4)
    assert report.samples_with_flips == 1 and report.max_logit_difference == 0.0
    assert report.max_logit_difference_all == 1.0 and report.max_logit_difference_forced == 0.0
    again = compare(trace(net(1.0)), trace(net(1.0)), x, report)
    assert again.samples == 6 and again.layers["_1"].spikes == 12 and again.layers["_1"].rate == pytest.approx(1 / 3)
