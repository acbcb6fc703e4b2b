"""`bitspike demo`, made short: its last part says the commands that it runs, and those of the README run on it."""

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

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SETS = ("model.options.width=12", "train.epochs=6", "data.batch_size=64")


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
    main(["demo", "--quiet"])
    said = capsys.readouterr().out
    assert json.loads(Path("demo-out/compare.json").read_text())["arms"][0]["n"] == 1
    program, weights = Path("demo-out/multibit.bitspike"), Path("demo-out/run/final.safetensors")
    assert load(program).spec.classes == tuple(str(k) for k in range(10))
    size = {path: path.stat().st_size for path in (program, weights)}
    for path in size:
        assert re.search(rf"{size[path]:,}\s+{path}$", said, re.MULTILINE), said
    assert size[program] < size[weights]
    labels = said.split("labels: ")[1].splitlines()[0].split(", ")
    first = [line.split()[1] for line in said.splitlines() if line.startswith("images.npy[")]
    assert len(first) == len(labels) == 8 and sum(a == b for a, b in zip(first, labels, strict=True)) >= 6
    main(["demo", "--quiet"])  # goes on where it was
    assert capsys.readouterr().out == said
    printed = [line.removeprefix("$ bitspike ") for line in said.splitlines() if line.startswith("$ ")]
    assert [command.split()[0] for command in printed] == ["compile", "verify", "run"]
    found = json.loads(Path("demo-out/program.json").read_text())
    assert [found["program_bytes"], found["float32_bytes"]] == list(size.values()) and found["samples"] == 359
    before = program.read_bytes()
    block = README.split("```sh\n")[1].split("```")[0].splitlines()
    commands = [line.removeprefix("bitspike ") for line in block]
    assert set(printed) <= set(commands) and [c.split()[0] for c in commands] == ["compile", "inspect", "verify", "run"]
    for command in commands:
        main(shlex.split(command))
        said_now = capsys.readouterr().out
        assert said_now and (command not in printed or said_now in said)
    assert program.read_bytes() == before
