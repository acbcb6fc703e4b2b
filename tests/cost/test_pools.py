"""Behind an average pool of any kind a synapse reads sums of spikes, with the bits that a compiled program proves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike import fold, upgrade
from bitspike.cost import Cost, activations, cost
from bitspike.cost.record import LayerCost
from bitspike.formats import SpikeFormat
from bitspike.layers import AvgPool2d, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Repeat, SumPool2d
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.upgrade.pools import axes_of, sums, windows

NEURONS: dict[str, Callable[[], Neuron]] = {
    "binary": lambda: LIF(0.5),
    "amplitude": lambda: LIF(0.5, amplitude=0.37),
    "ternary": lambda: Ternary(),
    "channels": lambda: Ternary(train_amplitude="channel"),
    "fixed point": lambda: MultiBit(2, 1),
    "8 bits": lambda: MultiBit(8, 0),
    "integers": lambda: Integer(4),
    "adaptive": lambda: Adaptive(3),
    "two amplitudes": lambda: Signed(3, slope=0.25),
}
REGULAR: dict[str, nn.Module] = {
    "square": nn.AvgPool2d(2),
    "rows": nn.AvgPool2d((2, 1)),
    "overlapping": nn.AvgPool2d(3, 2, 1),
    "whole": nn.AdaptiveAvgPool2d(1),
    "quarters": nn.AdaptiveAvgPool2d(2),
    "uneven quarters": nn.AdaptiveAvgPool2d((4, None)),
    "half a sum": nn.AvgPool2d(2, divisor_override=2),
}
X = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer behind pooled spikes: alone, pooled sums of two neurons, or side by side with other spikes."""

    def __init__(self, pool: nn.Module, how: str = "alone") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.pool, self.how = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 1), pool, how
        self.act, self.other = nn.ReLU(), nn.ReLU()
        self.head = nn.Conv2d(8 if how == "concat" else 4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.one(x))
        if self.how == "alone":
            return self.head(self.pool(a))  # type: ignore[no-any-return]
        b = self.other(self.two(a))
        if self.how == "sum":
            return self.head(self.pool(a + b))  # type: ignore[no-any-return]
        if self.how == "sum of pools":
            return self.head(self.pool(a) + self.pool(b))  # type: ignore[no-any-return]
        return self.head(torch.cat([self.pool(a), self.pool(b)], 1))  # type: ignore[no-any-return]


def proved_bits(folded: nn.Module) -> int:
    """Bits of what the last linear map of the compiled program reads."""
    program = bitspike.compile(folded, X)
    last = [made for made in program.operations if made.kind in ("linear", "convolution")][-1]
    written = {
        name: value for made in program.operations for name, value in zip(made.op.outputs, made.written, strict=True)
    }
    value = written[last.op.inputs[0]]
    return (value.high - value.low).bit_length()


@pytest.mark.parametrize("pool", REGULAR)
@pytest.mark.parametrize("name", NEURONS)
def test_bits_are_those_that_the_program_proves(name: str, pool: str) -> None:
    """Torch's own pools and two amplitudes were 32 bits and multiplications."""
    net = upgrade(Net(REGULAR[pool]), {nn.ReLU: NEURONS[name]()}, X, T=2).eval()
    folded = fold(net, X)
    wanted = proved_bits(folded)
    for counted in (cost(net, X), cost(folded.graph, X)):
        row = counted.synapses[-1]
        assert row.step_bits == (wanted,) * 2 and row.spiking and row.multiplications == 0 and not counted.uncounted
        assert row.s_ace == row.macs * 32 * wanted * 2 and row.spike_bytes == row.inputs * wanted * 2 / 8


@pytest.mark.parametrize("how", ["sum", "sum of pools", "concat"])
@pytest.mark.parametrize("pool", ["square", "rows", "quarters"])
@pytest.mark.parametrize("name", ["binary", "ternary", "fixed point"])
def test_sums_and_concatenations_of_pooled_spikes(name: str, pool: str, how: str) -> None:
    net = upgrade(Net(REGULAR[pool], how), {nn.ReLU: NEURONS[name]()}, X, T=1).eval()
    folded = fold(net, X)
    row = cost(folded.graph, X).synapses[-1]
    assert row.step_bits == (proved_bits(folded),) and row.multiplications == 0
    assert (row.s_ace, row.ns_ace) == (cost(net, X).synapses[-1].s_ace, cost(net, X).synapses[-1].ns_ace)


def test_a_rectangular_pool_by_hand() -> None:
    """Levels 0..3 of 4 rows by 2, two rows a window: sums 2 4 / 4 3 of alphabet 0..6, 5 set bits, 3 outputs."""
    model = nn.Sequential(nn.ReLU(), nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Linear(4, 3, bias=False))
    levels = torch.tensor([[0.0, 1.0], [2.0, 3.0], [3.0, 3.0], [1.0, 0.0]]).reshape(1, 1, 4, 2)
    net = upgrade(model, {nn.ReLU: MultiBit(2, 0, decay=0.0)}, levels, T=1).eval()
    counted = cost(net, levels)
    row, pool = counted.synapses[0], only_pool(counted)
    assert (row.step_bits, row.macs, row.set_bits, row.rate) == ((3,), 12, 5 / 4, 1.0)
    assert (row.adds, row.shift_adds, row.multiplications) == (0.0, 12 * 5 / 4, 0.0)
    assert (row.s_ace, row.payload_bits, row.spike_bytes) == (12 * 32 * 3, 4 * 3, 4 * 3 / 8)
    assert (pool.side_adds, pool.side_multiplications, pool.shifts) == (4.0, 0.0, 4.0)  # 1/2 is a shift
    assert (pool.inputs, pool.outputs) == (8, 4) and not counted.uncounted


