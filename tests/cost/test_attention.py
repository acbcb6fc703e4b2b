"""Products of spikes counted by hand, their alphabets, and a whole attention layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, trace
from bitspike.cost import Cost, LayerCost, activations, at_density, cost, quantized_ann
from bitspike.formats import SpikeFormat, multiplied
from bitspike.layers import ATTENTION, BatchNorm, Conv2d, Linear, MatrixProduct, PairProduct, Product
from bitspike.neurons import LIF, Integer, MultiBit, Real, Ternary

MANY = MultiBit(2, 0, decay=0.0)


class Pair(nn.Module):
    """Two neurons on one input, a product, and what reads it."""

    def __init__(self, a: nn.Module, b: nn.Module, product: PairProduct, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b, self.product, self.behind = a, b, product, behind or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] twice through the product."""
        return self.behind(self.product(self.a(x), self.b(x)))


def only(counted: Cost, kind: str) -> LayerCost:
    (row,) = [row for row in counted.rows if row.kind == kind]
    return row


@pytest.mark.parametrize(
    ("a", "b", "operations"),
    [
        (LIF(decay=0.0), LIF(decay=0.0), (3, 0, 0)),
        (MANY, LIF(decay=0.0), (3, 0, 0)),
        (Ternary(decay=0.0), MANY, (3, 0, 0)),  # −2 is −1, but silent on the other side
        (MANY, MANY, (0, 4, 0)),  # levels 3, 1, 2 of 3, 1, 2: 2 + 1 + 1 set bits
        (MANY, Real(decay=0.0), (0, 0, 3)),
        (MANY, nn.ReLU(), (0, 0, 3)),
        (LIF(decay=0.0), nn.ReLU(), (3, 0, 0)),
        (nn.ReLU(), nn.ReLU(), (0, 0, 3)),
    ],
)
def test_products_by_hand(a: nn.Module, b: nn.Module, operations: tuple[int, int, int]) -> None:
    """Levels 3, 1, 0, 2 and a negative one, at one step; alike at the second, so all counts double."""
    x = torch.tensor([3.0, 1.0, 0.0, 2.0, -2.0]).reshape(1, 1, 5, 1).expand(2, 1, 5, 1)
    counted = cost(Pair(a, b, Product()).eval(), x)
    row = only(counted, "product")
    assert (row.adds, row.shift_adds, row.multiplications) == tuple(2 * n for n in operations)
    assert row.macs == 5 and row.rate == 3 / 5 and row.events == 2 * 3 and not counted.uncounted


@pytest.mark.parametrize(("b", "wanted"), [(LIF(decay=0.0), (6, 0, 0)), (MANY, (0, 8, 0))])
def test_matrix_products_by_hand(b: nn.Module, wanted: tuple[int, int, int]) -> None:
    """x = [[3, 0], [1, 2]], x·xᵀ: rows of x meet in 1, 1, 1 and 2 places: pairs (3, 3), (3, 1), (1, 3), (1, 1), (2, 2).

    Binary on one side: MultiBit·LIF, 1 + 1 + 1 + 2 = 5 pairs. Two heads, the second silent but for one pair (1, 1).
    """
    x = torch.tensor([[[3.0, 0.0], [1.0, 2.0]], [[0.0, 0.0], [1.0, 0.0]]]).reshape(1, 1, 2, 2, 2)
    row = only(cost(Pair(MANY, b, MatrixProduct("second")).eval(), x), "product")
    assert (row.adds, row.shift_adds, row.multiplications) == wanted
    assert row.macs == 2 * 8 and row.events == 6 and (row.inputs, row.outputs) == (16, 8)
    bits = (2 + (1 if wanted[0] else 2)) * 8
    assert row.spike_bytes == bits / 8


def test_a_synapse_reads_products_as_integers() -> None:
    """Levels 3·3, 1·1, 2·2 = 9, 1, 4: 2 + 1 + 1 set bits, three outputs; 4 bits hold 0..9."""
    x = torch.tensor([3.0, 1.0, 0.0, 2.0]).reshape(1, 1, 4, 1, 1)
    counted = cost(Pair(MANY, MANY, Product(), Conv2d(4, 3, 1)).eval(), x)
    row = only(counted, "synapse")
    assert row.spiking and row.input_bits == 4 and row.shift_adds == 12 and row.multiplications == 0


