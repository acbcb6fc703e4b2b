"""Parity, speed and memory on a GPU; one JSON. See README.md.

Usage: python benchmarks/gpu/run.py [--out FILE.json] [--minutes 8] [--gib 16] [--toy]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json", help="the JSON file")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything but a toy; the rest is not run")
    parser.add_argument("--gib", type=float, default=16.0, help="memory in which the largest batch has to fit")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, on the CPU too: shows that everything runs")
    return parser.parse_args()


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on."""
    import torch
    from peer import version

    from bitspike import __version__

    found: dict[str, Any] = {
        **{"bitspike": __version__, "torch": torch.__version__, "python": platform.python_version()},
        **{"triton": _version("triton"), "spikingjelly": version(), "device": device},
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "gpu_gib": round(card.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return found


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def goals(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each goal beside what was found; "not measured" in a toy and where there is no figure."""
    from cases import GOALS

    lif = [row for row in result.get("scan", ()) if row["neuron"] == "LIF" and "not_run" not in row]
    whole = [row for row in result.get("epochs", ()) if "epoch_s" in row]
    faster = [row["times_its_speed"] for row in lif if row.get("times_its_speed")]
    found = {
        "scan_vs_spikingjelly": min(faster, default=None),
        "scan_share_of_copy": max((row["share_of_copy"] for row in lif), default=None),
        "epoch_s": min((row["epoch_s"] for row in whole), default=None),
        "run_of_400_epochs_min": min((row["whole_run_min"] for row in whole if row["of"] == 400), default=None),
    }
    rows = []
    for name, goal in GOALS.items():
        value = None if result["toy"] else found[name]
        met = None if value is None else value >= goal["least"] if "least" in goal else value <= goal["most"]
        rows.append({"goal": name, **goal, "found": "not measured" if value is None else value, "met": met})
    return rows


def main() -> int:
    """Run the parts in order, writing the JSON after each; 1 where parity fails."""
    chosen = arguments()
    import torch

    cuda = torch.cuda.is_available()
    if not cuda and not chosen.toy:
        print("no CUDA device: nothing is measured; --toy shows on the CPU that everything runs", file=sys.stderr)
        return 2
    if not cuda:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton and bitspike are imported
        torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    from clock import Clock
    from epochs import epochs
    from network import batches, networks
    from parity import parity
    from scan import copy_gb_s, scans

    from bitspike.files import write_json_atomic

    device = "cuda" if cuda else "cpu"
    clock = Clock(device, 3600 if chosen.toy else chosen.minutes * 60, chosen.toy)
    result: dict[str, Any] = {"toy": chosen.toy, "machine": machine(device), "limit_min": chosen.minutes}
    if chosen.toy:
        result["note"] = "a toy: its times mean nothing"
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], Any]] = {
        "parity": lambda: parity(device, chosen.toy),
        "copy": lambda: copy_gb_s(clock, 2**16 if chosen.toy else 2**28),
        "scan": lambda: scans(clock, result["copy"]),
        "epochs": lambda: epochs(clock, result),
        "networks": lambda: networks(clock),
        "batches": lambda: batches(clock, chosen.gib),
    }
    for name, part in parts.items():
        print(f"{name} … {clock.left_s():.0f} s left", flush=True)
        try:
            result[name] = part()
        except Exception as error:
            result.setdefault("failed", {})[name] = f"{type(error).__name__}: {str(error)[:500]}"
        result["wall_s"] = round(clock.limit_s - clock.left_s(), 1)
        result["goals"] = goals(result)
        write_json_atomic(chosen.out, result)
        if name == "parity" and not result.get("parity", {}).get("ok"):
            print("parity FAILED: no speed is measured", file=sys.stderr)
            return 1
    print(f"written: {chosen.out}")
    for row in result["goals"]:
        print(f"{row['goal']}: {row['found']} ({row['what']}; goal {row.get('least', row.get('most'))})")
    for name, reason in result.get("failed", {}).items():
        print(f"{name} FAILED: {reason}", file=sys.stderr)
    return 1 if "failed" in result else 0


if __name__ == "__main__":
    sys.exit(main())
