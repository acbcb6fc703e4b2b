"""Images/s of `Batches` on CIFAR-10 shapes with crop (pad 4), flip, cutout 16 and normalisation, batch 128, CPU.

Usage: [BITSPIKE_DATA=DIR] python benchmarks/data/throughput.py [--threads 1 2] [--epochs 15] [--out FILE.json]

Without the data set the images are random; the result says so. One sample is one epoch, the first is not counted, and
the thread counts alternate. Where the system tells (Linux), a sample beside which other processes took more than
DISTURBED of the machine's cores is marked; the medians stand once over all samples and once over the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from bitspike.data import Batches, ImageSet, load
from bitspike.files import write_json_atomic

GOAL = 20_000
DISTURBED = 0.05
AUGMENTS = ("shift-flip-cutout", "shift-flip", "none")
DEFAULT_OUT = Path(__file__).parent / "results" / "throughput.json"


def images() -> tuple[ImageSet, str]:
    """CIFAR-10's training images, or random ones of the same shape, and which they are."""
    if os.environ.get("BITSPIKE_DATA"):
        return load("cifar10").train, "CIFAR-10, 45,000 training images"
    drawn = torch.randint(0, 256, (45_000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = tuple(str(k) for k in range(10))
    made = ImageSet(drawn, torch.arange(45_000) % 10, names, 255, (0.5,) * 3, (0.25,) * 3, "random")
    return made, "45,000 random images"


def busy_s() -> float | None:
    """Seconds that all cores together have worked since the start of the machine; None where it does not say."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        )
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def sample(data: ImageSet, augment: str, threads: int, epoch: int) -> dict[str, float | None]:
    """One epoch: images/s, images per second of CPU time, and the share of the machine that others took."""
    torch.set_num_threads(threads)
    before, cpu, start = busy_s(), time.process_time(), time.perf_counter()
    seen = sum(len(labels) for _, labels in Batches(data, 128, True, epoch=epoch, augment=augment, pad=4, hole=16))
    wall_s, cpu_s, after = time.perf_counter() - start, time.process_time() - cpu, busy_s()
    others = None
    if before is not None and after is not None:
        others = max(0.0, (after - before - cpu_s) / wall_s / (os.cpu_count() or 1))
    return {"images_per_s": seen / wall_s, "images_per_cpu_s": seen / cpu_s, "others": others}


def summary(samples: list[dict[str, float | None]]) -> dict[str, Any]:
    """Medians and the middle 90 % of the samples."""

    def middle(values: list[Any]) -> dict[str, int] | None:
        if len(values) < 2:
            return None
        cuts = statistics.quantiles(values, n=20, method="inclusive")
        return {"median": round(statistics.median(values)), "p5": round(cuts[0]), "p95": round(cuts[-1])}

    quiet = [one["images_per_s"] for one in samples if one["others"] is not None and one["others"] <= DISTURBED]
    return {
        "images_per_s": middle([one["images_per_s"] for one in samples]),
        "images_per_s_undisturbed": middle(quiet),
        "images_per_cpu_s": middle([one["images_per_cpu_s"] for one in samples]),
        "samples": len(samples),
        "disturbed": len(samples) - len(quiet),
    }


def measure(threads: list[int], epochs: int) -> dict[str, Any]:
    """All cases; the augmentation of the goal in ``epochs`` samples, the others in a third as many."""
    data, kind = images()
    rows = []
    for augment in AUGMENTS:
        counted = epochs if augment == AUGMENTS[0] else max(3, epochs // 3)
        taken: dict[int, list[dict[str, float | None]]] = {count: [] for count in threads}
        for epoch in range(counted + 1):
            for count in threads:
                one = sample(data, augment, count, epoch)
                if epoch:
                    taken[count].append(one)
        rows += [{"augment": augment, "threads": count, **summary(taken[count])} for count in threads]
    goal_rows = [row for row in rows if row["augment"] == AUGMENTS[0]]
    return {
        "data": kind,
        "batch_size": 128,
        "goal_images_per_s": GOAL,
        "goal_met": any(row["images_per_s"]["median"] >= GOAL for row in goal_rows),
        "rows": rows,
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "niceness": os.nice(0) if hasattr(os, "nice") else None,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    given = parser.parse_args()
    if given.epochs < 3 or min(given.threads) < 1:
        parser.error("--epochs must be at least 3 and --threads at least 1")
    result = measure(given.threads, given.epochs)
    print(json.dumps(result, indent=2))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(given.out, result)


if __name__ == "__main__":
    main()
