"""T of inputs that have a time axis: windows over frames, the gradient of their number, what they cost, streams."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, stream, trace
from bitspike.allocation.averages import Averages
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.cost import cost
from bitspike.layers import BatchNorm, Conv2d, Flatten, Join, Linear, MeanReadout, Refined, Windows
from bitspike.models import resnet20
from bitspike.neurons import LIF, Adaptive, MultiBit, Neuron
from bitspike.quantizers import LearnedBits, Uniform
from networks import SPIKING, dyadic, liven, make_neuron, rng, spikes_of

SIZES = [*itertools.product((1, 2, 3, 5, 8), (1, 2, 3, 4, 8))]


def integral(x: Tensor, T: int, count: float) -> Tensor:
    """Means of the held input over T windows of T₁/count frames around fixed centres; the ends are held too."""
    frames, rows = len(x), []
    for t in range(T):
        low, high = ((t + 0.5) / T - 0.5 / count) * frames, ((t + 0.5) / T + 0.5 / count) * frames
        shares = [max(0.0, min(high, i + 1) - max(low, i)) for i in range(frames)]
        shares[0] += max(0.0, -low)
        shares[-1] += max(0.0, high - frames)
        rows.append(sum(share * x[i] for i, share in enumerate(shares)) * count / frames)
    return torch.stack(rows)


def test_windows_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 6.0, 3.0]).reshape(4, 1, 1)
    assert Windows(2)(x).flatten().tolist() == [1.5, 4.5]
    assert Windows(1)(x).flatten().tolist() == [3.0]
    assert Windows(4)(x) is x
    assert Windows(8)(x).flatten().tolist() == [1.0, 1.0, 2.0, 2.0, 6.0, 6.0, 3.0, 3.0]
    assert Windows(3)(x).flatten().tolist() == [1.25, 4.0, 3.75]  # (3·1 + 2)/4, (2·2 + 2·6)/4, (6 + 3·3)/4


@pytest.mark.parametrize(("frames", "T"), SIZES)
def test_windows_are_means_of_the_held_input(frames: int, T: int) -> None:
    x = torch.randn(frames, 3, 2, generator=rng(0), dtype=torch.float64)
    layer = Windows(T).double()
    y = layer(x)
    assert torch.allclose(y, integral(x, T, T), atol=1e-12) and torch.allclose(y.mean(0), x.mean(0), atol=1e-12)
    weights = torch.zeros(T, frames)
    for window, frame, weight in layer.pieces(frames):
        weights[window, frame] += weight
    assert (weights.sum(1) == layer.divisor(frames)).all() and len({*weights.sum(0).tolist()}) == 1


@pytest.mark.parametrize(("frames", "T"), SIZES)
def test_the_gradient_of_steps_is_the_derivative_of_the_windows(frames: int, T: int) -> None:
    """Also where an edge lies between two frames: central differences see the mean of both."""
    x, g = torch.randn(2, max(frames, T), 3, 2, generator=rng(1), dtype=torch.float64)
    x, g = x[:frames].requires_grad_(), g[:T]
    layer = Windows(T, learn_T=True).double()
    layer(x).backward(g)
    tiny = 1e-6
    wanted = (g * (integral(x, T, T + tiny) - integral(x, T, T - tiny))).sum() / (2 * tiny)
    assert layer.raw_steps is not None and layer.raw_steps.grad is not None
    assert torch.allclose(layer.raw_steps.grad, wanted, atol=1e-7)
    (through,) = torch.autograd.grad((g * integral(x, T, T)).sum(), x)
    assert torch.allclose(x.grad, through, atol=1e-12)  # type: ignore[arg-type]


def test_steps_are_clipped_and_rounded_at_refresh() -> None:
    layer = Windows(2, frames=8, learn_T=True)
    assert layer.bound == 8 and Windows(2).bound == 3 and layer.raw_steps is not None
    for raw, steps in ((2.5, 3), (1.4, 1), (-7.0, 1), (99.0, 8)):
        before = layer.time_steps
        layer.raw_steps.data.fill_(raw)
        assert layer.time_steps == before
        layer.refresh()
        assert layer.time_steps == steps == layer.soft_steps().item()
    layer.set_steps(5)
    twin = Windows(2, frames=8, learn_T=True)
    twin.load_state_dict(layer.state_dict())
    assert twin.T == 5 == copy.deepcopy(twin).T and twin.wanted_steps() == 5


def bursts(count: int, frames: int, short: bool) -> tuple[Tensor, Tensor]:
    """(events [frames, 2·count, 2], labels): the unit that the label names is active all the time, or in one frame, the
    second or the last but one."""
    labels = torch.arange(2 * count) % 2
    x = torch.zeros(frames, 2 * count, 2)
    late = torch.randint(0, 2, (2 * count,), generator=rng(3)).bool()
    for sample, (label, last) in enumerate(zip(labels.tolist(), late.tolist(), strict=True)):
        x[(frames - 2 if last else 1) if short else slice(None), sample, label] = 1.0
    return x, labels


def event_net(T: int, frames: int) -> nn.Sequential:
    """Windows – LIF without leak or memory over windows – linear read-out of both units."""
    net = nn.Sequential(Windows(T, frames, learn_T=True), LIF(threshold=0.4, decay=0.0, surrogate="rectangle:1.0"))
    net.extend([Linear(2, 2, bias=False), MeanReadout()])
    net[2].weight.data.copy_(4 * torch.eye(2))
    return net


def train(
    net: nn.Sequential, x: Tensor, labels: Tensor, config: AllocationConfig, steps: int, rate: float = 2.0
) -> list[int]:
    """T after every optimiser step; only T is trained."""
    allocation = Allocation(net, config)
    pull = Averages(allocation, x[:, :1])
    optimiser = torch.optim.SGD([net[0].raw_steps], lr=rate)
    history = []
    for _ in range(steps):
        optimiser.zero_grad()
        (nn.functional.cross_entropy(net(x), labels) + pull()).backward()
        optimiser.step()
        allocation.settle(x, optimiser)
        history.append(net[0].T)
    return history


def test_the_loss_alone_makes_windows_short_enough() -> None:
    """A burst of one frame in eight drives no neuron over windows of four frames; of two frames, it does."""
    x, labels = bursts(16, 8, short=True)
    net = event_net(2, 8)
    silent = net[1](net[0](x)).sum()
    history = train(net, x, labels, AllocationConfig(), 100)
    assert silent == 0 and history[0] == 2 and history[-1] >= 4
    assert net[1](net[0](x)).sum() > 0 and (net(x).argmax(1) == labels).all()


def test_a_pull_makes_windows_long_where_time_does_not_matter() -> None:
    x, labels = bursts(8, 8, short=False)
    net = event_net(4, 8)
    history = train(net, x, labels, AllocationConfig(steps_target=1.0, steps_pull=1.0), 40, 0.2)
    assert history[0] == 4 and history[-1] == 1 and (net(x).argmax(1) == labels).all()


def test_checkpointed_steps_go_on_where_they_were() -> None:
    """T, T̂ and the optimiser's momentum are all there is; the windows keep nothing between calls."""
    x, labels = bursts(16, 8, short=True)
    net = event_net(2, 8)
    once = train(net, x, labels, AllocationConfig(), 30)
    other = event_net(2, 8)
    first = train(other, x, labels, AllocationConfig(), 15)
    fresh = event_net(3, 8)
    fresh.load_state_dict(other.state_dict())
    assert first + train(fresh, x, labels, AllocationConfig(), 15) == once
    assert torch.equal(fresh[0].raw_steps, net[0].raw_steps)


