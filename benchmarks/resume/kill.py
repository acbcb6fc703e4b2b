"""Kill a training run at random moments (SIGKILL), resume it each time, and compare with an uninterrupted run.

Usage: python benchmarks/resume/kill.py [--kills 50] [--out FILE.json]

Checked: the final weights and every figure of metrics.jsonl but the times are equal bit for bit; no kill loses more
than the steps since the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from bitspike.files import write_json_atomic
from bitspike.training.checkpoint import read_checkpoint

SETS = ["model.options.width=4", "train.epochs=6", "data.augment=shift", "data.pad=1", "train.log_every=1"]


def command(out: Path, resume: bool, steps: int) -> list[str]:
    """The training command under test."""
    line = [sys.executable, "-m", "bitspike", "train", "digits", "--out", str(out), "--quiet"]
    line += ["--checkpoint-steps", str(steps), "--set", *SETS]
    return [*line, "--resume"] if resume else line


def position(run: Path) -> int:
    """Optimiser steps that the newest whole checkpoint holds."""
    best = 0
    for path in (run / "last").glob("*.safetensors"):
        try:
            facts = read_checkpoint(path).facts
        except (ValueError, OSError):
            continue
        best = max(best, facts["place"]["epoch"] * 10_000 + facts["place"]["step"])
    return best


def figures(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without times."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time_s"} for line in lines]


def same(a: Path, b: Path) -> bool:
    """Whether two finished runs have equal figures and equal weights, bit for bit."""
    if figures(a) != figures(b):
        return False
    for which in ("final", "best"):
        left, right = (load_file(run / f"{which}.safetensors") for run in (a, b))
        if left.keys() != right.keys() or not all(left[n].equal(right[n]) for n in left):
            return False
    return True


def torture(kills: int, folder: Path, seed: int = 0, steps: int = 5) -> dict[str, Any]:
    """Run once whole and once with that many kills; returns what happened.

    Args:
        kills: SIGKILLs. folder: scratch. seed: of the random moments. steps: between two checkpoints.
    """
    draw = random.Random(seed)
    start = time.perf_counter()
    subprocess.run(command(folder / "whole", False, steps), check=True, capture_output=True)
    whole_s = time.perf_counter() - start
    cut, done, went_back = folder / "cut", 0, 0
    restarts = 0
    while done < kills:
        before = position(cut)
        started = cut.joinpath("recipe.toml").exists()
        process = subprocess.Popen(command(cut, started, steps), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(draw.uniform(0.3, 1.2) * max(whole_s, 1.0))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
        else:
            if process.returncode != 0:
                raise RuntimeError(f"resume failed: {process.stderr.read().decode() if process.stderr else ''}")
            restarts += 1  # it finished before the kill: begin another victim, the kills go on
            if not same(folder / "whole", cut):
                return {"kills": done, "equal": False}
            cut.rename(folder / f"finished{restarts}")
            continue
        went_back += position(cut) < before
    final = subprocess.run(command(cut, cut.joinpath("recipe.toml").exists(), steps), capture_output=True)
    equal = final.returncode == 0 and same(folder / "whole", cut)
    return {
        "kills": done,
        "equal": equal,
        "went_back": went_back,
        "finished_between": restarts,
        "checkpoint_steps": steps,
    }


def main() -> int:
    """Command line; exit 1 if a resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = torture(given.kills, Path(folder))
    print(json.dumps(result))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(given.out, result)
    return 0 if result["equal"] and not result["went_back"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
