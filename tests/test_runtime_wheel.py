"""The wheel of the runtime alone, in an environment that has NumPy and no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "runtime" / "golden"


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
    zoo = {f"bitspike_runtime/{p.relative_to(package).as_posix()}" for p in package.glob("zoo/programs/*/*")}
    assert len(zoo) > 30 and zoo <= names
    assert "bitspike_runtime/LICENSE" in names and not any("__pycache__" in name for name in names)
    done = subprocess.run([*pip, "--python", str(python), "install", str(wheel)], capture_output=True)
    if done.returncode:
        pytest.skip("not run: pip cannot fetch numpy")
    return python


CODE = f"""
import importlib.util, json, sys, time
start = time.process_time()
import bitspike_runtime
took = time.process_time() - start
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
    """(seconds of CPU that the import takes at best, facts of the engines that gave the golden integers)."""
    found, times = [], []
    for _ in range(3):
        done = subprocess.run([str(python), "-I", "-c", CODE, *engines], capture_output=True, text=True)
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
    assert took < 0.3, f"import bitspike_runtime takes {took:.2f} s of CPU"
    command = [str(python.with_name("bitspike-runtime")), "bench", str(GOLDEN / "v1_0.bitspike"), "--calls", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "engine: native" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_without_a_compiler_runs_in_numpy_and_says_why(tmp_path: Path) -> None:
    """Nor does it take a library along that lies in the checkout."""
    _, (auto,) = ran(installed(tmp_path, CXX=str(tmp_path / "no-compiler")), "auto")
    assert auto["name"] == "interpreter" and "libbitspike_engine" in str(auto["why"]), auto