FRAMES = 6


def frames_of(count: int, seed: int = 0) -> Tensor:
    """Event counts [T₁, B, 2, 8, 8]."""
    return torch.randint(0, 4, (FRAMES, count, 2, 8, 8), generator=rng(seed)).double()


def event_cnn(spiking: str, T: tuple[int, int, int], bits: int = 3, **options: Any) -> nn.Sequential:
    """Windows – conv – norm – neuron – conv – norm – neuron – linear – mean, each with T of its own."""
    neuron = make_neuron(spiking, **options)
    weight = LearnedBits(bits)
    layers = [Windows(T[0], frames=FRAMES, learn_T=True)]
    for steps, inputs in zip(T[1:], (2, 4), strict=True):
        layers += [Conv2d(inputs, 4, 3, padding=1, weight=weight), BatchNorm(4)]  # type: ignore[list-item]
        layers.append(Refined(neuron, steps, learn_T=True, squeeze="windows").replicate(4))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*layers, Flatten(), Linear(256, 3, weight=weight), MeanReadout())


@pytest.mark.parametrize("spiking", SPIKING)
@pytest.mark.parametrize("T", [(3, 2, 4), (4, 4, 1), (6, 3, 6)])
def test_networks_with_windows_fold_and_stream(spiking: str, T: tuple[int, int, int]) -> None:
    x = frames_of(5)
    net = liven(event_cnn(spiking, T, amplitude=0.7, train_amplitude="channel"), x)
    graph = trace(net)
    neurons = graph.of_kind("neuron")
    assert tuple(n.T for n in neurons) == T[1:] and T[0] == graph["_0"].T
    folded = fold(net, x)
    report = folded.report
    assert report.forced_flips == 0 and report.max_logit_difference < 1e-9
    assert all(layer.rate > 0.02 for layer in report.layers.values())
    for network, whole in ((graph, net(x)), (folded.graph, folded(x))):
        for sizes in ((1,) * FRAMES, (2, 4), (5, 1), (1, 3, 2), (6,)):
            states, y = None, torch.zeros(())
            for part in x.split(list(sizes)):
                y, states = stream(network, part, states)
            assert torch.equal(y, whole), sizes


