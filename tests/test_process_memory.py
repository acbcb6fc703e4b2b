"""Keeping memory: what it does to the process, seen from outside, and what it must leave alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

import bitspike

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")

FAULTS = """
import mmap, resource, sys, torch
from bitspike import keep_memory
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
start = faults()
pages = mmap.mmap(-1, 64 << 20)
for at in range(0, len(pages), 4096): pages[at] = 1
if faults() == start: raise SystemExit("keep_memory cannot be seen here: this kernel counts no page faults")
if sys.argv[1] == "keep":
    why = keep_memory(256 << 20)
    if why: raise SystemExit(why)
def step():
    kept = [torch.ones(1 << 20) for _ in range(40)]  # 160 MiB, freed at the end
for _ in range(3): step()
before = faults()
for _ in range(3): step()
print(faults() - before)
"""

RESIDENT = """
import sys, torch
from bitspike import keep_memory
def resident():
    with open("/proc/self/statm") as sizes: return int(sizes.read().split()[1])
if sys.argv[1] == "keep":
    why = keep_memory(256 << 20)
    if why: raise SystemExit(why)
before = resident()
kept = [torch.ones(1 << 20) for _ in range(100)]  # 400 MiB: more than the reserve
most = resident() - before
del kept
print(100 * (resident() - before) // most)
"""


def measured(script: str, how: str, **settings: str) -> int:
    """What the script prints; ``settings`` are glibc's own, which else follow the sizes it has seen freed."""
    environment = {**os.environ, **settings}
    command = [sys.executable, "-c", script, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode and "keep_memory" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@LINUX
def test_freed_memory_is_used_again_without_page_faults() -> None:
    settings = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    assert measured(FAULTS, "keep", **settings) < 1000 < measured(FAULTS, "leave", **settings)


@LINUX
def test_freed_memory_is_not_given_back() -> None:
    settings = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    assert measured(RESIDENT, "keep", **settings) > 90 > 10 > measured(RESIDENT, "leave", **settings)  # percent


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
