"""Weights fitted by least squares during conversion: the optimum of any layer, what it buys, what it leaves alone."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from torch import Tensor, nn

import bitspike
from analog import ann, inputs, train
from bitspike.ann2snn.refit import RIDGE, refit
from bitspike.cost import cost
from bitspike.data import load
from bitspike.layers import Conv2d, Linear, Synapse
from bitspike.models import study_cnn
from bitspike.neurons import LIF, MultiBit, Neuron, Signed
from bitspike.upgrade.layers import Convolution
from networks import rng

LAYERS: dict[str, tuple[Synapse, tuple[int, ...]]] = {
    "linear": (Linear(5, 4), (5,)),
    "convolution": (Conv2d(3, 4, 3, padding=1), (3, 5, 4)),
    "stride": (Conv2d(2, 3, 3, stride=2, padding=1, bias=True), (2, 7, 6)),
    "rectangle": (Convolution(nn.Conv2d(2, 3, (3, 1), (2, 1), padding=(1, 0))), (2, 7, 5)),
    "grouped": (Convolution(nn.Conv2d(4, 6, 3, groups=2)), (4, 5, 6)),
    "depthwise": (Convolution(nn.Conv2d(3, 6, 3, padding="same", dilation=2, groups=3)), (3, 6, 6)),
    "circular": (Convolution(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), (2, 5, 5)),
    "one dimension": (Convolution(nn.Conv1d(3, 2, 3, dilation=2)), (3, 9)),
    "three dimensions": (Convolution(nn.Conv3d(2, 2, 2)), (2, 4, 3, 4)),
}


def outcome(module: Synapse, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return module.connect(x.unsqueeze(0), weight, bias)[0]


def case(name: str) -> tuple[Synapse, Tensor, Tensor, Tensor]:
    """A layer in float64, 70 inputs (more than a chunk), a current, and what it should be."""
    layer, shape = LAYERS[name]
    layer = layer.double()
    x = torch.rand(70, *shape, generator=rng(1), dtype=torch.float64)
    shaped = outcome(layer, x, layer.weight, torch.zeros(len(layer.weight), dtype=torch.float64)).shape
    current, wanted = (torch.randn(shaped, generator=rng(seed), dtype=torch.float64) for seed in (2, 3))
    return layer, x, current, wanted


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_the_least_of_a_stated_sum(name: str) -> None:
    """Design matrix built by asking the layer itself, one weight at a time; ridge by rows of their own."""
    layer, x, current, wanted = case(name)
    weights, bias = layer.weight.numel(), len(layer.weight)
    zeros, none = torch.zeros_like(layer.weight), torch.zeros(bias, dtype=torch.float64)
    columns = []
    for index in range(weights):
        one = zeros.clone().view(-1)
        one[index] = 1
        columns.append(outcome(layer, x, one.view_as(zeros), none).flatten())
    columns += [outcome(layer, x, zeros, one).flatten() for one in torch.eye(bias, dtype=torch.float64)]
    design = torch.stack(columns, 1)
    rows = wanted.numel() // bias  # of one output channel
    groups = getattr(layer, "groups", 1)
    squares = design[:, :weights].square().sum(0).reshape(groups, bias // groups, -1)[:, 0]  # of inputs of a window
    penalty = (RIDGE * squares.mean(1)).repeat_interleave(weights // groups).sqrt()
    ridge = torch.cat([torch.diag(penalty), torch.zeros(weights, bias, dtype=torch.float64)], 1)
    goal = torch.cat([(wanted - current).flatten(), torch.zeros(weights, dtype=torch.float64)])
    best = torch.linalg.lstsq(torch.cat([design, ridge]), goal).solution
    change, shift = refit(layer, x, current, wanted)
    assert rows > 1 and float(change.abs().max()) > 1e-3
    torch.testing.assert_close(change.flatten(), best[:weights], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(shift, best[weights:], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [2.0**60, 2.0**-60])
@torch.no_grad()
def test_squares_beyond_float32(scale: float) -> None:
    """Activations of 10¹⁸ and of 10⁻¹⁸: the same change, bit for bit, and finite."""
    x, current, wanted = (value.float() for value in case("convolution")[1:])
    layer = Conv2d(3, 4, 3, padding=1)
    change, shift = refit(layer, x, current, wanted)
    for factor in (scale, scale * 2.0**10):
        large = refit(layer, x, current * factor, wanted * factor)
        assert torch.equal(large[0], change * factor) and torch.equal(large[1], shift * factor)
        both = refit(layer, x * factor, current * factor, wanted * factor)
        assert torch.equal(both[0], change) and torch.equal(both[1], shift * factor)


@torch.no_grad()
def test_channels_that_lack_nothing_stay() -> None:
    layer, x, current, wanted = case("convolution")
    current[:, 1] = wanted[:, 1] * (1 + 1e-15)
    change, shift = refit(layer, x, current, wanted)
    assert not change[1].any() and shift[1] == 0 and all(bool(change[i].any()) for i in (0, 2, 3))


@torch.no_grad()
def test_where_nothing_arrives_the_bias_is_all() -> None:
    layer, x, current, wanted = case("grouped")
    x[:, :2] = 0  # the first group
    change, shift = refit(layer, x, current, wanted)
    assert not change[:3].any() and bool(change[3:].any())
    torch.testing.assert_close(shift[:3], (wanted - current)[:, :3].mean((0, 2, 3)))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """(a small ANN that knows the digits, 512 images it has seen, the validation images)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        digits, net = load("digits"), study_cnn(nn.ReLU(), T=1, shape=(1, 8, 8), width=16, stem_stride=1)
    train(net, digits.train, lr=0.05, epochs=4)
    seen, unseen = (part.normalise(part.images[:512]) for part in (digits.train, digits.validation))
    return net.eval(), seen, unseen