def test_a_folded_window_sums_integers() -> None:
    """Four windows over six frames of counts: weights 2, 1 and a divisor of 3, which is in the first convolution."""
    x = frames_of(4)
    net = liven(event_cnn("multibit", (4, 4, 2)), x)
    folded = fold(net, x)
    values: dict[str, Tensor] = {}

    def note(node: Any, call: Any, args: Any) -> Any:
        values[node.name] = call()
        return values[node.name]

    with torch.no_grad():
        folded.graph.run(x, handler=note)
    windows = [n for n in folded.graph if isinstance(n.module, Windows)]
    assert [n.module.summed for n in windows] == [True] * 3  # type: ignore[union-attr]
    first = values[windows[0].name]
    assert torch.equal(first, first.round())
    wanted = torch.stack([2 * x[0] + x[1], x[1] + 2 * x[2], 2 * x[3] + x[4], x[4] + 2 * x[5]])
    assert torch.equal(first, wanted) and Windows(4).divisor(FRAMES) == 3
    assert torch.allclose(values[windows[2].name] / 2, net[6].before(trace_value(net, x, 6)), atol=1e-9)


def trace_value(net: nn.Sequential, x: Tensor, upto: int) -> Tensor:
    """What the first layers make of x."""
    with torch.no_grad():
        return net[:upto](x)  # type: ignore[no-any-return]


def test_no_step_is_sent_before_a_window_closes() -> None:
    x = frames_of(2)
    net = liven(event_cnn("lif", (1, 2, 2)), x, grid=16)
    states = None
    for frame in x[:-1]:
        y, states = stream(net, frame[None], states)
        assert torch.equal(y, torch.zeros(2, 3, dtype=y.dtype))
    assert torch.equal(stream(net, x[-1:], states)[0], net(x))
    again, _ = stream(net, x, stream(net, x)[1])  # the next sequence begins where the last one ended
    assert again.shape == y.shape


@pytest.mark.parametrize("T", [1, 2, 3, 6])
def test_fewer_steps_cost_fewer_operations(T: int) -> None:
    """Two synapses behind windows: macs, bits, updates and S-ACE are those of T steps, not of six frames."""
    x = frames_of(3)
    net = liven(event_cnn("integer", (T, T, T), D=3), x)
    counted = cost(fold(net, x).graph, x)
    hidden = counted.synapses[1:]
    assert [row.T for row in counted.synapses] == [T] * 3
    assert [row.s_ace for row in hidden] == [row.macs * 2 * 3 * T for row in hidden]
    assert [row.updates for row in counted.elements if row.kind == "neuron"] == [T * 4 * 64] * 2
    assert all(row.shift_adds <= row.macs * T * 2 for row in hidden)
    windows = [row for row in counted.elements if row.kind == "windows"]
    assert len(windows) == (T != FRAMES)  # neurons as long as their input have none
    assert not windows or windows[0].side_adds == (FRAMES - T) * 128


