"""Where the time of a training step goes: He's narrow ResNet-20, T = 4, batch 32, float32, channels-last.

Usage: python benchmarks/training/breakdown.py [--out FILE.json]

Own time of every operator, ms a step, with the plain scan, the native one, and ReLU in place of the neurons. Profiling
itself costs a few per cent; for speeds see run.py.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from workers.inputs import images

from bitspike.files import write_json_atomic
from bitspike.models import he_resnet20
from bitspike.neurons import LIF
from bitspike.ops import using

STEPS, LEAST_MS = 5, 0.5
GROUPS = (
    ("convolution, backward", ("aten::convolution_backward",)),
    ("convolution, forward", ("aten::mkldnn_convolution",)),
    ("scan, backward", ("scan_backward", "scan_defaultBackward")),
    ("scan, forward", ("scan",)),
    ("norm, backward", ("native_batch_norm_backward",)),
    ("norm, forward", ("native_batch_norm",)),
    ("adding, copying, filling", ("aten::add", "aten::copy_", "aten::fill_", "aten::zero_", "aten::cat")),
)


def group_of(operator: str) -> str:
    """The group of an operator by the first rule that its name satisfies."""
    return next((name for name, marks in GROUPS if any(mark in operator for mark in marks)), "everything else")


def measure(neuron: nn.Module, kernel: str) -> dict[str, float]:
    """ms a step by group."""
    spec = {"batch": 32, "image": 32, "layout": "channels_last"}
    x, labels = images(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(0)
        net = he_resnet20(neuron, T=4).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        with using(kernel):
            F.cross_entropy(net(x), labels).backward()
        optimiser.step()

    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(STEPS):
            step()
    found: dict[str, float] = {}
    for event in recorded.key_averages():
        group = group_of(event.key)
        found[group] = found.get(group, 0.0) + event.self_cpu_time_total / 1e3 / STEPS
    rounded = {name: round(value, 1) for name, value in found.items() if value >= LEAST_MS}
    return {**dict(sorted(rounded.items(), key=lambda item: -item[1])), "all": round(sum(found.values()), 1)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    lif = LIF(threshold=0.5, decay=0.25, surrogate="rectangle", detach_reset=True)
    result = {
        "LIF, plain scan": measure(lif, "reference"),
        "LIF, native scan": measure(lif, "native"),
        "ReLU": measure(nn.ReLU(), "reference"),
    }
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        facts = {"unit": "ms a step, own time", "threads": 2, "torch": torch.__version__}
        write_json_atomic(given.out, {**facts, **result})


if __name__ == "__main__":
    main()
