"""Conversion: every layer in the limit of fine levels, the theorem of equal grids, corrections, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from analog import NETS, Residual, ann, inputs
from bitspike.ann2snn import Converted, skeleton
from bitspike.cost import cost
from bitspike.graph import Graph, trace
from bitspike.layers import ClipFloor, Gain, Synapse
from bitspike.models import Network, he_resnet20
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.observe import levels_of, observe

GRADED = MultiBit(2, 2, decay=1.0)


def outputs(graph: Graph, x: Tensor, kind: str = "neuron") -> dict[str, Tensor]:
    """Values of the nodes of one kind."""
    found: dict[str, Tensor] = {}

    def note(node, call, args):  # type: ignore[no-untyped-def]
        value = call()
        if node.kind == kind:
            found[node.name] = value.clone()
        return value

    with torch.no_grad():
        graph.run(x, handler=note)
    return found


@pytest.mark.parametrize(
    ("neuron", "T"),
    [
        (MultiBit(4, 4, decay=1.0), 8),
        (Integer(100, decay=1.0, threshold=0.7), 16),
        (Signed(60, decay=1.0, threshold=0.7), 8),
        (Signed(decay=1.0), 256),
        (LIF(0.6, 1.0, reset="soft"), 512),
    ],
    ids=["multibit", "integer", "signed", "ternary", "lif"],
)
@pytest.mark.parametrize("name", list(NETS))
def test_fine_levels_approach_the_ann(name: str, neuron: Neuron, T: int) -> None:
    """Whatever the layers and the alphabet: with enough levels in all the logits are those of the ANN."""
    few = isinstance(neuron, LIF) or neuron.format.adds
    if name in ("he", "clip_floor") and few:
        T = 128  # these are held to the looser bound below
    net, x = ann(name), inputs(24)
    before = copy.deepcopy(net.state_dict())
    snn = bitspike.ann2snn(net, neuron, x, T, "max", correction="none")
    with torch.no_grad():
        wanted, got = net(x), snn(x)
    assert float((got - wanted).norm() / wanted.norm()) < (0.05 if few else 0.01)
    assert snn.report is not None and snn.report.logit_error == pytest.approx(
        float((got - wanted).norm() / wanted.norm()), rel=0.1, abs=1e-5
    )
    for layer in snn.report.layers.values():
        assert 0.02 <= layer.rate <= 0.98, layer
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


class Grid(nn.Module):
    """conv – ClipFloor – conv – add – ClipFloor – pool – linear – ClipFloor – linear."""

    def __init__(self, levels: int, ceilings: tuple[float, float, float]) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.acts = nn.ModuleList(ClipFloor(levels, c) for c in ceilings)
        self.pool, self.linear, self.head = nn.AvgPool2d(4), nn.Linear(24, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.acts[0](self.conv1(x))
        x = self.acts[1](x + self.conv2(x))
        return self.head(self.acts[2](self.linear(self.pool(x).flatten(1))))  # type: ignore[no-any-return]


def grid_levels(net: Grid, x: Tensor) -> list[Tensor]:
    """Integers that the three activations of the ANN emit."""
    found = []

    def note(module: nn.Module, args: object, y: Tensor) -> None:
        step = module.ceiling() / module.levels  # type: ignore[operator]
        found.append((y / step).round())

    hooks = [act.register_forward_hook(note) for act in net.acts]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("neuron", [MultiBit(1, 1, decay=1.0), MultiBit(0, 2, 2.0, 1.0), Integer(3, 0.5, 1.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_grids_power_of_two_steps(neuron: Neuron, dtype: torch.dtype) -> None:
    """The theorem: 2^(m+n) − 1 = L, one step: the same integers in every layer, ties included."""
    check_theorem(neuron, (1.5, 3.0, 6.0), dtype, dyadic=True)


@pytest.mark.parametrize(
    "neuron", [MultiBit(2, 2, decay=1.0), MultiBit(1, 1, 0.7, 1.0), Integer(15, 0.3, 1.0)], ids=str
)
def test_equal_grids_float64(neuron: Neuron) -> None:
    """The theorem with any λ; no membrane comes near a threshold."""
    check_theorem(neuron, (1.7, 2.9, 5.3), torch.float64, dyadic=False)


def check_theorem(neuron: Neuron, ceilings: tuple[float, float, float], dtype: torch.dtype, dyadic: bool) -> None:
    levels = neuron.format.high
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        net, x = Grid(levels, ceilings).to(dtype), inputs(16, dtype)
    x = x.mul(4).round() / 4 if dyadic else x
    with torch.no_grad():
        for name, value in net.named_parameters():
            if not name.endswith("raw_ceiling"):
                value.mul_(4)
                value.copy_(value.mul(16).round() / 16 if dyadic else value)
    if dyadic:
        assert all(torch.frexp(act.ceiling() / levels)[0] == 0.5 for act in net.acts)
    wanted = grid_levels(net, x)
    for correction in ("none", "line", "weights"):  # there is nothing to correct
        snn = bitspike.ann2snn(net, neuron, x, 1, correction=correction)
        graph = snn.graph
        spikes = outputs(graph, x)
        got = [levels_of(graph[name].module, value)[0] for name, value in spikes.items()]  # type: ignore[arg-type]
        assert len(got) == 3
        for one, other in zip(got, wanted, strict=True):
            assert torch.equal(one, other.double())
            assert {0.0, float(levels)} <= set(other.unique().tolist())
        with torch.no_grad():
            torch.testing.assert_close(snn(x), net(x), rtol=1e-5, atol=1e-5)


def test_the_theorem_fails_for_unequal_grids() -> None:
    """Seven levels for fifteen: other integers, so the tests above can fail."""
    net, x = Grid(15, (0.5, 0.5, 0.5)), inputs(16)
    snn = bitspike.ann2snn(net, MultiBit(1, 2, decay=1.0), x, 1, correction="none")
    with torch.no_grad():
        assert float((snn(x) - net(x)).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["mean", "line", "weights"])
@pytest.mark.parametrize("sharing", ["channel", "layer"])
@pytest.mark.parametrize("name", ["residual", "chain", "he"])
def test_corrected_means(name: str, sharing: str, kind: str) -> None:
    """On the calibration data the mean logits are the ANN's; the first layer, which sees the input, needs nothing."""
    net, x = ann(name, torch.float64), inputs(24, torch.float64)
    rough = bitspike.ann2snn(net, MultiBit(1, 1, decay=1.0), x, 2, sharing=sharing, correction="none")
    snn = bitspike.ann2snn(net, MultiBit(1, 1, decay=1.0), x, 2, sharing=sharing, correction=kind)
    with torch.no_grad():
        wanted, got, plain = net(x).mean(0), snn(x).mean(0), rough(x).mean(0)
    if name != "chain":  # its last layer is an activation
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        assert float((plain - wanted).abs().max()) > 1e-3
    assert snn.report is not None and rough.report is not None
    assert all(layer.correction == 0 for layer in rough.report.layers.values())
    first, *others = snn.report.layers.values()
    assert first.correction == 0 and first.slope == 0 and all(layer.correction > 0 for layer in others)
    assert all((layer.slope > 0) == (kind != "mean") for layer in others)


