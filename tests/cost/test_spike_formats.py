"""Pools, sums, concatenations and slices of spikes: equal computations cost the same, at every T, and fold exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, observe, stream, trace
from bitspike.cost import Cost, activations, bit_budget, cost
from bitspike.formats import SpikeFormat
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, GlobalAvgPool, Linear, Refined, Repeat, TimeLayer
from bitspike.models import study_cnn
from bitspike.neurons import LIF, Adaptive, ExtraCost, Integer, MultiBit, Neuron, Signed, Ternary
from bitspike.quantizers import Uniform

POOLS = [AvgPool2d(2), AvgPool2d(3, 2, 1), AvgPool2d(2, ceil=True), AvgPool2d(3, 2, ceil=True), GlobalAvgPool()]
IMAGE = torch.randint(-2, 6, (3, 2, 7, 7), generator=torch.Generator().manual_seed(0)).double() / 2


def pooled(pool: nn.Module, T: int) -> nn.Module:
    torch.manual_seed(0)
    features = pool(torch.zeros(1, 1, 4, 7, 7)).numel()
    neuron = Refined(LIF(0.5), T=T)
    head = Linear(features, 5, weight=Uniform(4))
    return nn.Sequential(Repeat(1), Conv2d(2, 4, 3, padding=1), neuron, pool, Flatten(), head).double().eval()


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_figures_grow_with_the_steps_of_a_pooled_train(pool: nn.Module) -> None:
    """Once 32 bits at T = 1 and T bits afterwards."""
    before: dict[str, float] = {}
    for T in range(1, 5):
        net = pooled(pool, T)
        graph = fold(net, IMAGE).graph
        own, folded = (cost(one, IMAGE).synapses[-1] for one in (net, graph))
        assert (own.step_bits, own.s_ace) == (folded.step_bits, folded.s_ace) and own.ns_ace == folded.ns_ace
        assert own.multiplications == folded.multiplications == 0
        now = {"s_ace": own.s_ace, "budget": bit_budget(cost(graph, IMAGE))["bit_budget"], "sops": own.sops}
        now["memory"] = activations(graph, IMAGE).peak_bytes
        assert all(now[key] >= before.get(key, 0) for key in now) and own.s_ace > before.get("s_ace", 0)
        assert own.step_bits[0] < 32 and own.s_ace == own.macs * 4 * own.step_bits[0] * T
        before = now


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_a_folded_pool_sends_whole_numbers_and_the_logits_stay(pool: nn.Module) -> None:
    net = pooled(pool, 1)
    folded = fold(net, IMAGE)
    name = next(node.name for node in folded.graph if type(node.module) is type(pool))
    seen = folded.graph.showing([name])(IMAGE)[1][0]
    record = folded.graph[name].format
    assert torch.equal(seen, seen.round()) and record is not None and seen.unique().numel() > 2
    assert record.low <= seen.min() and seen.max() <= record.high
    assert folded.report.max_logit_difference_forced <= 1e-12 and not folded.report.gains


def test_a_folded_pool_refuses_windows_that_its_divisor_does_not_fit() -> None:
    folded = fold(pooled(GlobalAvgPool(), 1), IMAGE)
    with pytest.raises(ValueError, match=r"GlobalAvgPool: a folded pool of sums for 1/49 takes windows"):
        folded(IMAGE[..., :5])


class Two(nn.Module):
    """d(cat(a, b)), or d1(a) + d2(b) with the weights of d cut in two."""

    def __init__(self, together: bool, one: Neuron, two: Neuron) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.together = one, two, together
        whole = Conv2d(5, 4, 1, bias=False)
        self.whole, self.left, self.right = whole, Conv2d(2, 4, 1, bias=False), Conv2d(3, 4, 1, bias=False)
        self.left.weight.data, self.right.weight.data = whole.weight.data[:, :2], whole.weight.data[:, 2:]

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(x[:, :, :2]), self.two(x[:, :, 2:])
        if self.together:
            return self.whole(torch.cat([a, b], 2))  # type: ignore[no-any-return]
        return self.left(a) + self.right(b)  # type: ignore[no-any-return]


def frames(channels: int = 5) -> Tensor:
    return torch.randint(-3, 6, (2, 3, channels, 3, 3), generator=torch.Generator().manual_seed(1)).double() / 2


def same(one: Cost, two: Cost) -> None:
    for key in ("s_ace", "ns_ace", "adds", "shift_adds", "multiplications", "macs", "weights", "payload_bits"):
        assert sum(getattr(r, key) for r in one.synapses) == pytest.approx(
            sum(getattr(r, key) for r in two.synapses)
        ), key
    assert one.uncounted == two.uncounted == []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (LIF(0.5), LIF(0.5)),
        (LIF(0.5, amplitude=0.5), LIF(0.5, amplitude=2.0)),
        (LIF(0.5), MultiBit(2, 1)),
        (Ternary(), Integer(3)),
    ],
)
def test_a_concatenation_costs_what_its_parts_cost(one: Neuron, two: Neuron) -> None:
    nets = [Two(together, one, two).double().eval() for together in (True, False)]
    assert torch.allclose(nets[0](frames()), nets[1](frames()))
    same(cost(nets[0], frames()), cost(nets[1], frames()))
    folded = fold(nets[0], frames())
    assert torch.equal(folded(frames()), nets[0](frames())) and not folded.report.gains
    same(cost(folded.graph, frames()), cost(nets[0], frames()))


def test_a_concatenation_streams_and_channels_are_split_again() -> None:
    class Shuffle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.layer = LIF(0.5, amplitude=2.0), Conv2d(4, 3, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.neuron(x).chunk(2, 2)
            return self.layer(torch.cat((right, left), 2))  # type: ignore[no-any-return]

    net, x = Shuffle().double().eval(), frames(4)
    row = cost(net, x).synapses[0]
    assert row.step_bits == (1, 1) and row.multiplications == 0 and row.spiking
    assert torch.equal(fold(net, x)(x), net(x))
    first, states = stream(net, x[:1])
    assert torch.equal(torch.cat([first, stream(net, x[1:], states)[0]]), net(x))

    class OverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = LIF()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.neuron(x), self.neuron(x)], 0)

    with pytest.raises(ValueError, match=r"stream.*joins steps"):
        stream(OverTime(), x)


class Sew(nn.Module):
    """Spikes added to spikes, as in SEW networks."""

    def __init__(self, T: int, amplitude: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.conv = Refined(LIF(0.5), T=1), Conv2d(4, 4, 1, bias=False)
        self.second, self.last = Refined(LIF(0.1, amplitude=amplitude), T=T), Conv2d(4, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + self.second(self.conv(h)))  # type: ignore[no-any-return]


def test_a_sum_of_spikes_has_the_alphabet_of_the_sum() -> None:
    x = frames(4)
    nodes = fold(Sew(1).double(), x).graph
    assert nodes["add"].format == SpikeFormat(0, 2)
    rows = [cost(Sew(T).double().eval(), x).synapses[-1] for T in (1, 2, 3)]
    assert [row.step_bits for row in rows] == [(2,), (2, 1), (2, 1, 1)] and rows[0].multiplications == 0
    unequal = Sew(1, amplitude=0.5).double().eval()
    folded = fold(unequal, x)
    assert folded.report.gains.keys() == {"first_neuron_gain_first_before", "add_gain_first_after"}
    assert folded.graph["add"].format == SpikeFormat(0, 3)
    assert torch.equal(folded(x), unequal(x)) and cost(folded.graph, x).synapses[-1].multiplications == 0


@pytest.mark.parametrize("steps", [2, 3])
def test_steps_of_their_own_before_flattening(steps: int) -> None:
    """A factor a step was once read as one a channel where there are as many, and as an error elsewhere."""
    neuron = Adaptive(2, steps=steps).replicate(2)
    neuron.step_parameter().data = torch.linspace(0.5, 1.5, steps).reshape(steps, 1)
    x = torch.full((steps, 1, 2, 2, 2), 9.0)
    row = cost(nn.Sequential(neuron, Flatten(), Linear(8, 3, bias=False)).eval(), x).synapses[0]
    assert row.set_bits == 2.0 and row.shift_adds == 24 * steps * 2


def test_a_module_called_twice_has_one_size() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neuron = Linear(4, 4), LIF(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.neuron(self.layer(x)))  # type: ignore[no-any-return]

    x = torch.randn(2, 3, 4)
    for net in (Again().eval(), fold(Again(), x).graph):
        counted = cost(net, x)
        assert counted.total("size_bits") == 20 * 32 and counted.total("parameters") == 20
        assert [row.macs for row in counted.synapses] == [16, 16]


def test_what_a_neuron_keeps_beside_its_membrane() -> None:
    x = torch.ones(3, 1, 10)
    plain, tally = (cost(nn.Sequential(Signed(cancels_only=c)), x).elements[0] for c in (False, True))
    assert tally.membrane_bytes == 2 * plain.membrane_bytes == 2 * 2 * 2 * 10 * 4
    assert tally.side_adds == plain.side_adds + 20 and tally.comparisons == plain.comparisons + 20
    peaks = [activations(nn.Sequential(Signed(cancels_only=c)), x).moments[-1].neurons for c in (False, True)]
    assert peaks == [10, 20]

    class Silent(Signed):
        def extra_cost(self) -> ExtraCost | None:  # type: ignore[override]
            return None

    assert cost(nn.Sequential(Silent(cancels_only=True)), x).uncounted == ["_0.state"]
    assert cost(nn.Sequential(Adaptive(2, steps=2)), x).uncounted == []


class Own(TimeLayer):
    """A user's layer with parts inside."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.neuron = BatchNorm(4), LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.norm(x))  # type: ignore[no-any-return]


