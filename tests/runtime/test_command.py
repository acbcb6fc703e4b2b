"""`python -m bitspike.runtime`: its commands, what they print and leave behind, and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitspike.runtime import Builder, Grid, Input, Value, load, save
from bitspike.runtime.__main__ import main
from bitspike.runtime.engine import why_missing

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
    said = capsys.readouterr()
    assert said.out == "0: few 2, last 0\n1: last 1, few 0\n" and said.err == load(model).engine.line + "\n"
    document = json.loads((tmp_path / "y.json").read_text())
    rows = document["predictions"]
    assert document["engine"] == load(model).engine.facts
    assert rows[1] == {"sample": 1, "top": [{"class": "last", "logit": 1.0}, {"class": "few", "logit": 0.0}]}
    assert main(["inspect", str(model)]) == 0 and "linear" in capsys.readouterr().out


def test_an_engine_is_chosen_and_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 1, 0]]))
    for engine in ["interpreter"] + ["native"] * (why_missing() is None):
        for command in (["run", "--input", str(tmp_path / "x.npy")], ["inspect"], ["bench", "--calls", "3"]):
            out = tmp_path / "o.json"
            choice = ["--engine", engine, "--threads", "1", "--json", str(out)]
            assert main([command[0], str(model), *command[1:], *choice]) == 0
            said = capsys.readouterr()
            assert f"engine: {engine}" in (said.err if command[0] == "run" else said.out)
            document = json.loads(out.read_text())
            assert document["engine"]["name"] == engine and document["engine"]["threads"] == 1
        native = engine == "native"  # the last one is bench
        assert [row["layer"] for row in document["groups"]] == ["linear0"] * native
        assert (document["macs"], document["peak_macs_per_s"] is not None) == (6 if native else None, native)


def test_where_the_library_is_off_the_interpreter_says_so(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 1, 0]]))
    command = [sys.executable, "-m", "bitspike.runtime", "run", str(model), "--input", str(tmp_path / "x.npy")]
    off = {**os.environ, "BITSPIKE_NATIVE": "off"}
    done = subprocess.run(command, capture_output=True, text=True, env=off)
    assert (done.returncode, done.stdout) == (0, "0: few 2\n")
    assert done.stderr.startswith("engine: interpreter (") and "BITSPIKE_NATIVE=off" in done.stderr
    done = subprocess.run([*command, "--engine", "native"], capture_output=True, text=True, env=off)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "take engine='interpreter'" in done.stderr


def scaled(path: Path, info: dict[str, object] | None = None) -> Path:
    """A program of real numbers in front of which images of 0..16 are normalised: the mean pixel, and its negative."""
    b = Builder(Input(Value((1, 2, 2), -127, 127, steps=1), repeat=True, scale=(64, 0)))
    x = b.add("reshape", ["input"], {"shape": [4]})
    weight = b.constant(np.array([[1, 1, 1, 1], [-1, -1, -1, -1]]), Grid(-1, 1))
    named = {"top": 16, "mean": [0.5], "std": [0.25]} if info is None else info
    made = b.finish(b.add("mean", [b.add("linear", [x], tensors={"weight": weight})]), ("bright", "dark"), named)
    save(made, path)
    return path


def test_images_are_normalised_as_bitspike_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, raw = scaled(tmp_path / "m.bitspike"), np.array([[[[0, 4], [3, 16]]], [[[16, 16], [9, 1]]]], np.uint8)
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "real.npy", ((raw / 16 - 0.5) / 0.25).astype(np.float32))
    said = []
    for name in ("raw", "real"):
        assert main(["run", str(model), "--input", str(tmp_path / f"{name}.npy")]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == "0: dark 144\n1: bright 158\n"


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_sequences_are_read_sample_by_sample(samples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = Builder(Input(Value((2,), -127, 127, steps=2), repeat=False, scale=(127, 0)))
    weight = b.constant(np.array([[1, 0], [0, 1]]), Grid(0, 1))
    info = {"time": True, "top": 255, "encoder": "frames", "integers": True}
    made = b.finish(b.add("mean", [b.add("linear", ["input"], tensors={"weight": weight})]), ("a", "b"), info)
    save(made, tmp_path / "m.bitspike")
    x = np.array([[[255, 0], [255, 0]], [[0, 255], [0, 255]], [[255, 0], [0, 0]]], np.uint8)[:samples]  # [N, T, 2]
    for kind in (np.uint8, np.float32):
        np.save(tmp_path / "x.npy", x.astype(kind))
        assert main(["run", str(tmp_path / "m.bitspike"), "--input", str(tmp_path / "x.npy")]) == 0
        said = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
        assert said == ["a", "b", "a"][:samples]
    np.save(tmp_path / "x.npy", (x / 510).astype(np.float32))
    assert main(["run", str(tmp_path / "m.bitspike"), "--input", str(tmp_path / "x.npy")]) == 2
    assert "of which 255 maps to 1, got fractions; do not divide them" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16])
def test_integers_that_could_be_anything_are_refused(kind: type, tmp_path: Path, capsys: object) -> None:
    model = scaled(tmp_path / "m.bitspike")
    np.save(tmp_path / "x.npy", np.ones((3, 1, 2, 2), kind))
    assert main(["run", str(model), "--input", str(tmp_path / "x.npy")]) == 2
    assert "must be float, the numbers that the network takes, or uint8 images" in capsys.readouterr().err  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("info", "pixel", "words"),
    [
        (None, 17, "pixels must lie in 0..16, as those of its data, got 17"),
        ({}, 1, "must say how to normalise images"),
        ({"top": 0, "mean": 0.0, "std": 1.0}, 0, "must say top > 0"),
        ({"top": 16, "mean": ["a"], "std": [1.0]}, 0, "must say top > 0"),
        ({"top": 16, "mean": [0.0], "std": [0.0]}, 0, "must say top > 0"),
        ({"top": 16, "mean": [0.0, 0.0], "std": [1.0]}, 0, "of 1 channels"),
    ],
)
def test_images_that_cannot_be_normalised_are_refused(
    info: dict[str, object] | None, pixel: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scaled(tmp_path / "m.bitspike", info)
    np.save(tmp_path / "x.npy", np.full((3, 1, 2, 2), pixel, np.uint8))
    assert main(["run", str(model), "--input", str(tmp_path / "x.npy")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, _: c[:2], "required: --input"),
        (lambda c, _: ["run", "nowhere.bitspike", *c[2:]], "nowhere.bitspike"),
        (lambda c, _: [*c, "--top", "3"], "1 <= k <= 2"),
        (lambda c, _: [*c, "--top", "0"], "1 <= k <= 2"),
        (lambda c, _: [*c, "--topp", "1"], "unrecognized arguments"),
        (lambda c, _: [*c, "--threads", "0"], "threads must be an integer from 1 to 64"),
        (lambda c, _: [*c, "--engine", "gpu"], "invalid choice: 'gpu'"),
        (lambda c, _: ["bench", c[1], "--batch", "0"], "batch must be an integer from 1"),
        (lambda c, _: ["bench", c[1], "--calls", "0"], "calls must be an integer from 1"),
        (lambda c, at: ["bench", c[1], "--input", str(at / "wide.npy")], r"samples must be [B, 3]"),
        (lambda c, at: [*c[:3], str(at / "text.npy")], "must be an .npy file of numbers"),
        (lambda c, at: [*c[:3], str(at / "empty.npy")], "must be an .npy file of numbers"),
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
    (tmp_path / "empty.npy").touch()
    command = change(["run", str(model), "--input", str(tmp_path / "x.npy")], tmp_path)  # type: ignore[operator]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and said.err.count("\n") == 1