@pytest.mark.parametrize("name", ["residual", "chain", "he", "mobile"])
@pytest.mark.parametrize("T", [1, 3])
def test_fold_stream_cost_and_observe(name: str, T: int) -> None:
    net, x = ann(name, torch.float64), inputs(12, torch.float64)
    snn = bitspike.ann2snn(net, GRADED, x, T)
    folded = bitspike.fold(snn, x)
    assert folded.report.forced_flips == 0 and folded.report.agreement == 1
    kept = {n.name: n.module.membrane.initial for n in folded.graph.of_kind("neuron")}  # type: ignore[union-attr]
    assert set(kept.values()) == {GRADED.stairs.spacing / 2}
    sequence, states, parts = x.unsqueeze(0).expand(T, *x.shape), None, None
    for step in sequence.split(1):
        parts, states = bitspike.stream(snn.graph, step, states)
    assert torch.equal(parts, snn(x))
    counted = cost(folded.graph, x)
    # the chain ends in a neuron: its amplitudes stand before the read-out
    gains = [row for row in counted.layers if row.kind == "gain"]
    assert len(gains) == {"residual": 1, "chain": 1, "he": 9, "mobile": 0}[name]
    hidden = [row for row in counted.layers if row.kind == "synapse" and row.role == "hidden"]
    assert hidden and (name == "chain" or all(row.input_bits == 4 for row in hidden if "project" not in row.name))
    activity = observe(snn, [x])
    assert snn.report is not None
    for (key, seen), row in zip(activity.items(), snn.report.layers.items(), strict=True):
        assert key.endswith(row[0]) and seen.T == T
        assert seen.rate == pytest.approx(row[1].rate) and seen.saturation == pytest.approx(row[1].saturation)


def test_gains_with_equal_ranges_fold_away() -> None:
    """One λ for all layers, a level of 1 in the membrane: the shortcut's gain is 1 and folding removes it."""
    net, x = Grid(3, (2.0, 2.0, 2.0)), inputs(8)
    snn = bitspike.ann2snn(net, MultiBit(1, 1, threshold=2.0, decay=1.0), x, 1)
    assert any(isinstance(node.module, Gain) for node in snn.graph)
    folded = bitspike.fold(snn, x)
    assert not folded.report.gains and not any(isinstance(node.module, Gain) for node in folded.graph)


