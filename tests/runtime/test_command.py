"""`python -m bitspike.runtime`, and the wheel of the runtime alone in an environment that has no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
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


def installed(tmp_path: Path, **environment: str) -> Path:
    """Python of an environment that holds the wheel of the runtime and NumPy alone."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT / "runtime")]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if "scikit-build-core" in made.stderr and "No matching distribution" in made.stderr:
        pytest.skip("not run: pip cannot fetch scikit-build-core")
    assert made.returncode == 0, made.stderr
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = tmp_path.glob("bitspike_runtime-*.whl")
    with zipfile.ZipFile(wheel) as parts:
        names = set(parts.namelist())
    package = ROOT / "src" / "bitspike" / "runtime"
    assert {f"bitspike_runtime/{p.relative_to(package).as_posix()}" for p in package.rglob("*.py")} <= names
    assert "bitspike_runtime/LICENSE" in names and not any("__pycache__" in name for name in names)
    done = subprocess.run([*pip, "--python", str(python), "install", str(wheel)], capture_output=True)
    if done.returncode:
        pytest.skip("not run: pip cannot fetch numpy")
    return python


CODE = f"""
import importlib.util, json, sys, time
start = time.perf_counter()
import bitspike_runtime
took = time.perf_counter() - start
import numpy as np
assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("bitspike") is None
wanted = json.loads(open({str(GOLDEN / "v1_0.json")!r}).read())
x = np.array(wanted["input"])
said = []
for engine in sys.argv[1:]:
    program = bitspike_runtime.load({str(GOLDEN / "v1_0.bitspike")!r}, engine)
    assert program(x).levels.tolist() == wanted["levels"], engine
    said.append(program.engine.facts)
print(json.dumps([took, said]))
"""


def ran(python: Path, *engines: str) -> tuple[float, list[dict[str, object]]]:
    """(seconds that the import takes at best, facts of the engines that gave the golden integers)."""
    found, times = [], []
    for _ in range(3):
        done = subprocess.run([str(python), "-c", CODE, *engines], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        took, found = json.loads(done.stdout)
        times.append(took)
    return min(times), found


@pytest.mark.slow
def test_the_wheel_runs_a_golden_file_where_there_is_no_torch(tmp_path: Path) -> None:
    """In the native engine that it carries, and in NumPy, with the same integers; importing it takes no time."""
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("not run: no C++ compiler")
    python = installed(tmp_path)
    took, (auto, native, slow) = ran(python, "auto", "native", "interpreter")
    assert auto == native and native["name"] == "native" and slow["name"] == "interpreter"
    assert took < 0.3, f"import bitspike_runtime takes {took:.2f} s"
    command = [str(python.with_name("bitspike-runtime")), "bench", str(GOLDEN / "v1_0.bitspike"), "--calls", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "engine: native" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_without_a_compiler_runs_in_numpy_and_says_why(tmp_path: Path) -> None:
    """Nor does it take a library along that lies in the checkout."""
    _, (auto,) = ran(installed(tmp_path, CXX=str(tmp_path / "no-compiler")), "auto")
    assert auto["name"] == "interpreter" and "libbitspike_engine" in str(auto["why"]), auto
