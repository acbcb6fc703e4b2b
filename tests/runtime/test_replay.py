"""The engine without Python: recorded calls replayed under sanitizers, in children of a fork, on an emulated ARM."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from bitspike.runtime.engine.library import ISAS
from bitspike.runtime.ops import OPERATIONS
from programs.corpus import corpus, record

ROOT = Path(__file__).resolve().parents[2]
RANDOM = 300
pytestmark = pytest.mark.slow
Build = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    """These tests choose no engine, so once is enough."""
    return "native"


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"not run: there is no {program}")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], env=os.environ | environment, capture_output=True, text=True, timeout=900
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "corpus"
    kinds, forms = record(file, corpus(RANDOM))
    assert set(kinds) == set(OPERATIONS)
    for isa in set(ISAS) - {"scalar"}:
        known = ("uint8 · int8", "int16 · int16", "depthwise", "int32", "events · int8")
        assert {f"{isa} {form}" for form in known} <= set(forms)
    assert {f"{isa} planes of bits" for isa in ISAS} <= set(forms)
    return file


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the driver with these CMake settings."""

    def built(*settings: str) -> Path:
        need("cmake")
        folder = tmp_path_factory.mktemp("replay")
        said(run("cmake", "-S", ROOT, "-B", folder, "-DBITSPIKE_REPLAY=ON", *settings))
        said(run("cmake", "--build", folder, "--target", "replay", "--parallel", "2"))
        return folder / "replay"

    return built


def test_addresses_and_undefined_behaviour(build: Build, recorded: Path, tmp_path: Path) -> None:
    """Every instruction set of this machine; and a wrong number does not pass for a right one."""
    need("c++")
    replay = build("-DBITSPIKE_SANITIZE=address,undefined")
    assert "scalar: " in said(run(replay, recorded))
    wrong = bytearray(recorded.read_bytes())
    wrong[-8] ^= 1  # a count of clamped numbers
    (tmp_path / "wrong").write_bytes(wrong)
    done = run(replay, tmp_path / "wrong")
    assert done.returncode == 1 and "not the interpreter's numbers" in done.stderr


def test_children_of_a_fork(build: Build, recorded: Path) -> None:
    """Processes that begin while other threads call. Without a sanitizer: gcc's hold locks of their own over a fork."""
    need("c++")
    assert "40 children" in said(run(build(), recorded, "fork"))


def test_threads(build: Build, tmp_path: Path) -> None:
    """Three threads call a program at once; who has the pool has its workers. Of the corpus every fourth program: this
    sanitizer takes ten times the time and the memory."""
    need("c++")
    replay = build("-DBITSPIKE_SANITIZE=thread")
    kinds, _ = record(tmp_path / "corpus", islice(corpus(RANDOM), 0, None, 4))
    assert set(kinds) == set(OPERATIONS)
    assert "scalar: " in said(run(replay, tmp_path / "corpus", "3"))


@pytest.mark.parametrize(("cpu", "isas"), [("cortex-a53", {"scalar", "neon"}), ("max", {"scalar", "neon", "neondot"})])
def test_neon_on_an_emulated_arm(arm: Path, recorded: Path, cpu: str, isas: set[str]) -> None:
    """The integers; an emulator says nothing about speed."""
    done = said(run("qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu", arm, recorded))
    assert {line.partition(":")[0] for line in done.splitlines()} == isas


@pytest.fixture(scope="module")
def arm(build: Build) -> Path:
    need("aarch64-linux-gnu-g++", "qemu-aarch64")
    return build(
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++"
    )