def test_a_skeleton_takes_the_weights_of_a_conversion() -> None:
    net, x = ann("residual"), inputs(12)
    snn = bitspike.ann2snn(net, GRADED, x, 2)
    empty = Converted(skeleton(Residual().eval(), GRADED, torch.zeros(1, 3, 8, 8), 2).graph)
    empty.load_state_dict(snn.state_dict())
    assert torch.equal(empty(x), snn(x)) and empty.report is None


def test_the_report_says_what_it_measured() -> None:
    net, x = ann("residual"), inputs(16)
    snn = bitspike.ann2snn(net, GRADED, [x[:10], x[10:]], 2)
    report = snn.report
    assert report is not None
    spikes = next(iter(outputs(snn.graph, x).values())).mean(0)
    wanted = net.act(net.bn1(net.conv1(x)))
    first = next(iter(report.layers.values()))
    assert first.error == pytest.approx(((spikes - wanted).norm() / wanted.norm()).item(), rel=1e-4)
    assert [layer.path for layer in report.layers.values()] == ["act", "relu", "relu_1"]
    assert [layer.multiplies for layer in report.layers.values()] == [0, 1, 0]
    assert report.as_dict()["samples"] == 16 and "3 neurons {0..15}·2^-2·a, T = 2, mse per channel" in str(report)
    assert len(report.table()) == 4


class Odd(nn.Module):
    """conv – a layer – relu – flatten – linear."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.layer, self.head = nn.Conv2d(3, 4, 3), layer, nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.layer(self.conv(x))).flatten(1))  # type: ignore[no-any-return]


class Times(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize(
    ("layer", "kept"),
    [
        (nn.GELU(), {"layer": "GELU"}),
        (nn.Sigmoid(), {"layer": "Sigmoid"}),
        (nn.GroupNorm(2, 4), {"layer": "GroupNorm"}),
        (nn.LPPool2d(2, 1), {"layer": "LPPool2d"}),
        (nn.ConvTranspose2d(4, 4, 1), {}),
        (Times(), {"layer.mul": "mul"}),
    ],
)
def test_layers_that_no_neuron_takes_over_stay_and_are_named(layer: nn.Module, kept: dict[str, str], T: int) -> None:
    """They work on currents here, of which every T has the same mean."""
    x = inputs(32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Odd(layer).eval()
    snn = bitspike.ann2snn(net, MultiBit(4, 4, decay=1.0), x, T, "max")
    assert snn.report is not None and snn.report.analog == kept and list(snn.report.layers) == ["body_relu"]
    with torch.no_grad():
        assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (MultiBit(2, 2), "integrate-and-fire with soft reset, got decay 0.5, soft reset"),
        (LIF(decay=1.0), "got decay 1, hard reset"),
        (Real(decay=1.0), "must emit levels, got Real with real spikes"),
        (Ternary(decay=1.0, reset="soft"), r"a signed neuron must be able to take spikes back, .* got Ternary"),
    ],
)
def test_neurons_that_do_not_fit(neuron: Neuron, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bitspike.ann2snn(ann("residual"), neuron, inputs(4))


def test_other_bad_input() -> None:
    net, x = ann("residual"), inputs(4)
    with pytest.raises(TypeError, match="the neuron must be a Neuron, got MultiBit"):
        bitspike.ann2snn(net, MultiBit, x)  # type: ignore[arg-type]
    for options, words in (
        ({"threshold": "best"}, "threshold must be one of"),
        ({"percentile": 0.0}, r"percentile must lie in \(0, 100\], got 0"),
        ({"correction": "bias"}, "correction must be one of"),
        ({"sharing": "pixel"}, "sharing must be one of"),
        ({"initial": 1.0}, r"initial membrane must lie in \[0, 1\)"),
        ({"T": 0}, "T must"),
    ):
        with pytest.raises(ValueError, match=words):
            bitspike.ann2snn(net, GRADED, x, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the calibration data"):
        bitspike.ann2snn(net, GRADED, x.fill_(float("nan")))
    with pytest.raises(ValueError, match="the model must have activations, got none"):
        bitspike.ann2snn(nn.Linear(3, 2), GRADED, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="must be an ANN, got a network with neurons"):
        bitspike.ann2snn(he_resnet20(LIF(), width=4, shape=(3, 8, 8)), GRADED, inputs(2))


def test_a_silent_layer_gets_a_finite_range() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].bias.fill_(-100.0)
    snn = bitspike.ann2snn(net, GRADED, torch.rand(8, 3))
    with torch.no_grad():
        torch.testing.assert_close(snn(torch.rand(4, 3)), net(torch.rand(4, 3)))
    assert isinstance(snn, nn.Module) and not isinstance(snn, Network)
    assert all(torch.isfinite(value).all() for value in snn.state_dict().values())
    roles = [n.module.role for n in trace(snn).of_kind("synapse") if isinstance(n.module, Synapse)]
    assert roles == ["first", "last"]
