"""Keeping memory: what it does to the process, seen from outside, and what it must leave alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import bitspike

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")

FAULTS = """
import resource, sys, torch
from bitspike import keep_memory
if sys.argv[1] == "keep":
    why = keep_memory(256 << 20)
    if why: raise SystemExit(why)
def step():
    kept = [torch.ones(1 << 20) for _ in range(40)]  # 160 MiB, freed at the end
for _ in range(3): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=120)
    if done.returncode and "keep_memory" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@LINUX
def test_freed_memory_is_used_again_without_page_faults() -> None:
    assert faults("keep") < 1000 < faults("leave")


@LINUX
def test_it_may_be_called_again_and_changes_no_result() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    before = x @ x
    first = bitspike.keep_memory(1 << 20)
    assert bitspike.keep_memory(0) == first
    torch.testing.assert_close(x @ x, before, rtol=0, atol=0)


@LINUX
def test_more_than_there_is_says_why() -> None:
    why = bitspike.keep_memory(1 << 60)
    assert why is not None and why.startswith("keep_memory")


def test_other_systems_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert bitspike.keep_memory() == "keep_memory is for Linux with glibc, this is darwin"


@pytest.mark.parametrize(("bad", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1GB", TypeError)])
def test_a_bad_reserve_is_refused(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="keep_memory: reserve_bytes must"):
        bitspike.keep_memory(bad)