def test_two_amplitudes_by_hand() -> None:
    """Positive levels are worth 4 negative ones: 2 − 2·0.25 + 1 = 2.5 counts 10 = 1010₂ quarters in −12..48."""
    x = torch.tensor([2.0, -2.0, 1.0, 0.0]).reshape(1, 1, 1, 2, 2)
    net = nn.Sequential(Signed(3, slope=0.25, decay=0.0), AvgPool2d(2), Flatten(), Linear(1, 5, bias=False))
    assert net[0](x).flatten().tolist() == [2.0, -0.5, 1.0, 0.0]
    row = cost(net, x).synapses[0]
    assert (row.step_bits, row.set_bits, row.shift_adds, row.multiplications) == ((6,), 2.0, 10.0, 0.0)
    assert SpikeFormat(-3, 3, slope=0.25).summed(4) == SpikeFormat(-12, 48)
    other = nn.Sequential(Signed(3, slope=0.3, decay=0.0), AvgPool2d(2), Flatten(), Linear(1, 5, bias=False))
    assert cost(other, x).synapses[0].step_bits == (32,)  # no whole number of one is the other


@pytest.mark.parametrize("over", [AvgPool2d(2), SumPool2d(2)])
def test_real_spikes_stay_real(over: nn.Module) -> None:
    net = nn.Sequential(Real(0.5), over, Flatten(), Linear(4, 3))
    assert cost(net, torch.rand(1, 2, 1, 4, 4)).synapses[0].step_bits == (32,)


@pytest.mark.parametrize(
    ("between", "bits"),
    [
        (MaxPool2d(2), 8),
        (AvgPool2d(2), 10),  # 4·255 = 1020
        (SumPool2d(4), 12),  # 16·255 = 4080
        (nn.Sequential(AvgPool2d(2), nn.Identity(), AvgPool2d(2)), 12),
        (nn.Sequential(AvgPool2d(3, 2, ceil=True)), 14),  # lcm(9, 6, 4) = 36; 36·255 = 9180
        (nn.Sequential(Conv2d(1, 1, 1), AvgPool2d(2)), 32),
    ],
)
def test_pooled_inputs_have_the_bits_of_their_sums(between: nn.Module, bits: int) -> None:
    """They were 32 bits whatever the input was stored in."""
    net, x = nn.Sequential(Repeat(2), between, Conv2d(1, 3, 1)), torch.rand(2, 1, 8, 8)
    assert cost(net, x, input_bits=8).synapses[-1].step_bits == (bits, bits)
    assert cost(net, x).synapses[-1].step_bits == (32, 32)
    whole = nn.Sequential(Repeat(1), GlobalAvgPool(), Linear(1, 3))
    assert cost(whole, x, input_bits=4).synapses[0].input_bits == 10  # 64·15 = 960


POOLS = [
    *(nn.AvgPool1d(3, 2, 1), nn.AvgPool1d(3, 2, ceil_mode=True), nn.AvgPool1d(3, 1, 1, count_include_pad=False)),
    *(nn.AvgPool2d((3, 2), (2, 1)), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, divisor_override=3)),
    *(nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 2, ceil_mode=True, divisor_override=1)),
    *(nn.AvgPool3d(2), nn.AvgPool3d((1, 2, 3), padding=(0, 1, 1))),
    *(nn.AdaptiveAvgPool1d(3), nn.AdaptiveAvgPool2d((3, None)), nn.AdaptiveAvgPool2d(5), nn.AdaptiveAvgPool3d(2)),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_windows_of_torchs_pools_are_read_right(pool: nn.Module) -> None:
    """Every mean times the least common divisor is a whole number, and the bound is met where all values are."""
    sizes = [7, 6, 5][: axes_of(pool)]
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 4, (2, 3, *sizes), generator=generator).double()
    count, divisor = sums(pool, sizes)
    k = pool(x) * divisor
    assert (k - k.round()).abs().max() < 1e-9 and k.max() <= 3 * count + 1e-9
    assert (pool(torch.full_like(x, 3.0)) * divisor).max().round() == 3 * count
    held, divisors = windows(pool, sizes)
    assert held.shape == divisors.shape == pool(x)[0, 0].shape
    inner = pool(torch.ones_like(x))[0, 0] == held.double() / divisors  # where there is no padding
    assert inner.any() and (inner.all() or any(torch.as_tensor(pool.padding).flatten()))
    net = upgrade(nn.Sequential(nn.ReLU(), pool), {nn.ReLU: LIF()}, x.float(), T=2).eval()
    counted = cost(net, x.float())
    row = only_pool(counted)
    assert row.side_adds == 2 * 3 * float((held - 1).sum()) and not counted.uncounted
    scaled = float((divisors != 1).sum())
    assert row.side_multiplications + row.shifts == 2 * 3 * scaled


def test_what_a_sum_pool_reads_waits_in_memory_as_for_an_average_pool() -> None:
    x = torch.rand(1, 1, 8, 8)
    nets = [nn.Sequential(Repeat(1), Conv2d(1, 4, 1), pool, LIF(), Flatten()) for pool in (AvgPool2d(2), SumPool2d(2))]
    one, two = (activations(net, x).peak_bytes for net in nets)
    assert one == two >= 4 * 64 * 4


def only_pool(counted: Cost) -> LayerCost:
    (row,) = [row for row in counted.elements if row.kind == "pool"]
    return row
