"""The examples run as they stand, and the folded network works behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {"lightning_module": ("lightning",), "hf_trainer": ("transformers", "accelerate")}


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_an_example_learns_and_folds(name: str, tmp_path: Path) -> None:
    missing = [package for package in NEEDS[name] if find_spec(package) is None]
    if missing:
        pytest.skip(f"not run: {', '.join(missing)} not installed; pip install 'bitspike[examples]'")
    code = f"import json, {name}; print(json.dumps({name}.main()))"
    paths = [str(ROOT / "examples"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    setting = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=setting)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["accuracy"] > 0.9 and figures["folded"] > 0.9 and figures["difference"] < 1e-3, figures
    assert not list(tmp_path.iterdir())  # leaves nothing behind
