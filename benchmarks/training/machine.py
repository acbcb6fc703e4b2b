"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any


def folder_of(cpu: str, isa: str) -> str:
    """Name of a machine's folder of results: CPUs that call themselves alike may have other instruction sets.

    >>> folder_of("AMD EPYC", "avx512popcnt")
    'amd-epyc-avx512popcnt'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{cpu} {isa}".lower()).strip("-")


def machine() -> dict[str, Any]:
    """CPU model, cores, memory, system."""
    return {
        "cpu": _line(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "hypervisor": "hypervisor" in (_line(Path("/proc/cpuinfo"), "flags") or ""),
    }


def source(root: Path) -> dict[str, Any]:
    """Commit of the working tree, and whether files of the package differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return {
        "commit": git("rev-parse", "HEAD") or None,
        "changed": bool(git("status", "--porcelain", "--", "src", "csrc")),
    }


def _line(path: Path, key: str) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def _memory() -> float | None:
    total = _line(Path("/proc/meminfo"), "MemTotal")
    return round(int(total.split()[0]) / 2**20, 1) if total else None
