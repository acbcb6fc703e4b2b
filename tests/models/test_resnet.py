"""Residual networks: the papers' counts, both wirings, SEW sums, shortcuts, folding."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bitspike
from bitspike.cost import cost
from bitspike.graph import trace
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Gain, GlobalAvgPool, Linear, Synapse
from bitspike.models import Policy, he_resnet20, inert_parameters, resnet18, resnet19, resnet20
from bitspike.models.pad import PadShortcut
from bitspike.neurons import LIF, MultiBit, Neuron, Ternary
from bitspike.quantizers import Float, Sign, TernaryWeight, Uniform
from builders import RESNETS, WIRINGS, Count, count, expect_fold, expect_shapes, expect_stream, images, tiny
from networks import liven

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)


def millions(number: float, digits: int) -> str:
    return f"{number / 1e6:.{digits}f}"


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "stem"),
    [("resnet20", "11.248", "215.7", "1.77"), ("resnet19", "12.569", "2285", "3.54")],
)
def test_counts_of_the_ternary_paper(name: str, parameters: str, macs: str, stem: str) -> None:
    """Parameters, MACs a step, MACs of the first conv, and the 319,488 neurons of ResNet20."""
    got = count(name, CIFAR)
    assert millions(got.parameters, 3) == parameters
    assert millions(got.total(2), 0 if "." not in macs else 1) == macs
    assert millions(got.stem_macs, 2) == stem
    if name == "resnet20":
        assert got.neurons == 319_488


@pytest.mark.parametrize(
    ("name", "shape", "options", "row"),
    [
        ("he_resnet20", CIFAR, {"shortcut": "stride"}, "0.271 0.270 0.0408 0.0404 0.209 0.646"),
        ("wide_resnet20", CIFAR, {}, "17.277 17.274 2.587 2.584 1.672 41.34"),
        ("resnet19", CIFAR, {}, "12.559 12.555 2.285 2.282 1.606 36.51"),
        ("resnet18_cifar", CIFAR, {}, "11.164 11.163 0.5554 0.5537 0.664 8.86"),
        ("resnet18", IMAGENET, {}, "11.679 11.670 1.814 1.696 2.033 27.14"),
        ("resnet34", IMAGENET, {"sew": True}, "21.780 21.770 3.664 3.546 3.287 56.73"),
    ],
)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_counts_of_the_adaptive_paper(name: str, shape: Any, options: dict[str, Any], row: str, wiring: str) -> None:
    """Weights and MACs with and without stem, input activations and S-ACE at W4 S4 T1 without."""
    got = count(name, shape, wiring=wiring, **options)
    values = [got.total(1) / 1e6, got.total(1, False) / 1e6, got.total(2) / 1e9, got.total(2, False) / 1e9]
    values += [got.total(3, False) / 1e6, 16 * got.total(2, False) / 1e9]
    for value, printed in zip(values, row.split(), strict=True):
        assert f"{value:.{len(printed.partition('.')[2])}f}" == printed


@pytest.mark.parametrize(("name", "parameters"), [("he_resnet20", 269_722), ("he_resnet32", 464_154)])
def test_counts_of_the_published_networks(name: str, parameters: int) -> None:
    assert count(name, CIFAR).parameters == parameters


def test_counts_agree_with_the_cost_pass() -> None:
    x = images(1, CIFAR, torch.float32)
    net = he_resnet20(LIF(), T=1).eval()
    counted = cost(net, x)
    synapses = [row for row in counted.layers if row.kind == "synapse"]
    assert sum(row.macs for row in synapses) == count("he_resnet20", CIFAR).total(2)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", RESNETS)
def test_shapes(name: str, wiring: str) -> None:
    expect_shapes(name, wiring)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", RESNETS)
def test_streams(name: str, wiring: str) -> None:
    expect_stream(name, wiring)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", RESNETS)
def test_folds(name: str, wiring: str, steps: int) -> None:
    neuron = Ternary(train_amplitude="layer") if steps == 2 else MultiBit(1, 1, train_amplitude="channel")
    weight = Sign("output") if steps == 2 else None
    net = tiny(name, neuron, weight=weight, wiring=wiring, T=steps)
    folded = expect_fold(net, images(6, RESNETS[name]["shape"]))
    assert not [m for m in folded.modules() if isinstance(m, BatchNorm)]


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", RESNETS)
def test_every_synapse_but_the_first_reads_spikes_of_its_own_neuron(name: str, wiring: str) -> None:
    graph = trace(tiny(name, LIF(), wiring=wiring))
    first, *others = graph.of_kind("synapse")
    assert graph[first.inputs[0]].path == "encoder"
    for node in others:
        before = graph[node.inputs[0]]
        if wiring == "input":
            assert before.kind == "neuron" and before.consumers == (node.name,)
        elif not RESNETS[name].get("sew"):
            assert before.kind == "neuron" or isinstance(before.module, (AvgPool2d, GlobalAvgPool))
    if wiring == "input":
        assert len(graph.of_kind("neuron")) == len(others)
        assert not [node for node in graph.of_kind("add") if node.format is not None or node.sources]


@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_neuron_in_front_of_the_first_conv_on_demand(wiring: str) -> None:
    graph = trace(tiny("resnet19", LIF(amplitude=2.0, train_amplitude="channel"), wiring=wiring, input_neuron=True))
    before = graph[graph.of_kind("synapse")[0].inputs[0]]
    assert before.path == "body.input" and isinstance(before.module, Neuron)
    assert before.module.emission.scale().tolist() == pytest.approx([2.0] * 3)


def test_a_block_adds_before_the_neuron_and_its_shortcut_carries_spikes() -> None:
    graph = trace(tiny("resnet19", LIF()))
    adds = graph.of_kind("add")
    assert len(adds) == 8
    for node in adds:
        assert [graph[name].kind for name in node.consumers] == ["neuron"]
        branch, shortcut = (graph[name] for name in node.inputs)
        assert isinstance(branch.module, BatchNorm)
        assert shortcut.kind == "neuron" or isinstance(shortcut.module, BatchNorm)


def test_signed_neurons_get_no_rectifier() -> None:
    kinds = [[type(m) for m in tiny("resnet19", neuron, wiring="input").modules()] for neuron in (Ternary(), LIF())]
    assert nn.ReLU not in kinds[0] and kinds[1].count(nn.ReLU) == 1 + 2 * 8


def test_stems() -> None:
    names = [[n for n, _ in tiny(name, LIF()).body.named_children()] for name in ("resnet19", "resnet20", "resnet18")]
    assert names[0][:2] == ["stem", "layer1"]
    assert names[1][:5] == ["stem", "stem2", "stem3", "pool", "layer1"]
    assert names[2][:3] == ["stem", "pool", "layer1"]
    pool = tiny("resnet18", LIF()).get_submodule("body.pool")
    assert isinstance(pool, AvgPool2d) and (pool.kernel, pool.stride, pool.padding) == (3, 2, 1)


@pytest.mark.parametrize(("name", "kernel", "stride"), [("resnet19", 1, 2), ("resnet20", 1, 1)])
def test_projections(name: str, kernel: int, stride: int) -> None:
    net = tiny(name, LIF())
    found = [m for m in net.modules() if isinstance(m, Conv2d) and m.role == "downsample"]
    assert len(found) == {"resnet19": 2, "resnet20": 3}[name]
    assert {(m.weight.shape[2], m.stride) for m in found} == {(kernel, stride)}


@pytest.mark.parametrize("depth", [18, 34])
def test_sums_of_spikes_in_a_sew_stage_reach_one_more_than_its_blocks(depth: int) -> None:
    net = tiny(f"resnet{depth}", LIF(), T=1, sew=True) if depth == 34 else tiny("resnet18", LIF(), T=1, sew=True)
    net.eval()
    for norm in (m for m in net.modules() if isinstance(m, BatchNorm)):
        nn.init.constant_(norm.bias, 1e6)  # every neuron fires
    graph, greatest = trace(net), {}

    def note(node: Any, call: Any, args: Any) -> Any:
        value = call()
        if node.kind == "add":
            greatest[node.name] = float(value.max())
        return value

    with torch.no_grad():
        graph.run(torch.zeros(1, 3, 64, 64), handler=note)
    depths = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]
    assert list(greatest.values()) == [block + 2 for blocks in depths for block in range(blocks)]
    assert all(graph[name].format.high >= value for name, value in greatest.items())  # in units behind the stem's pool


def test_a_sew_block_adds_behind_its_neurons() -> None:
    graph = trace(tiny("resnet18", LIF(), sew=True))
    for node in graph.of_kind("add"):
        branch, shortcut = (graph[name] for name in node.inputs)
        assert branch.kind == "neuron"
        assert shortcut.kind in ("neuron", "add") or isinstance(shortcut.module, AvgPool2d)
    graph = trace(tiny("resnet18", LIF(), sew=True, wiring="input"))
    assert {type(graph[node.inputs[0]].module) for node in graph.of_kind("add")} == {nn.ReLU}


def neurons_of(name: str, *own: str) -> set[str]:
    blocks = [n for n, _ in tiny(name, LIF()).named_modules() if re.fullmatch(r"body\.layer\d\.\d", n)]
    return {f"{block}.neuron1" for block in blocks} | {f"body.{n}" for n in own}


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("resnet19", {}, ("layer1.2.neuron2", "layer2.2.neuron2")),
        ("resnet20", {}, ("stem.neuron", "stem2.neuron", *(f"layer{i}.1.neuron2" for i in (1, 2, 3)))),
        ("he_resnet20", {}, ()),
        ("resnet34", {}, ()),
    ],
)
def test_amplitudes_that_act_are_those_on_shortcuts_and_in_front_of_the_classifier(
    name: str, options: dict[str, Any], others: tuple[str, ...]
) -> None:
    net = tiny(name, Ternary(train_amplitude="layer"), **options)
    assert {n.removesuffix(".emission.raw_amplitude") for n in inert_parameters(net)} == neurons_of(name, *others)


@pytest.mark.parametrize("name", RESNETS)
def test_with_neurons_at_inputs_only_the_last_amplitude_acts(name: str) -> None:
    net = tiny(name, MultiBit(train_amplitude="layer"), wiring="input")
    every = {n for n, _ in net.named_parameters() if n.endswith("raw_amplitude")}
    assert every - set(inert_parameters(net)) == {"body.neuron.emission.raw_amplitude"}
    assert not inert_parameters(tiny(name, MultiBit(train_amplitude="channel"), wiring="input"))


def test_the_warning_names_the_line_that_builds() -> None:
    with pytest.warns(UserWarning, match=r"inert.*layer1\.0\.neuron1") as caught:
        resnet19(Ternary(train_amplitude="layer"), width=4, shape=(3, 8, 8))
    assert [w.filename for w in caught] == [__file__]


def test_policies_apply_by_role() -> None:
    policy = Policy(first=Uniform(8), last=Float(), downsample=TernaryWeight("layer"))
    net = tiny("resnet20", LIF(), weight=Sign("output"), policy=policy)
    kinds = {"first": Uniform, "last": Float, "downsample": TernaryWeight, "hidden": Sign}
    synapses = [m for m in net.modules() if isinstance(m, Synapse)]
    assert [type(m.quantizer) for m in synapses] == [kinds[m.role] for m in synapses]
    roles = [m.role for m in synapses]
    assert (roles[0], roles[-1]) == ("first", "last") and isinstance(synapses[-1], Linear)
    assert [roles.count(r) for r in ("first", "last", "downsample", "hidden")] == [1, 1, 3, 2 + 2 * 8]
    net = tiny("resnet20", LIF(), weight=Sign())
    synapses = [m for m in net.modules() if isinstance(m, Synapse)]
    assert {m.role for m in synapses if m.quantizer.format.real} == {"first", "last"}


def test_rectifiers_at_inputs_and_behind_norms_make_the_same_analog_network() -> None:
    x = images(3, (3, 16, 16))
    nets = [tiny("resnet20", nn.ReLU(), wiring=wiring, T=1) for wiring in WIRINGS]
    liven(nets[0], x)
    weights = list(nets[0].state_dict().values())
    named = dict(zip(nets[1].state_dict(), weights, strict=True))
    nets[1].double().eval().load_state_dict(named)
    with torch.no_grad():
        assert torch.equal(nets[0](x), nets[1](x)) and nets[0](x).std() > 0
        folded = bitspike.fold(nets[0], x)
        torch.testing.assert_close(folded(x), nets[0](x))


def test_the_pad_shortcut_takes_every_second_pixel_and_adds_zero_channels() -> None:
    x = images(2, (3, 5, 7)).unsqueeze(0)
    wanted = F.pad(x[0, :, :, ::2, ::2], (0, 0, 0, 0, 1, 2))
    assert torch.equal(PadShortcut(3, 6, 2)(x)[0], wanted)
    assert torch.equal(PadShortcut(3, 3, 1)(x), x)
    with pytest.raises(ValueError, match=r"PadShortcut: the input must be \[T, B, 2, H, W\]"):
        PadShortcut(2, 4, 2)(x)
    with pytest.raises(ValueError, match="outputs must lie in"):
        PadShortcut(4, 2, 2)


def test_a_factor_passes_the_pad_shortcut() -> None:
    pad, factor = PadShortcut(2, 5, 2), torch.tensor([3.0, 0.5], dtype=torch.float64)
    assert pad.carry(factor, (1, 1, 2, 4, 4)).tolist() == [1.0, 3.0, 0.5, 1.0, 1.0]
    assert pad.carry(factor[0], (1, 1, 2, 4, 4)).tolist() == 3.0
    x = images(2, (2, 4, 4)).unsqueeze(0)
    carried = Gain(pad.carry(factor, tuple(x.shape)))(pad(x))
    assert torch.equal(carried, pad(Gain(factor)(x)))


def test_folding_leaves_gains_with_one_on_the_padded_channels() -> None:
    net = tiny("he_resnet20", Ternary(train_amplitude="channel"))
    folded = expect_fold(net, images(6, (3, 8, 8)))
    pads = [node for node in folded.graph if isinstance(node.module, PadShortcut)]
    assert len(pads) == 2
    for pad, width in zip(pads, (4, 8), strict=True):
        gain = folded.graph[pad.consumers[0]].module
        assert isinstance(gain, Gain) and gain.factor.shape == (2 * width,)
        inner = slice(width // 2, width // 2 + width)
        outer = torch.cat([gain.factor[: inner.start], gain.factor[inner.stop :]])
        assert outer.eq(1).all() and gain.factor[inner].ne(1).all()
        assert pad.format is not None and pad.sources


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: resnet19(LIF(), wiring="inputs"), r"resnet19: wiring must be one of.*did you mean 'input'\?"),
        (lambda: resnet20(LIF(), shape=(1, 28, 0)), r"resnet20: .*\(C, H, W\), all at least 1, got \(1, 28, 0\)"),
        (lambda: resnet19(LIF(), shape=(32, 32)), r"resnet19: the image must be \(C, H, W\)"),
        (lambda: resnet19(LIF(), width=0), "resnet19: width must lie in"),
        (lambda: resnet19(LIF(), classes=0), "resnet19: classes must lie in"),
        (lambda: resnet19(LIF(), T=0), "T must lie in"),
        (lambda: he_resnet20(LIF(), shortcut="A"), "shortcut: kind must be one of"),
        (lambda: resnet19(nn.ReLU(), norm="threshold"), "norm 'threshold' needs a neuron with a threshold"),
    ],
)
def test_bad_values_are_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_a_class_is_no_prototype() -> None:
    with pytest.raises(TypeError, match=r"the neuron must be a module, got LIF; pass an object such as LIF\(\)"):
        resnet18(LIF)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("wiring", WIRINGS)
@torch.no_grad()
def test_images_of_any_side_need_no_padding(name: str, wiring: str) -> None:
    """28 × 28 of MNIST, 34 × 34 of N-MNIST and odd ones: shortcuts round up as convolutions with a stride do."""
    shortcuts: list[dict[str, Any]] = [{"shortcut": kind} for kind in ("pad", "stride")] if name[:2] == "he" else [{}]
    for options, sides in product(shortcuts, ((7, 5), (28, 28), (34, 33))):
        net = tiny(name, LIF(), shape=(1, *sides), wiring=wiring, **options).eval()
        assert net(torch.rand(2, 1, *sides)).shape[0] == 2


def test_the_count_helper_leaves_out_the_stem() -> None:
    got = Count(0, [("first", 1, 2, 3), ("hidden", 4, 5, 6)], 0)
    assert (got.total(1), got.total(1, stem=False), got.stem_macs) == (5, 4, 2)
