"""Use of levels and bits: shares by hand, what has no counts, table, picture, the command."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from bitspike.cli import main
from bitspike.report import LevelUse, level_picture, level_table, level_use
from bitspike.training import study as s
from bitspike.training.recipe import Recipe

BASE = 'name = "base"\n[neuron]\nname = "lif"\n[weight]\nname = "float"\n'
QUEUE = """
name = "use"
out = "out"
base = "base.toml"
seeds = [0, 1]
[[arms]]
name = "binary"
[[arms]]
name = "bits"
[arms.replace.neuron]
name = "multibit"
m = 1
n = 2
[[arms]]
name = "ternary"
[arms.replace.neuron]
name = "ternary"
[[arms]]
name = "old"
[arms.replace.neuron]
name = "integer"
D = 4
[[arms]]
name = "never"
[arms.replace.neuron]
name = "multibit"
m = 1
n = 0
[[arms]]
name = "real"
[arms.replace.neuron]
name = "real"
[[arms]]
name = "learned"
[arms.replace.neuron]
name = "adaptive"
"""
COUNTS: dict[str, list[dict[str, dict[str, int]]]] = {
    "binary": [{"a": {"0": 6, "1": 2}}, {"a": {"0": 8}}],
    "bits": [{"a": {"0": 5, "1": 1, "7": 2}, "b": {"0": 2, "3": 2}}, {"a": {"0": 8}, "b": {"4": 4}}],
    "ternary": [{"a": {"-1": 2, "0": 4, "1": 2}}, {"a": {"0": 8}}],
    "real": [{"a": {}}, {"a": {}}],
    "learned": [{"a": {"0": 1}}, {"a": {"0": 1}}],
}


def result(arm: str, seed: int) -> dict[str, Any]:
    rates = {path: {"rate": 0.5, "levels": counts} for path, counts in COUNTS.get(arm, [{}, {}])[seed].items()}
    rates = rates or {"a": {"rate": 0.5}}  # a result from before levels were counted
    return {"test_accuracy": 0.9, "spike_rate": 0.25, "set_bits": 0.5, "rates": rates}


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "q.toml").write_text(QUEUE)
    study = s.read_study(tmp_path / "q.toml")
    arms = {job.recipe.key("d"): job.arm for job in s.plan(study)}

    def run(recipe: Recipe) -> dict[str, Any]:
        if arms[recipe.key("d")] == "never":
            raise KeyboardInterrupt
        return result(arms[recipe.key("d")], recipe.seed)

    for i in range(14):  # one job at a time, so that one arm can be left out
        s.run_study(study, run, data_digest=lambda _: "d", shard=(i, 14))
    return tmp_path / "q.toml"


def test_shares_by_hand(queue: Path) -> None:
    """bits: 24 neuron-steps: 15 of level 0, one 1, two 7, two 3, four 4; 1 = 001, 3 = 011, 4 = 100, 7 = 111."""
    uses = {use.arm: use for use in level_use(s.read_study(queue))}
    assert list(uses) == ["binary", "bits", "ternary", "old", "never"]  # real and learned levels have no fixed bits
    assert [use.n for use in uses.values()] == [2, 2, 2, 0, 0]
    use = uses["bits"]
    assert (use.high, use.fraction_bits) == (7, 2) and list(use.layers) == ["a", "b"]
    shares = use.shares()
    assert shares == {0: 15 / 24, 1: 1 / 24, 3: 2 / 24, 4: 4 / 24, 7: 2 / 24}
    assert use.shares("b") == {0: 2 / 8, 3: 2 / 8, 4: 4 / 8}
    assert use.saturated() == 2 / 24
    worths = [Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 8), Fraction(2)]
    wanted = [6 / 24, 4 / 24, 5 / 24, None, None]
    assert [use.set_bit(worth) for worth in worths] == pytest.approx(wanted)
    assert use.entropy_bits() == pytest.approx(-sum(p * math.log2(p) for p in shares.values()))
    assert uses["binary"].set_bit(Fraction(1)) == uses["binary"].saturated() == 2 / 16
    assert uses["ternary"].set_bit(Fraction(1)) == 4 / 16 and uses["ternary"].shares()[-1] == 2 / 16
    assert uses["old"].shares() == {}


def test_the_table(queue: Path) -> None:
    study = s.read_study(queue)
    table = level_table(s.summarise(study), level_use(study))
    assert table[0][5:] == ["seeds counted", "at the end %", "information b", "bit 4 %", "bit 2 %", *_HEAD]
    lines = {line[0]: line[1:] for line in table[1:]}
    assert all(len(line) == len(table[0]) for line in table)
    assert lines["bits"][:7] == ["2", "90.00 ±0.00", "25.00 ±0.00", "0.500", "2", "8.33", "1.643"]
    assert lines["bits"][7:] == ["", "", "25.00", "16.67", "20.83"]
    assert lines["binary"][7:] == ["", "", "12.50", "", ""]
    assert lines["old"][4:] == ["0", *["not counted"] * 7]
    assert lines["never"] == ["0", *["not run"] * 3, "0", *["not run"] * 7]


_HEAD = ["bit 1 %", "bit 1/2 %", "bit 1/4 %"]


def test_the_picture(queue: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    study = s.read_study(queue)
    rows, uses = s.summarise(study), level_use(study)
    figure = level_picture(rows, uses, tmp_path / "l.png", "use")
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    everywhere = figure.axes[1]
    ends: dict[int, float] = {}
    for bar in everywhere.patches:
        ends[round(bar.get_y() + bar.get_height() / 2)] = bar.get_x() + bar.get_width()
    assert ends == pytest.approx({0: 12.5, 1: 37.5, 2: 25.0})  # a bar ends at the rate
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ["test accuracy, %", "levels sent, all layers, %", "bit is 1, % of neurons and steps", "a", "b"]
    with pytest.raises(ValueError, match="level picture: at least one arm must have finished with counts"):
        level_picture(rows, [use for use in uses if not use.n], tmp_path / "m.png", "none")


def test_the_command(queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    files = {"--levels": tmp_path / "x" / "l.png", "--json": tmp_path / "c.json"}
    main(["study", str(queue), "--table-only", *(str(a) for pair in files.items() for a in pair)])
    assert files["--levels"].read_bytes().startswith(b"\x89PNG")
    assert "bit 1/4 %" in capsys.readouterr().out
    stored = json.loads(files["--json"].read_text())["levels"]
    assert [LevelUse(**use) for use in stored] == level_use(s.read_study(queue))
