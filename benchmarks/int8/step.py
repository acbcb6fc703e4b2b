"""What `bitspike.int8` gives in training: the whole step of He's ResNet-20, T = 4, batch 32, channels-last.

Usage: python benchmarks/int8/step.py [--rounds 31] [--threads 2] [--out FILE.json]

zero_grad, forward, cross-entropy, backward, SGD step: forward convolutions in float32 or int8, memory normal or lean.
The networks are equal at the start and alternate step by step, each first every second time, in one process whose heap
is set by `bitspike.keep_memory`. First every layer's int8 output is checked against integers in float64. Medians; the
ratio is that of the steps of one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import int8, keep_memory, lean
from bitspike.files import write_json_atomic
from bitspike.layers import Conv2d
from bitspike.models import he_resnet20
from bitspike.neurons import LIF, MultiBit, Neuron
from bitspike.quantizers import Quantizer, TernaryWeight, Uniform

T, BATCH, IMAGE = 4, 32, 32
CLASS_M: dict[str, Any] = {"threshold": 1.0, "decay": 0.5, "surrogate": "rectangle", "detach_reset": True}
CASES: dict[str, tuple[Neuron, Quantizer]] = {
    "MultiBit(1,1), 4-bit weights": (MultiBit(1, 1, reset="soft", **CLASS_M), Uniform(4)),
    "binary spikes, ternary weights": (LIF(reset="hard", **CLASS_M), TernaryWeight()),
}


@contextmanager
def both() -> Iterator[None]:
    """int8 and lean."""
    with int8(), lean():
        yield


@contextmanager
def plain() -> Iterator[None]:
    """Neither."""
    yield


PAIRS: dict[str, dict[str, Callable[[], Any]]] = {
    "normal memory": {"float32": plain, "int8": int8},
    "lean memory": {"float32": lean, "int8": both},
}


def network(neuron: Neuron, weight: Quantizer) -> nn.Module:
    """The network, from the same initial weights every time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # inert factors
        net = he_resnet20(neuron, weight, T=T)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def check(net: nn.Module, x: Tensor) -> dict[str, object]:
    """Hidden layers whose int8 output is scale times the integers of float64; their inputs' firing rates."""
    rates: list[float] = []

    def compare(layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        assert isinstance(layer, Conv2d)
        levels, scale = layer.quantizer.to_int(layer.weight.detach())
        s = given[0].detach().flatten(0, 1)
        smallest = float(s[s > 0].min())
        k = (s.double() / smallest).round()
        exact = F.conv2d(k, levels.double(), None, layer.stride, layer.padding).float()
        if not torch.equal(y.detach().flatten(0, 1), exact * (scale * smallest).reshape(-1, 1, 1)):
            raise SystemExit(f"int8 is not exact in {layer}")
        rates.append(int(torch.count_nonzero(s)) / s.numel())

    layers = [m for m in net.modules() if isinstance(m, Conv2d) and m.role != "first"]
    hooks = [layer.register_forward_hook(compare) for layer in layers]
    with int8() as record:
        net(x)
    for hook in hooks:
        hook.remove()
    if record.taken != len(layers):
        raise SystemExit(record.report())
    return {"exact_layers": len(rates), "mean_firing_rate": round(statistics.mean(rates), 3)}


Step = Callable[[], tuple[float, float, float]]


def stepper(net: nn.Module, context: Callable[[], Any], x: Tensor, labels: Tensor) -> Step:
    """One training step; gives its ms, those of the forward and those of the backward pass."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> tuple[float, float, float]:
        start = time.perf_counter()
        optimiser.zero_grad()
        with context():
            loss = F.cross_entropy(net(x), labels)
        middle = time.perf_counter()
        loss.backward()
        backward = time.perf_counter() - middle
        optimiser.step()
        return (time.perf_counter() - start) * 1e3, (middle - start) * 1e3, backward * 1e3

    return step


def measure(neuron: Neuron, weight: Quantizer, rounds: int) -> dict[str, object]:
    """Both pairs of arms, one after the other."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, IMAGE, IMAGE, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    result = check(network(neuron, weight), x)
    for memory, arms in PAIRS.items():
        steps = {arm: stepper(network(neuron, weight), context, x, labels) for arm, context in arms.items()}
        result[memory] = alternate(steps, rounds)
    return result


def alternate(steps: dict[str, Step], rounds: int) -> dict[str, object]:
    """Median and least ms of both arms, and the ratio of their steps in one round, with its middle nine tenths."""
    taken: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in steps}
    for round_ in range(rounds + 3):
        for arm in sorted(steps, reverse=bool(round_ % 2)):
            times = steps[arm]()
            if round_ >= 3:
                taken[arm].append(times)
    rows: dict[str, object] = {}
    for arm, samples in taken.items():
        whole, forward, backward = (round(statistics.median(part), 1) for part in zip(*samples, strict=True))
        least = round(min(sample[0] for sample in samples), 1)
        rows[arm] = {"step_ms": whole, "least_ms": least, "forward_ms": forward, "backward_ms": backward}
    ratios = sorted(a[0] / b[0] for a, b in zip(taken["int8"], taken["float32"], strict=True))
    cut = len(ratios) // 20
    spread = [round(ratios[cut], 3), round(ratios[-1 - cut], 3)]
    return {**rows, "ratio": round(statistics.median(ratios), 3), "ratio_5_95": spread}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, object] = {
        "network": f"he_resnet20, T = {T}, batch {BATCH}, channels-last, whole training step",
        "keep_memory": keep_memory() or "yes",
        "threads": given.threads,
        "rounds": given.rounds,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cases": {name: measure(*case, given.rounds) for name, case in CASES.items()},
    }
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(given.out, result)


if __name__ == "__main__":
    main()
