"""Tables and pictures of a cost show the numbers of the cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitspike.cost import Cost, LayerCost, cost, cost_summary, energy, energy_constants
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, MultiBit
from bitspike.quantizers import Uniform
from bitspike.report import (
    allocation_picture,
    cost_picture,
    cost_table,
    energy_table,
    history_picture,
    learns,
    metric_table,
    pareto_picture,
    rewrite_blocks,
)
from bitspike.training.study import ArmSummary, Metric

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


def arm(name: str, accuracy: float, s_ace: float, budget: float) -> ArmSummary:
    metrics = {"test_accuracy": Metric(accuracy, 0.002, 3), "s_ace": Metric(s_ace, 0.0, 3)}
    return ArmSummary(name, 3, {}, {**metrics, "bit_budget": Metric(budget, 0.0, 3)})


def test_the_front_is_what_nothing_beats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [arm("u", 0.89, 32e6, 9.0), arm("l", 0.90, 31e6, 9.5), arm("w", 0.92, 99e6, 32.0)]
    old = ArmSummary("old", 3, {}, {"test_accuracy": Metric(0.95, 0.0, 3)})
    figure = pareto_picture([*rows, old], tmp_path / "p.png", "arms")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    fronts = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in fronts] == [[31.0, 99.0], [9.0, 9.5, 32.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["u", "l", "w"]
    assert figure.get_suptitle() == "arms (without old)"
    with pytest.raises(ValueError, match="picture: an arm must have S-ACE and bit budget"):
        pareto_picture([old], tmp_path / "q.png", "arms")


def test_the_history_has_a_line_per_layer_and_the_average(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scores = {"train_accuracy": 0.5, "validation_accuracy": 0.4}
    history: list[dict[str, Any]] = [
        {"epoch": 1, "weight_bits": 3.5, "allocation": {"weights": {"a": 4.0, "b": 3.0}, "spikes": {}, "steps": {}}},
        {"epoch": 2, "weight_bits": 2.5, "allocation": {"weights": {"a": 3.0, "b": 2.0}, "spikes": {}, "steps": {}}},
    ]
    history = [{**record, **scores} for record in history]
    figure = history_picture(history, tmp_path / "h.png", "run")
    bits, accuracies = figure.axes
    assert (tmp_path / "h.png").stat().st_size > 0 and bits.get_ylabel() == "weight bits"
    assert [line.get_label() for line in bits.lines] == ["a", "b", "average"]
    drawn = [[round(float(v)) for v in line.get_ydata()] for line in bits.lines[:2]]
    assert drawn == [[4, 3], [3, 2]] and list(bits.lines[2].get_ydata()) == [3.5, 2.5]
    assert [list(line.get_ydata()) for line in accuracies.lines] == [[50.0, 50.0], [40.0, 40.0]]
    assert learns(history) and not learns([{"epoch": 1}])
    with pytest.raises(ValueError, match="picture: the history must hold an allocation"):
        history_picture([{"epoch": 1}], tmp_path / "i.png", "run")


def test_blocks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "a\n<!-- table: one -->\n{}<!-- end -->\n<!-- other: two -->\nkept\n<!-- end -->\n"
    text += "<!-- table: x -->\n{}<!-- end -->\n"
    page.write_text(text.format("old\nold\n", ""))
    assert rewrite_blocks(page, {"table": str.upper}, check=True)
    assert "old" in page.read_text()
    assert rewrite_blocks(page, {"table": str.upper})
    assert page.read_text() == text.format("ONE\n", "X\n")
    assert not rewrite_blocks(page, {"table": str.upper})