@pytest.mark.parametrize(
    ("a", "b", "count", "label"),
    [
        (SpikeFormat(), SpikeFormat(), 1, "{0,1}"),
        (SpikeFormat(-1, 1), SpikeFormat(0, 3), 1, "{-3..3}"),
        (SpikeFormat(-1, 2), SpikeFormat(-3, 1), 4, "{-24..12}"),
        (SpikeFormat(0, 3, 1, "layer"), SpikeFormat(0, 1, 2, "channel"), 1, "{0..3}·2^-3·a"),
        (SpikeFormat(-1, 1, slope=0.5), SpikeFormat(0, 3), 1, "{-3..3}·(0.5 below 0)"),
        (SpikeFormat(-1, 1, slope=0.5), SpikeFormat(-1, 1), 1, None),
        (SpikeFormat(-1, 1, slope=0.5), SpikeFormat(), 2, None),
        (SpikeFormat(real=True), SpikeFormat(), 1, None),
        (SpikeFormat(0, 255), SpikeFormat(0, 255), 2, None),
    ],
)
def test_alphabets_of_products(a: SpikeFormat, b: SpikeFormat, count: int, label: str | None) -> None:
    for found in (multiplied(a, b, count), multiplied(b, a, count)):
        assert (None if found is None else found.label().replace("{0..1}", "{0,1}")) == label
        if found is not None and a.slope == b.slope == 1:
            values = [i * j for i in range(a.low, a.high + 1) for j in range(b.low, b.high + 1)]
            assert (found.low, found.high) == (count * min(values), count * max(values))


def test_edges_know_products() -> None:
    x = torch.randn(2, 3, 4, 5, 2)
    graph = trace(Pair(Integer(3), Ternary(), MatrixProduct("second")).eval())
    spikes = graph.edges(x).spikes["product"]
    assert spikes is not None and spikes.format == SpikeFormat(-6, 6) and spikes.whole
    assert graph["product"].format is None  # the sum's length is not known without running
    real = trace(Pair(Real(), LIF(), Product()).eval()).edges(x[..., 0]).spikes["product"]
    assert real is not None and real.format is not None and real.format.real


def test_an_attention_layer_by_hand() -> None:
    """Two tokens of two channels at one step, one spike: token 0, channel 0; maps and norms copy what they get.

    q, k: 1 spike × 2 outputs each; sums of 2 channels at 2 tokens; mask·key: 1 pair; projection: 1 spike × 2 outputs.
    """
    layer = ATTENTION["qk_token"](2, 2, LIF(decay=0.0))
    for module in layer.modules():
        if isinstance(module, Conv2d):
            module.weight.data.copy_(2 * torch.eye(2)[:, :, None, None])
    net, x = nn.Sequential(LIF(decay=0.0), layer).eval(), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert torch.equal(net(x), x)
    counted = cost(fold(net, x), x)
    synapses = {row.name.split("_1_")[1].split("_")[0]: row.adds - row.fixed_adds for row in counted.synapses}
    assert synapses == {"q": 2.0, "k": 2.0, "project": 2.0}
    assert only(counted, "product").adds == 1.0 and only(counted, "product").macs == 4
    assert only(counted, "pool").side_adds == 2.0 and not counted.uncounted
    assert counted.total("multiplications") == counted.total("shift_adds") == 0


@pytest.mark.parametrize("name", list(ATTENTION))
def test_everything_is_counted(name: str) -> None:
    layer = ATTENTION[name](6, 5, MultiBit(2), heads=2)
    for module in layer.modules():
        if isinstance(module, BatchNorm):
            module.bias.data.fill_(1.0)
    net, x = nn.Sequential(LIF(), layer, nn.Flatten(2), Linear(30, 3)).eval(), 2 * torch.rand(3, 2, 5, 6)
    counted = cost(net, x)
    products = [row for row in counted.layers if row.kind == "product"]
    assert len(products) == {"ssa": 2, "sdsa": 2}.get(name, 1)
    assert all(row.shift_adds > 0 and row.multiplications == 0 and row.spiking for row in products)
    assert activations(net, x).peak_bytes > 0
    ann, half = quantized_ann(counted), at_density(counted, 0.5)
    assert [row.multiplications for row in ann.layers if row.kind == "product"] == [row.macs for row in products]
    assert [row.shift_adds for row in half.layers if row.kind == "product"] == [row.shift_adds / 2 for row in products]