@pytest.mark.parametrize("neuron", [MultiBit(1, 1, decay=1.0), LIF(decay=1.0, reset="soft"), Signed(1, decay=1.0)])
@pytest.mark.parametrize("T", [1, 4])
@torch.no_grad()
def test_closer_to_the_ann(trained: tuple[nn.Module, Tensor, Tensor], T: int, neuron: Neuron) -> None:
    """On images of the calibration and on others the logits come closer than with corrections by channel."""
    net, seen, unseen = trained
    errors = {}
    for kind in ("line", "weights"):
        snn = bitspike.ann2snn(net, neuron, seen, T, correction=kind)
        assert snn.report is not None
        errors[kind] = (snn.report.logit_error, float((snn(unseen) - net(unseen)).norm() / net(unseen).norm()))
        first, *others = [row["weights"] for row in snn.report.as_dict()["layers"].values()]
        assert first == 0  # it sees the input itself
        assert all((moved > 0.01) == (kind == "weights") for moved in others)
    assert errors["weights"][0] < 0.95 * errors["line"][0] and errors["weights"][1] < 0.95 * errors["line"][1]


class Summed(nn.Module):
    """Two neurons; the current of the second is a sum of two layers, in either order."""

    def __init__(self, second: nn.Module, turned: bool) -> None:
        super().__init__()
        self.stem, self.wide, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), second
        self.turned, self.head = turned, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        parts = self.second(y), self.wide(y)
        y = torch.relu(parts[0] + parts[1] if self.turned else parts[1] + parts[0])
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


SECONDS = {
    "narrow": lambda: nn.Conv2d(4, 5, 1),
    "spread": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 3, padding=1)),  # one pixel for all
    "pooled": lambda: nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.AvgPool2d(3, 1, padding=0), nn.ZeroPad2d(1)),
}


@pytest.mark.parametrize("name", SECONDS)
@torch.no_grad()
def test_of_a_sum_the_layer_with_most_weights(name: str) -> None:
    """Whichever comes first; a layer whose one pixel is spread over the image or that is pooled is none to fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Summed(SECONDS[name](), False).eval()
    other = copy.deepcopy(net)
    other.turned = True
    x = torch.rand(32, 2, 8, 8, generator=rng(0))
    neuron = LIF(decay=1.0, reset="soft")
    reports = [bitspike.ann2snn(one, neuron, x, 2, correction="weights").report for one in (net, other)]
    line = bitspike.ann2snn(net, neuron, x, 2).report
    assert line is not None and all(report is not None for report in reports)
    first, second = (list(report.layers.values())[1] for report in reports)  # type: ignore[union-attr]
    assert first.weights == pytest.approx(second.weights, rel=1e-3) and first.weights > 0.01
    assert first.error == pytest.approx(second.error, rel=1e-2) and first.error < list(line.layers.values())[1].error


@torch.no_grad()
def test_nothing_is_learned_by_heart() -> None:
    """Below 4 samples for each of 48 weights only the corrections by channel remain, and the report says so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.rand(192, 6, generator=rng(0))
    for samples, fitted in ((191, False), (192, True)):
        found = [
            bitspike.ann2snn(net, MultiBit(1, 1, decay=1.0), x[:samples], 1, correction=kind)
            for kind in ("line", "weights")
        ]
        assert found[1].report is not None
        assert ([row[8] for row in found[1].report.table()[1:]] != ["0", "0"]) == fitted
        assert torch.equal(found[0](x), found[1](x)) != fitted


@torch.no_grad()
def test_the_result_is_an_ordinary_network() -> None:
    """Folds, counts and streams; the ANN is left alone."""
    net, x = ann("he"), inputs(64)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    snn = bitspike.ann2snn(net, MultiBit(1, 1, decay=1.0), x, 2, correction="weights")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    folded = bitspike.fold(snn, x)
    assert folded.report.forced_flips == 0
    torch.testing.assert_close(folded(x), snn(x), rtol=1e-4, atol=1e-4)
    plain = bitspike.ann2snn(net, MultiBit(1, 1, decay=1.0), x, 2)
    assert cost(snn.graph, x).size_bytes == cost(plain.graph, x).size_bytes
    states, last = None, cast(Tensor, None)
    for _ in range(2):
        last, states = bitspike.stream(snn, x.unsqueeze(0), states)
    assert last.shape == snn(x).shape
