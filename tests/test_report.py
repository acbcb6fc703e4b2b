"""Tables and pictures of a cost show the numbers of the cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bitspike.cost import Cost, LayerCost, cost, cost_summary, energy, energy_constants
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, MultiBit
from bitspike.quantizers import Uniform
from bitspike.report import allocation_picture, cost_picture, cost_table, energy_table, metric_table

NAMES = ["_1", "_3", "_5"]  # the synapses


@pytest.fixture(scope="module")
def counted() -> Cost:
    """Real input – 3-bit weights – 2-bit spikes – 5-bit weights – binary spikes – float weights; T = 3."""
    layers = [
        *(
            Repeat(3),
            Linear(6, 5, weight=Uniform(3)),
            MultiBit(2, 0, threshold=0.1),
            Linear(5, 4, weight=Uniform(5)),
            LIF(0.1),
        ),
        *(Linear(4, 2), MeanReadout()),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(*layers).eval()
        roles = dict(zip((1, 3, 5), ("first", "hidden", "last"), strict=True))
        for place, role in roles.items():
            net[place].role = role
        return cost(net, torch.rand(4, 6), input_bits=8)


def test_the_tables(counted: Cost) -> None:
    table = cost_table(counted)
    assert [line[0] for line in table[1:]] == [*NAMES, "total", "without first, last, downsample"]
    first = next(line for line in table if line[0] == "_1")
    assert first[1:5] == ["synapse", "3", "8", "3"]
    charged = energy(counted, energy_constants("int8_45nm"))
    wide = metric_table(counted, charged)
    assert all(len(line) == 11 for line in wide) and all(len(line) == 10 for line in metric_table(counted))
    line = next(line for line in wide if line[0] == "_3")
    assert line[2:5] == [str(3 * 2 * 5), str(20 * 2 * 5), str(3 * 20 * 2 * 5)]
    assert [line[0] for line in wide[-3:]] == ["total", "without first", "without first, last, downsample"]
    assert wide[-1][2:5] == ["30.00", "200", "600"]
    assert wide[-3][10] == f"{charged.total_pj() / 1e3:,.2f}"
    _, compared = cost_summary(counted)
    rows = energy_table(compared)
    assert [row[0] for row in rows[1:]] == list(compared)
    assert rows[1][8] == "-" and set(rows[3][8].split(", ")) == {"shift", "sram", "multiply"}
    assert rows[1][1] == f"{compared['float32_45nm'].snn.total_pj() / 1e3:,.2f}"
    assert rows[1][6] == compared["float32_45nm"].network.verdict


def test_the_allocation_picture_draws_bits_and_steps(counted: Cost, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = allocation_picture(counted, tmp_path / "a.png", "net")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths == [[3.0, 5.0, 0.0], [8.0, 2.0, 1.0], [3.0, 3.0, 3.0]]
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["real"], [], []]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == NAMES
    means = [axes.lines[0].get_xdata()[0] for axes in figure.axes]
    assert means == pytest.approx([(20 * 5 + 8 * 32) / 28, (5 * 2 + 4 * 1) / 9, 3.0])
    with pytest.raises(ValueError, match="picture: the network must have synapses"):
        allocation_picture(Cost(1), tmp_path / "b.png", "none")


def test_the_allocation_picture_tells_layers_apart(tmp_path: Path) -> None:
    """Different T per layer, and bits that differ from step to step (their mean is drawn)."""
    pytest.importorskip("matplotlib")
    rows = [
        LayerCost("a", "synapse", "hidden", 1, 4, 2, step_bits=(4,), weights=1, inputs=1),
        LayerCost("b", "synapse", "hidden", 3, 2, 3, step_bits=(2, 1, 1), weights=1, inputs=1),
    ]
    figure = allocation_picture(Cost(1, rows), tmp_path / "a.png", "net")
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths == [[2.0, 3.0], [4.0, 4 / 3], [1.0, 3.0]]


def test_the_cost_picture_draws_operations_bytes_and_energy(counted: Cost, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    charged = energy(counted, energy_constants("int8_45nm"))
    figure = cost_picture(counted, tmp_path / "c.png", "net", charged)
    assert (tmp_path / "c.png").stat().st_size > 0 and len(figure.axes) == 3
    sums = [sum(bar.get_width() for bar in axes.patches) for axes in figure.axes]
    operations = sum(counted.total(key) for key in ("adds", "shift_adds", "multiplications"))
    assert sums == pytest.approx([operations / 1e6, counted.total("moved_bytes") / 1e3, charged.total_pj() / 1e6])
    assert len(cost_picture(counted, tmp_path / "d.png", "net").axes) == 2
