"""CPU time of steps on still images by two source trees of bitspike, in alternating pairs on one thread.

For machines that others use meanwhile, where wall time says nothing: a thread's CPU time counts only its own work.
Caches are shared all the same, so pairs alternate.

Usage: .venv/bin/python benchmarks/training/revisions.py AFTER/src BEFORE/src --out FILE.json
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = {
    "he_resnet20 M": 1,
    "study_cnn M": 6,
    "he_resnet20 evaluation": 2,
    "study_cnn evaluation": 12,
    "study_cnn U": 4,
    "he_resnet20 U": 1,
}
"""Case → steps a sample. M: detached reset, window; U: undetached, ATan; evaluation: forward in inference mode."""


def steps(name: str, options: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and a forward pass of a network of LIF neurons, T = 4, 32 images [3, 32, 32], channels-last."""
    import torch
    import torch.nn.functional as F

    from bitspike.models import MODELS
    from bitspike.neurons import LIF

    torch.manual_seed(0)
    net = MODELS[name](LIF(decay=0.5, reset="hard", **options), T=4, shape=(3, 32, 32))
    net = net.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (32,), generator=generator)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def train() -> None:
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()

    def evaluate() -> None:
        net.eval()
        with torch.inference_mode():
            net(x)
        net.train()

    return train, evaluate


def work() -> None:
    """The worker: lines "CASE N" in, CPU milliseconds per step out."""
    import warnings

    import torch

    import bitspike
    from bitspike import native

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    bitspike.keep_memory()
    assert native.why_missing() is None
    classes = {"M": {"detach_reset": True}, "U": {"detach_reset": False, "surrogate": "atan"}}
    cases = {}
    for name in ("he_resnet20", "study_cnn"):
        for word, options in classes.items():
            cases[f"{name} {word}"], evaluate = steps(name, options)
            if word == "M":
                cases[f"{name} evaluation"] = evaluate
    for step in cases.values():
        step()
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.rsplit(" ", 1)
        gc.collect()
        cases[name]()
        start = time.process_time()
        for _ in range(int(count)):
            cases[name]()
        print((time.process_time() - start) / int(count) * 1e3, flush=True)


def started(source: Path) -> subprocess.Popen[str]:
    """A worker on a source tree."""
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    order = [sys.executable, __file__, "--work"]
    worker = subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout is not None and worker.stdout.readline().strip() == "ready"
    return worker


def sample(worker: subprocess.Popen[str], name: str) -> float:
    """CPU milliseconds of a step."""
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(f"{name} {CASES[name]}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def main() -> None:
    """Command line."""
    if sys.argv[1:] == ["--work"]:
        return work()
    from machine import machine
    from measure import interval

    from bitspike.files import write_json_atomic

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("after", type=Path, help="source tree, with its native library")
    parser.add_argument("before", type=Path, help="the other one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=200.0, help="no pair starts later")
    parser.add_argument("--pairs", type=int, default=15, help="at most")
    given = parser.parse_args()
    workers = started(given.after), started(given.before)
    taken: dict[str, list[list[float]]] = {name: [] for name in CASES}
    end = time.monotonic() + given.seconds
    for index in range(given.pairs):
        if time.monotonic() > end:
            break
        for name in CASES:
            order = workers if index % 2 == 0 else workers[::-1]
            found = [sample(worker, name) for worker in order]
            taken[name].append([round(ms, 2) for ms in (found if index % 2 == 0 else found[::-1])])
    rows = {}
    for name, pairs in taken.items():
        ratios = [after / before for after, before in pairs]
        low, high = interval(ratios)
        rows[name] = {
            "after_ms": round(statistics.median(after for after, _ in pairs), 2),
            "before_ms": round(statistics.median(before for _, before in pairs), 2),
            "after/before": round(statistics.median(ratios), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "samples_ms": pairs,
        }
        print(name, {key: value for key, value in rows[name].items() if key != "samples_ms"})
    write_json_atomic(given.out, {"machine": machine(), "time": "CPU ms of one thread", "rows": rows})
    for worker in workers:
        worker.kill()
    return None


if __name__ == "__main__":
    main()
