"""`bitspike demo`, made short: its last part says the commands that it runs, and each runs again as it is printed."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bitspike.cli import main
from bitspike.runtime import load
from bitspike.schema import override
from bitspike.training.study import Arm, Study, read_study

SETS = ("model.options.width=8", "train.epochs=6", "data.batch_size=64")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One arm, one seed, few epochs of a narrow network."""
    module = sys.modules["bitspike.commands.demo"]

    def read(name: str) -> Study:
        queue = read_study(name)
        arms = tuple(arm for arm in queue.arms if arm.name == "multibit")
        assert isinstance(arms[0], Arm)
        return replace(queue, arms=arms, seeds=(0,), base=override(queue.base, SETS))

    monkeypatch.setattr(module, "read_study", read)


def test_the_demo_ends_with_a_program_that_runs(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    main(["demo", "--out", "out", "--quiet"])
    said = capsys.readouterr().out
    assert json.loads(Path("out/compare.json").read_text())["arms"][0]["n"] == 1
    program, weights = Path("out/multibit.bitspike"), Path("out/run/final.safetensors")
    assert load(program).spec.classes == tuple(str(k) for k in range(10))
    size = {path: path.stat().st_size for path in (program, weights)}
    for path in size:
        assert re.search(rf"{size[path]:,}\s+{path}$", said, re.MULTILINE), said
    assert size[program] < size[weights]
    labels = said.split("labels: ")[1].splitlines()[0].split(", ")
    first = [line.split()[1] for line in said.splitlines() if line.startswith("images.npy[")]
    assert len(first) == len(labels) == 8 and sum(a == b for a, b in zip(first, labels, strict=True)) >= 6
    main(["demo", "--out", "out", "--quiet"])  # goes on where it was
    assert capsys.readouterr().out == said
    printed = [line.removeprefix("$ bitspike ") for line in said.splitlines() if line.startswith("$ ")]
    assert [command.split()[0] for command in printed] == ["compile", "verify", "run"]
    before = program.read_bytes()
    for command in printed:
        main(shlex.split(command))
    assert program.read_bytes() == before
    again = capsys.readouterr().out
    assert all(line in said for line in again.splitlines() if not line.startswith("compile:"))
