"""What a release needs to agree: versions, files of the repository's front page, and types for strict users."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bitspike
from bitspike.files import parse_toml

ROOT = Path(__file__).resolve().parents[1]
STRICT = """
from pathlib import Path

import torch
from torch import Tensor

import bitspike
from bitspike.cost import Cost, cost
from bitspike.hub import Pretrained, from_pretrained
from bitspike.models import Network, mlp
from bitspike.neurons import LIF, MultiBit, Neuron
from bitspike.quantizers import Uniform
from bitspike.runtime import Program, Result, load, save


def built(neuron: Neuron) -> Network:
    return mlp(neuron, Uniform(4), T=2, shape=(1, 8, 8), hidden=(16,))


def counted(net: Network, x: Tensor) -> Cost:
    return cost(bitspike.fold(net, x).graph, x)


def told(path: Path, net: Network, x: Tensor) -> Result:
    program: Program = bitspike.lower.compile(bitspike.fold(net, x), x)
    save(program, path)
    found: Result = load(path)(x.numpy())
    return found


pretrained: Pretrained = from_pretrained("zoo:digits/ternary")
nets: list[Network] = [built(LIF()), built(MultiBit(m=1, n=1)), pretrained.model]
reveal_type(nets[0])
"""


def test_versions_agree() -> None:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "runtime/pyproject.toml")}
    versions = {name: parse_toml(text, name)["project"]["version"] for name, text in texts.items()}
    cited = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*versions.values(), *cited} == {bitspike.__version__} and len(cited) == 1


@pytest.mark.parametrize("name", ["RELEASING.md", "SECURITY.md", ".github/pull_request_template.md"])
def test_files_they_name_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"\b((?:tools|tests|docs|src|benchmarks|runtime)/[\w/.-]*\w)", text)
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.slow
def test_a_strict_users_file_type_checks(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(STRICT.replace("bitspike.lower.compile", "compile_network").replace(
        "import bitspike\n", "import bitspike\nfrom bitspike.lower import compile as compile_network\n", 1
    ), encoding="utf-8")  # fmt: skip
    pytest.importorskip("mypy", reason="not run: mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", "user.py"]
    setting = {"MYPYPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=setting)
    assert "models.network.Network" in done.stdout, done.stdout + done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith("user.py") and "error" in line]
    assert not wrong, "\n".join(wrong)
