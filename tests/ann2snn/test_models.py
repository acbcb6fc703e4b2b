"""Unusual but legal networks: converted to what they compute, or refused by name."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from analog import ann, inputs
from bitspike.cost import cost
from bitspike.neurons import LIF, Adaptive, Integer, Neuron, Signed
from networks import rng

FINE = Integer(200, decay=1.0)


class Model(nn.Module):
    """A forward over two convolutions (4 channels, and ``width``), a map and a norm with cumulative averages."""

    def __init__(self, forward: Callable[[Model, Tensor], Tensor], side: int = 6, width: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.norm = nn.Conv2d(4, width, 3, padding=1), nn.BatchNorm2d(4, momentum=None)
        self.head = nn.Linear(4 * side * side, 3)
        self.what = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.what(self, x).flatten(1))  # type: ignore[no-any-return]


def images(count: int = 12) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=rng(3))


def model(forward: Callable[[Model, Tensor], Tensor], **sizes: int) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Model(forward, **sizes)
        made.norm.running_mean.normal_()  # type: ignore[union-attr]
        made.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made.eval()


def converted(net: nn.Module, neuron: Neuron, T: int) -> float:
    """Error of the conversion, after the fold, the stream and the cost of it."""
    x = images()
    snn = bitspike.ann2snn(net, neuron, x, T, "max", correction="line")
    with torch.no_grad():
        got, wanted = snn(x), net(x)
    parts, states = None, None
    for step in x.unsqueeze(0).expand(T, *x.shape).split(1):
        parts, states = bitspike.stream(snn.graph, step, states)
    assert parts is not None and torch.allclose(parts, got, atol=1e-6)
    cost(bitspike.fold(snn, x).graph, x)
    return float((got - wanted).norm() / wanted.norm())


def _pools_before_each_leaky(m: Model, x: Tensor) -> Tensor:
    return F.leaky_relu(F.max_pool2d(m.b(F.leaky_relu(m.a(x), 0.125)), 2), 0.125)


def _pools_a_norm_of_spikes(m: Model, x: Tensor) -> Tensor:
    return F.max_pool2d(m.norm(F.leaky_relu(m.a(x), 0.125)), 2)


@pytest.mark.parametrize("forward", [_pools_before_each_leaky, _pools_a_norm_of_spikes])
def test_max_pooling_of_currents_in_a_leaky_network(forward: Callable[[Model, Tensor], Tensor]) -> None:
    """A LeakyReLU with weights or a norm behind it sends no spikes to the pool."""
    assert converted(model(forward, side=3), Signed(100, decay=1.0), 4) < 0.01


def _wide_then_narrow(m: Model, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return F.relu(m.b(y) + m.c(y))


def _narrow_then_wide(m: Model, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return F.relu(m.c(y) + m.b(y))


@pytest.mark.parametrize("forward", [_wide_then_narrow, _narrow_then_wide])
def test_one_channel_added_to_many(forward: Callable[[Model, Tensor], Tensor]) -> None:
    """The weights of the one channel cannot take a factor for each of the many."""
    assert converted(model(forward, width=1), FINE, 3) < 0.01


def test_a_current_added_to_itself_is_corrected_once() -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        y = m.b(F.relu(m.a(x)))
        return F.relu(y + y)

    net, x = model(forward), images(64)
    snn = bitspike.ann2snn(net, LIF(decay=1.0, reset="soft"), x, 2, correction="mean")
    currents: list[Tensor] = []

    def note(node, call, args):  # type: ignore[no-untyped-def]
        if node.kind == "neuron":
            currents.append(args[0].mean((0, 1, 3, 4)) * node.module.emission.scale().float())
        return call()

    with torch.no_grad():
        snn.graph.run(x, handler=note)
        wanted = 2 * net.b(F.relu(net.a(x))).mean((0, 2, 3))
    assert snn.report is not None and list(snn.report.layers.values())[1].correction > 0.01
    torch.testing.assert_close(currents[1], wanted, atol=1e-4, rtol=1e-4)
    assert converted(net, FINE, 3) < 0.01


def test_a_norm_with_cumulative_averages() -> None:
    net = model(lambda m, x: F.relu(m.norm(m.a(x))))
    assert converted(net, FINE, 3) < 0.01
    assert net.norm.momentum is None


def _statement(m: Model, x: Tensor) -> Tensor:
    y = m.a(x)
    y.relu_()
    return y


def _unused(m: Model, x: Tensor) -> Tensor:
    F.gelu(m.b(F.relu(m.a(x))))
    return F.relu(m.a(x))


@pytest.mark.parametrize("forward", [lambda m, x: F.relu_(m.a(x)), _statement, _unused])
def test_activations_in_place_only_and_activations_that_nothing_reads(
    forward: Callable[[Model, Tensor], Tensor],
) -> None:
    assert converted(model(forward), FINE, 3) < 0.01


def test_a_neuron_whose_step_is_its_threshold_is_refused() -> None:
    """An amplitude set by the conversion would move the thresholds: the error stayed at a quarter for any T."""
    with pytest.raises(ValueError, match=r"ann2snn: the thresholds must .* got Adaptive, whose step is both;"):
        bitspike.ann2snn(model(lambda m, x: F.relu(m.a(x))), Adaptive(4), images())


@pytest.mark.parametrize(
    "last", [nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Dropout(), nn.AvgPool2d(6))], ids=["all", "6"]
)
def test_logits_that_are_pooled_are_corrected_too(last: nn.Module) -> None:
    """Networks without a linear layer: the mean of every logit is that of the ANN."""
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1, bias=False), last, nn.Flatten())
    x = images(64)
    snn = bitspike.ann2snn(net.eval(), LIF(decay=1.0, reset="soft"), x, 2)
    rough = bitspike.ann2snn(net.eval(), LIF(decay=1.0, reset="soft"), x, 2, correction="none")
    with torch.no_grad():
        wanted = net(x).mean(0)
        torch.testing.assert_close(snn(x).mean(0), wanted, atol=1e-5, rtol=1e-4)
        assert float((rough(x).mean(0) - wanted).abs().max()) > 1e-3


class OptionA(nn.Module):
    """A block of the published CIFAR-10 ResNets: every second pixel, zeros for the missing channels."""

    def __init__(self, inputs: int, outputs: int, pad: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.extra, self.pad = (outputs - inputs) // 2, pad

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        y += self.pad(x, self.extra)
        return F.relu(y)


def _function(x: Tensor, extra: int) -> Tensor:
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra), "constant", 0)


def _ellipsis(x: Tensor, extra: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, extra, extra))[..., ::2, ::2]


@pytest.mark.parametrize("pad", [_function, _ellipsis])
@pytest.mark.parametrize("neuron", [FINE, Signed(100, decay=1.0)], ids=["integer", "signed"])
def test_zero_padding_shortcuts_of_a_torch_model(pad: Callable[[Tensor, int], Tensor], neuron: Neuron) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = OptionA(4, 8, pad), OptionA(8, 12, pad)
        net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), *blocks, nn.Flatten(), nn.Linear(48, 3)).eval()
    assert converted(net, neuron, 3) < 0.01
    snn = bitspike.ann2snn(net, neuron, images(), 1)
    counted = cost(bitspike.fold(snn, images()).graph, images())
    assert counted.uncounted == [] and sum(row.kind == "gain" for row in counted.layers) == 2


def test_padded_images_and_pools_as_functions_in_one_dimension() -> None:
    net = nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ZeroPad2d(1), nn.Conv2d(4, 3, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert converted(net.eval(), FINE, 3) < 0.01

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 4, 3), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = F.max_pool1d(F.relu(self.a(x)), 2)
            return self.head(F.avg_pool1d(F.relu(self.b(y)), 4).flatten(1))  # type: ignore[no-any-return]

    x = torch.randn(12, 2, 36, generator=rng(0))
    snn = bitspike.ann2snn(Line().eval(), FINE, x, 3)
    assert snn.report is not None and snn.report.logit_error < 0.01


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: F.relu(m.a(x))[:, [0, 1, 2, 3]],
        lambda m, x: F.relu(m.a(F.pad(x, (0, 0, 0, 0), "reflect"))),
        lambda m, x: F.pad(F.relu(m.a(x)), (0, 0, 0, 0), value=1.0),
        lambda m, x: F.pad(F.relu(m.a(x)), (1, -1)),
    ],
)
def test_other_cuts_and_pads(forward: Callable[[Model, Tensor], Tensor]) -> None:
    assert converted(model(forward), FINE, 3) < 0.01


def test_fine_tuning_leaves_the_data_alone() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).eval()
    x = torch.randn(16, 6, generator=rng(0))
    before = x.clone()
    bitspike.ann2snn(net, FINE, x, fine_tune=1)
    assert torch.equal(x, before)


def test_names_that_a_conversion_would_give_itself() -> None:
    """A layer called act_affine stood in for the shift in front of act."""
    named = OrderedDict(act=nn.ReLU(), act_affine=nn.Conv2d(2, 4, 3, padding=1), relu=nn.ReLU())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(named).append(nn.Flatten()).append(nn.Linear(144, 3)).eval()
    assert converted(net, FINE, 3) < 0.01


@pytest.mark.parametrize("folds", [False, True], ids=["converted", "folded"])
def test_it_can_be_pickled(folds: bool) -> None:
    net, x = ann("residual"), inputs(12)
    snn: nn.Module = bitspike.ann2snn(net, FINE, x, 2)
    snn = bitspike.fold(snn, x) if folds else snn
    twin = pickle.loads(pickle.dumps(snn))
    assert type(twin) is type(snn) and torch.equal(twin(x), snn(x)) and twin.report == snn.report
    assert [node.name for node in twin.graph] == [node.name for node in snn.graph]  # type: ignore[union-attr]
    for step in x.unsqueeze(0).split(1):
        found, wanted = (bitspike.stream(some.graph, step)[0] for some in (twin, snn))  # type: ignore[arg-type]
        assert torch.equal(found, wanted)
    assert cost(twin.graph, x).total("adds") == cost(snn.graph, x).total("adds")  # type: ignore[arg-type]


def test_a_model_that_holds_the_result_of_a_call_is_refused_in_one_line() -> None:
    net = model(lambda m, x: F.relu(m.a(x)))
    net.seen = net(images())  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"upgrade: the model must hold no result of an earlier call"):
        bitspike.ann2snn(net, FINE, images())


@pytest.mark.parametrize("other", [torch.rand(4, 2, 5, 6), torch.rand(4, 2, 6, 6, dtype=torch.float64)])
def test_batches_that_differ_are_refused_in_one_line(other: Tensor) -> None:
    with pytest.raises(ValueError, match=r"ann2snn: all batches of calibration data must be alike, got \[4, 2, "):
        bitspike.ann2snn(model(lambda m, x: F.relu(m.a(x))), FINE, [images(), other])
