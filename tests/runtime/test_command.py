"""`python -m bitspike.runtime`, and the wheel of the runtime alone in an environment that has no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from bitspike.runtime import Builder, Grid, Input, Value, save
from bitspike.runtime.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "runtime" / "golden"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two classes: more of the first two inputs, or of the last."""
    b = Builder(Input(Value((3,), 0, 1, steps=2), repeat=True))
    weight = b.constant(np.array([[1, 1, 0], [0, 0, 1]]), Grid(0, 1))
    program = b.finish(b.add("mean", [b.add("linear", ["input"], tensors={"weight": weight})]), ("few", "last"))
    path = tmp_path / "small.bitspike"
    save(program, path)
    return path


def test_run_prints_and_writes_predictions(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 1, 0], [0, 0, 1]]))
    command = ["run", str(model), "--input", str(tmp_path / "x.npy"), "--top", "2", "--json", str(tmp_path / "y.json")]
    assert main(command) == 0
    assert capsys.readouterr().out == "0: few 2, last 0\n1: last 1, few 0\n"
    rows = json.loads((tmp_path / "y.json").read_text())["predictions"]
    assert rows[1] == {"sample": 1, "top": [{"class": "last", "logit": 1.0}, {"class": "few", "logit": 0.0}]}
    assert main(["inspect", str(model)]) == 0 and "linear" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, _: c[:2], "required: --input"),
        (lambda c, _: ["run", "nowhere.bitspike", *c[2:]], "nowhere.bitspike"),
        (lambda c, _: [*c, "--top", "3"], "1 <= k <= 2"),
        (lambda c, _: [*c, "--top", "0"], "1 <= k <= 2"),
        (lambda c, _: [*c, "--topp", "1"], "unrecognized arguments"),
        (lambda c, at: [*c[:3], str(at / "text.npy")], "must be an .npy file of numbers"),
        (lambda c, at: [*c[:3], str(at / "wide.npy")], r"samples must be [B, 3]"),
        (lambda c, at: ["run", str(at / "text.npy"), *c[2:]], "file"),
    ],
)
def test_bad_input_is_one_line_and_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, words: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.int64))
    np.save(tmp_path / "wide.npy", np.zeros((2, 4), np.int64))
    (tmp_path / "text.npy").write_text("no array")
    command = change(["run", str(model), "--input", str(tmp_path / "x.npy")], tmp_path)  # type: ignore[operator]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and said.err.count("\n") == 1


@pytest.mark.slow
def test_the_wheel_runs_a_golden_file_where_there_is_no_torch(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    made = subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT / "runtime")], capture_output=True)
    if made.returncode:
        pytest.skip("not run: pip cannot fetch hatchling")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = tmp_path.glob("bitspike_runtime-*.whl")
    done = subprocess.run([*pip, "--python", str(python), "install", str(wheel)], capture_output=True)
    if done.returncode:
        pytest.skip("not run: pip cannot fetch numpy")
    code = f"""
import importlib.util, json
import bitspike_runtime
import numpy as np
assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("bitspike") is None
program = bitspike_runtime.load({str(GOLDEN / "v1_0.bitspike")!r})
wanted = json.loads(open({str(GOLDEN / "v1_0.json")!r}).read())
assert program(np.array(wanted["input"])).levels.tolist() == wanted["levels"]
"""
    run = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
