"""One training epoch of He's narrow ResNet-20 on CIFAR-10: time, images/s, peak memory, and the share spent on data.

Usage: BITSPIKE_DATA=DIR python benchmarks/epoch/cifar.py [--steps N] [--threads 2] [--out FILE.json]

Without the data set the images are random, with --steps the epoch is cut short; the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
import warnings
from pathlib import Path

import torch

from bitspike.data import Batches, ImageSet, load
from bitspike.files import write_json_atomic
from bitspike.models import he_resnet20
from bitspike.neurons import LIF
from bitspike.ops import ScanFacts, choose


def images() -> tuple[ImageSet, str]:
    """CIFAR-10's training images, or random ones of the same shape, and which they are."""
    if os.environ.get("BITSPIKE_DATA"):
        return load("cifar10").train, "CIFAR-10"
    drawn = torch.randint(0, 256, (45_000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(45_000) % 10
    names = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    return ImageSet(drawn, labels, names, 255, (0.5,) * 3, (0.25,) * 3, "random"), "random images"


def measure(steps: int | None, threads: int) -> dict[str, object]:
    """Run the epoch."""
    torch.set_num_threads(threads)
    data, kind = images()
    batches = Batches(data, 128, shuffle=True, augment="shift-flip-cutout", pad=4, drop_last=True)
    warnings.simplefilter("ignore", UserWarning)
    torch.manual_seed(0)
    neuron = LIF(threshold=0.5, decay=0.25, surrogate="rectangle:1.0")
    net = he_resnet20(neuron, T=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernel = choose("scan", "cpu", ScanFacts(neuron.fused(), torch.float32, torch.float32)).name
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    total = min(steps or len(batches), len(batches))
    data_s, seen, loss_sum = 0.0, 0, 0.0
    start = mark = time.perf_counter()
    for index, (x, labels) in enumerate(batches):
        data_s += time.perf_counter() - mark
        loss = torch.nn.functional.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seen += len(labels)
        loss_sum += float(loss.detach()) * len(labels)
        if index + 1 == total:
            break
        mark = time.perf_counter()
    wall_s = time.perf_counter() - start
    return {
        "network": f"he_resnet20, LIF, T = 2, batch 128, float32, channels-last, {kernel} scan",
        "data": kind,
        "augment": "crop (pad 4), flip, cutout 16",
        "whole_epoch": total == len(batches),
        "steps": total,
        "images": seen,
        "wall_s": round(wall_s, 2),
        "images_per_s": round(seen / wall_s, 1),
        "data_share": round(data_s / wall_s, 5),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "mean_loss": round(loss_sum / seen, 4),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = measure(given.steps, given.threads)
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(given.out, result)


if __name__ == "__main__":
    main()
