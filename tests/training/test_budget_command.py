"""Budgets as users give them: limits and units, recipes, the command and its exit codes, the committed sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocation.test_budgets import recipe
from bitspike.allocation.budget import budget_sets, parse_limit
from bitspike.cli import main
from bitspike.files import read_json
from bitspike.schema import canonical_key, to_mapping, to_toml
from bitspike.training.recipe import recipe_from_mapping
from bitspike.training.study import plan, read_study
from training.test_distributed import torchrun


def test_limits_are_read_strictly(refuses: Any) -> None:
    assert parse_limit("b", "s-ace", "50M") == 50_000_000 and parse_limit("b", "ns-ace", "1.5G") == 1_500_000_000
    assert parse_limit("b", "size", "300kB") == 300_000 and parse_limit("b", "activations", "1.5 MiB") == 1_572_864
    assert parse_limit("b", "bit-budget", 12.5) == 12.5 and parse_limit("b", "size", "7B") == 7
    assert parse_limit("b", "size", "2.01kB") == 2010 and parse_limit("b", "activations", "1.005kB") == 1005
    for name, given in (("s-ace", "50MB"), ("s-ace", "50m"), ("size", "300k"), ("size", "3kb"), ("size", "3 KIB")):
        with refuses("b", f"the unit of {name} must be one of"):
            parse_limit("b", name, given)
    for given in ("", "M", "-3M", "0x3", "1_000", "3M5", "nan", "inf", "0", 0, -1, float("inf")):
        with refuses("b", "s-ace"):
            parse_limit("b", "s-ace", given)
    with refuses("b", "'bit-budget', 's-ace', 'ns-ace', 'size', 'activations'", "did you mean 's-ace'?"):
        parse_limit("b", "s_ace", "1M")
    with refuses("b", "s-ace", kind=TypeError):
        parse_limit("b", "s-ace", True)
    with refuses("--budget", "name=limit"):
        budget_sets(["s-ace"])
    with refuses("--budget", "once"):
        budget_sets(["s-ace=1M", "s-ace=2M"])


def test_budgets_in_a_recipe() -> None:
    """Texts and numbers are one key; none is no part of the key of older recipes; TOML reads back equal."""
    text, number = recipe({"size": "3kB", "s-ace": "2M"}), recipe({"s-ace": 2e6, "size": 3000})
    assert text == number and text.key("d") == number.key("d") != recipe({"size": "4kB", "s-ace": "2M"}).key("d")
    assert "[allocation.budget]\ns-ace = 2000000\nsize = 3000\n" in to_toml(text)
    plain = to_mapping(text)
    plain["allocation"] |= {"budget": None}
    without = recipe_from_mapping(plain)
    older = to_mapping(without)
    older["allocation"] = {k: v for k, v in older["allocation"].items() if not k.startswith("budget")}
    first = recipe_from_mapping(older)
    assert first.key("d") == without.key("d") and canonical_key(older) != canonical_key(plain)
    with pytest.raises(ValueError, match="at least one budget"):
        recipe({})


def test_the_three_sizes_kept_their_budgets() -> None:
    """Of every committed job: counted values within the limits of its recipe, the tightest used, and three sizes."""
    root = Path(__file__).resolve().parents[2]
    study = read_study(root / "src" / "bitspike" / "recipes" / "digits_budgets.toml")
    folder = root / "results" / "digits_budgets"
    sizes: dict[str, list[float]] = {}
    for job in plan(study):
        path = folder / job.path.name
        if not path.exists():
            continue
        found: Any = read_json(path)
        budget = found["result"]["budget"]
        given = job.recipe.allocation
        assert given is not None and budget["met"] and 0.9 <= budget["used"] <= 1
        assert {name: row["limit"] for name, row in budget["budgets"].items()} == given.budget
        assert all(row["value"] <= row["limit"] for row in budget["budgets"].values())
        assert budget["budgets"]["size"]["value"] == found["result"]["size_bytes"]
        sizes.setdefault(job.arm, []).append(found["result"]["size_bytes"])
    assert list(sizes) == ["small", "medium", "large"]
    assert max(sizes["small"]) < min(sizes["medium"]) and max(sizes["medium"]) < min(sizes["large"])


@pytest.mark.slow
def test_two_processes_repair_alike(tmp_path: Path) -> None:
    sets = [
        "model.options.width=4",
        "data.batch_size=64",
        "train.threads=1",
        "train.epochs=2",
        "allocation.freeze_epoch=1",
    ]
    command = ["-m", "bitspike", "train", "digits_adaptive", "--quiet", "--budget", "s-ace=400k", "--set", *sets]
    found = []
    for processes in (1, 2):
        torchrun(processes, *command, "--out", str(tmp_path / str(processes)))
        summary: Any = read_json(tmp_path / str(processes) / "summary.json")
        found.append(summary["budget"])
    assert found[0]["repairs"][0]["changed"] and found[0]["met"]
    assert found[0]["repairs"] == found[1]["repairs"] and found[0]["budgets"] == found[1]["budgets"]


TOML = """
name = "small"
[data]
name = "digits"
batch_size = 128
[model.options]
width = 4
stem_stride = 1
[neuron]
name = "lif"
[weight]
name = "learned_bits"
[train]
epochs = 2
threads = 1
"""


def test_the_command_and_its_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(TOML)
    line = ["train", str(tmp_path / "a.toml"), "--quiet", "--out"]
    main([*line, str(tmp_path / "a"), "--budget", "size=3kB", "--budget", "s-ace=1G"])
    assert "budgets met: s-ace " in capsys.readouterr().out
    summary: Any = read_json(tmp_path / "a" / "summary.json")
    assert summary["budget"]["met"] and summary["budget"]["budgets"]["size"]["limit"] == 3000
    assert summary["best_epoch"] == 2
    for given, words in (
        ("size=2kb", "one of 'B', 'kB', 'MB'"),
        ("sice=2kB", "did you mean 'size'?"),
        ("size=10B", "the smallest that this network can reach"),
        ("activations=1MB", "depends on"),
    ):
        with pytest.raises(SystemExit) as refused:
            main([*line, str(tmp_path / "b"), "--budget", given])
        assert refused.value.code == 2 and words in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


def test_a_budget_that_fails_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One layer whose widths are too coarse: said by how much, and that all allocations were tried."""
    (tmp_path / "a.toml").write_text(COARSE)
    line = ["train", str(tmp_path / "a.toml"), "--quiet"]
    with pytest.raises(SystemExit) as failed:
        main([*line, "--out", str(tmp_path / "a"), "--budget", "size=5kB", "--json", str(tmp_path / "a.json")])
    assert failed.value.code == 1
    shown = capsys.readouterr().out
    assert "budgets NOT met: size " in shown and "none of all 3 allocations comes nearer" in shown
    document: Any = read_json(tmp_path / "a.json")
    assert not document["budget"]["met"] and 0.5 < document["budget"]["used"] < 0.9


COARSE = """
name = "coarse"
[data]
name = "digits"
batch_size = 128
[model]
name = "mlp"
[model.options]
hidden = [100, 100]
[neuron]
name = "lif"
[weight]
name = "learned_bits"
bits = 2
bound = 3
[policy]
first = "sign"
last = "sign"
[train]
epochs = 1
threads = 1
"""
