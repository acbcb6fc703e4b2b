"""``bitspike reproduce``: a row again, end to end, identical or by how much not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bitspike.cli import main
from bitspike.runtime import load
from bitspike.training import rows

QUEUE = """
name = "tiny"
out = "out"
seeds = [0, 3]
[base]
name = "tiny"
neuron = {name = "multibit"}
weight = {name = "float"}
model = {name = "mlp", T = 1, options = {hidden = [8]}}
data = {batch_size = 512}
train = {epochs = 1, threads = 1}
[[arms]]
name = "a"
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a table of its own and no results yet."""
    (tmp_path / "queue.toml").write_text(QUEUE, encoding="utf-8")
    monkeypatch.setattr(rows, "TABLES", {"tiny": rows.Table(str(tmp_path / "queue.toml"))})
    monkeypatch.setattr(sys.modules["bitspike.commands.reproduce"], "TABLES", rows.TABLES)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_row_again_is_identical_and_a_change_is_said(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce", "tiny/a", "--seed", "3", "--out", "first", "--quiet"])
    said = capsys.readouterr().out
    assert "nothing is committed for it" in said and "nothing to compare with" in said
    shutil.copytree(tiny / "first" / "tiny", tiny / "results" / "tiny", ignore=shutil.ignore_patterns("runs", ".cut"))
    main(["reproduce", "tiny/a", "--seed", "3", "--out", "second", "--quiet", "--json", "found.json"])
    said = capsys.readouterr().out
    found = json.loads((tiny / "found.json").read_text())
    assert "identical: all" in said and "are those of the committed job" in said
    assert found["compared"]["identical"] and found["environment"]["threads"] == 1 and "kernels" in found["environment"]
    folder = tiny / "second" / "tiny" / "runs" / "a-seed3"
    assert json.loads((folder / "reproduce.json").read_text()) == found
    assert found["program"]["samples"] == 359 and found["program"]["different"] == 0
    assert load(folder / "model.bitspike").spec.info["pixels"]

    path = tiny / "results" / "tiny" / "a-seed3.json"
    document = json.loads(path.read_text())
    document["result"]["test_accuracy"] += 0.25
    document["environment"]["threads"] = 4
    document["data_digest"] = "other"
    path.write_text(json.dumps(document))
    main(["reproduce", "tiny/a", "--seed", "3", "--out", "second", "--quiet"])  # trains nothing again
    said = capsys.readouterr().out
    assert "not identical: 1 of" in said and "test_accuracy 1 of 1, by 0.25 at most" in said
    assert "threads: 4 of the committed job, 1 here" in said and "NOT those of the committed job" in said


def test_what_cannot_be_compiled_says_why(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("compile: the layer must have a rule,\ngot none")

    monkeypatch.setattr(sys.modules["bitspike.commands.reproduce"], "lowered_run", refuse)
    main(["reproduce", "tiny/a", "--quiet", "--json", "found.json"])
    assert "not compiled: compile: the layer must have a rule, got none" in capsys.readouterr().out
    assert set(json.loads((tiny / "found.json").read_text())["program"]) == {"refused"}
    shutil.rmtree(tiny / "runs" / "reproduce" / "tiny" / "runs")
    with pytest.raises(SystemExit):
        main(["reproduce", "tiny/a", "--quiet"])
    assert "must hold the run of the job that is done" in capsys.readouterr().err


def test_the_list_names_every_row(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce", "--json", "rows.json"])
    said = capsys.readouterr().out
    assert "tiny/a" in said and "not run" in said and "benchmarks/models/counts.py" in said
    (row,) = json.loads((tiny / "rows.json").read_text())["rows"]
    assert row == {"row": "tiny/a", "seeds": [0, 3], "committed": [], "test_accuracy": None, "minutes": None}
    with pytest.raises(SystemExit):
        main(["reproduce", "tiny/b"])
    assert "did you mean 'tiny/a'" in capsys.readouterr().err