def test_the_row_of_windows_by_hand() -> None:
    """Six frames in four windows: eight pieces, so four additions a value; weight 2 four times: shifts, no product."""
    x = frames_of(2)
    net = nn.Sequential(Windows(4), Flatten(), Linear(128, 3), MeanReadout())
    (row,) = [row for row in cost(net.double(), x).elements if row.kind == "windows"]
    assert (row.T, row.inputs, row.side_adds) == (4, 128, 4 * 128)
    assert (row.shifts, row.side_multiplications) == (4 * 128, 4 * 128)  # the means: one factor 1/3 a value
    eight = torch.cat([x, x[:2]])
    (row,) = [row for row in cost(nn.Sequential(Windows(2), *net[1:]), eight).elements if row.kind == "windows"]
    assert row.side_adds == (8 - 2) * 128 and row.shifts == 2 * 128 and row.side_multiplications == 0


@pytest.mark.parametrize("wiring", ["spike", "input"])
def test_residual_networks_keep_time(wiring: str) -> None:
    """Branches of different T meet at the finer one; equal T everywhere is the plain network bit for bit."""
    options: dict[str, Any] = {"width": 4, "shape": (3, 16, 16), "wiring": wiring, "T": 3}
    x = torch.randn(2, 3, 16, 16, generator=rng(2))
    plain = liven(resnet20(MultiBit(1, 1), Uniform(3), **options), x)
    other = resnet20(Refined(MultiBit(1, 1), T=3, learn_T=True, squeeze="windows"), Uniform(3), **options).eval()
    names = [name for name in other.state_dict() if not name.endswith("steps")]
    other.load_state_dict(dict(zip(names, plain.state_dict().values(), strict=True)), strict=False)
    assert torch.equal(plain(x), other(x)) and plain(x).abs().max() > 0.1
    refined = [m for m in other.modules() if isinstance(m, Refined)]
    for index, module in enumerate(refined):
        module.set_steps(1 + index % 3)
    graph = trace(other)
    joins = [node for node in graph if isinstance(node.module, Join)]
    assert joins and all(max(graph[name].T for name in node.inputs) == node.T for node in joins)
    assert {node.T for node in graph.of_kind("neuron")} == {1, 2, 3}
    other(x).square().sum().backward()
    assert all(m.raw_steps is not None and m.raw_steps.grad is not None for m in refined)
    fold(other.double(), x.double())
    frames = x.expand(3, *x.shape).double()
    for sizes in ([3], [1, 2], [1, 1, 1]):
        states = None
        for part in frames.split(sizes):
            y, states = stream(other, part, states)
        assert torch.equal(y, other(x.double()))


def test_joined_branches_keep_time() -> None:
    a, b = torch.tensor([1.0, 3.0]).reshape(2, 1, 1), torch.tensor([3.0, 4.0, 8.0, 1.0]).reshape(4, 1, 1)
    assert Join(keep_time=True)(a, b).flatten().tolist() == [4.0, 5.0, 11.0, 4.0]
    assert Join(keep_time=True).steps([2, 4, 1]) == 4


def test_learned_steps_are_counted_in_the_averages() -> None:
    net = event_cnn("adaptive", (3, 2, 4)).float()
    allocation = Allocation(net, AllocationConfig(steps_target=2.0))
    assert set(allocation.refined) == {"3", "6"} and set(allocation.windows) == {"0"}
    averages = Averages(allocation, torch.zeros(FRAMES, 1, 2, 8, 8))
    assert math.isclose(averages.values()["steps"], (128 * 3 + 256 * 2 + 256 * 4) / 640)
    assert set(allocation.in_use()["steps"]) == {"0", "3", "6"}
    assert len(allocation.groups()["steps"]) == 3


def test_a_stream_needs_the_number_of_frames() -> None:
    net = nn.Sequential(Windows(2), LIF(), Linear(4, 2), MeanReadout()).eval()
    with pytest.raises(ValueError, match="Windows: in a stream the number of frames must be known"):
        stream(net, torch.randn(1, 2, 4))


def test_bad_values(refuses: Any) -> None:
    with refuses("Windows", "T must lie in [1"):
        Windows(0)
    with refuses("Windows", "bound must lie in [3"):
        Windows(3, bound=2)
    with refuses("Windows", "a sequence must have 4 frames, got 3"):
        Windows(2, frames=4)(torch.zeros(3, 1, 1))


def test_neurons_inside_are_those_asked_for() -> None:
    refined = Refined(Adaptive(2), T=2, squeeze="windows")
    assert isinstance(refined.before, Windows) and isinstance(refined.neuron, Neuron)
    x = dyadic(torch.rand(4, 2, 3, generator=rng(4)))
    assert torch.equal(refined(x), refined.neuron(Windows(2)(x)))
    assert spikes_of(refined, x)[0].shape == (2, 2, 3)