def test_what_is_inside_other_layers_is_named() -> None:
    net, x = nn.Sequential(Own(), Linear(4, 2)).eval(), torch.randn(2, 3, 4)
    with pytest.warns(UserWarning, match=r"observe: .*_0\.neuron \(LIF\)"):
        observe(net, [x])
    with pytest.warns(UserWarning, match=r"fold: .*_0\.norm \(BatchNorm\)"):
        report = fold(net, x).report
    assert report.unseen == ["_0.norm (BatchNorm)", "_0.neuron (LIF)"] and "_0.neuron" in str(report)
    assert cost(net, x).uncounted == [*report.unseen, "_0"]


def test_a_replaced_classifier_is_the_last_layer() -> None:
    net = study_cnn(LIF(0.5), T=1, shape=(1, 8, 8), width=4, stem_stride=1).eval()
    name, old = [(n, m) for n, m in net.named_modules() if isinstance(m, Linear)][-1]
    net.set_submodule(name, Linear(old.weight.shape[1], 3))
    rows = {row.path: row.role for row in cost(net, torch.randn(2, 1, 8, 8)).synapses}
    assert rows[name] == "last" and list(rows.values()).count("last") == list(rows.values()).count("first") == 1
    assert cost(nn.Sequential(LIF(), Linear(4, 2)), torch.ones(1, 1, 4)).synapses[0].role == "hidden"


def test_a_graph_knows_what_every_edge_carries() -> None:
    net = Two(True, LIF(amplitude=0.5), MultiBit(2, 0)).double()
    spikes = trace(net).edges(frames()).spikes["cat"]
    assert (
        spikes is not None and spikes.counts(45) == [18, 27] and spikes.format == SpikeFormat(0, 3, amplitude="layer")
    )
    assert spikes.scale.tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]
