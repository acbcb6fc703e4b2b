"""Peak memory of a training step, twice: as the system counts it, and as autograd's saved tensors."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.protocol import Build, Spec

MIB = 2**20


def status_mib(key: str) -> float:
    """A line of /proc/self/status in MiB: VmRSS (now) or VmHWM (highest since it was reset)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {key}")


def trim() -> bool:
    """Ask glibc to give free memory back to the system; False where there is no such call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return False
    return True


def measure(build: Build, spec: Spec, steps: int) -> dict[str, Any]:
    """Build model and data, one step on two images (code is loaded, momentum exists), then ``steps`` whole steps.

    The increase is the highest resident set during those steps less the resident set before them, when gradients are
    dropped and the allocator has given back what is free. Nothing of the timed size has run before: neither parity nor
    the firing rate is looked at here.
    """
    made = build({**spec, "bare": True})
    parts = made.parts
    parts["step"](parts["x"][:2], parts["labels"][:2])
    parts["reset"]()
    parts["optimiser"].zero_grad()
    gc.collect()
    trimmed = trim()
    before = status_mib("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        how = "VmHWM, reset before the steps"
    except OSError:
        how = "VmHWM, could not be reset"
    for _ in range(steps):
        parts["step"]()
    peak = status_mib("VmHWM")
    parts["reset"]()
    return {
        "facts": made.facts,
        "peak_increase_mib": round(peak - before, 1),
        "before_mib": round(before, 1),
        "method": how + ("; malloc_trim before" if trimmed else ""),
        # hooks of `bitspike.lean` are the inner ones, so ours would see nothing
        "saved_mib": None if spec.get("memory") == "lean" else round(saved_bytes(parts) / MIB, 1),
    }


def saved_bytes(parts: dict[str, Any]) -> int:
    """Bytes of the distinct storages that autograd holds after one forward, parameters, buffers and input left out."""
    known = {t.untyped_storage().data_ptr() for t in (*parts["net"].parameters(), *parts["net"].buffers(), parts["x"])}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = parts["loss"](parts["x"], parts["labels"])
    total = sum(found.values())  # the graph is alive until here, so no address was used twice
    del loss
    parts["reset"]()
    return total
