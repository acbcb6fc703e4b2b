"""What `bitspike.int8` gives in training: the whole step of He's ResNet-20, T = 4, batch 32, channels-last.

Usage: python benchmarks/int8/step.py [--rounds 21] [--threads 2] [--out FILE.json]

zero_grad, forward, cross-entropy, backward, SGD step: forward convolutions in float32 or int8, memory normal or lean.
The networks are equal at the start and alternate step by step, in shuffled order, in one process whose heap is set by
`bitspike.keep_memory`. First every layer's int8 output is checked against integers in float64. Medians; the ratio is
that of the steps of one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
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
from bitspike.layers import Conv2d
from bitspike.models import he_resnet20
from bitspike.neurons import LIF, MultiBit, Neuron
from bitspike.quantizers import Quantizer, TernaryWeight, Uniform
from bitspike.training.files import write_json_atomic

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


ARMS: dict[str, Callable[[], Any]] = {"float32": plain, "int8": int8, "float32, lean": lean, "int8, lean": both}


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


def stepper(net: nn.Module, context: Callable[[], Any], x: Tensor, labels: Tensor) -> Callable[[], None]:
    """One training step."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        with context():
            loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()

    return step


def measure(neuron: Neuron, weight: Quantizer, rounds: int) -> dict[str, object]:
    """ms a step of every arm, alternating, and the ratio to float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, IMAGE, IMAGE, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    checked = check(network(neuron, weight), x)
    steps = {arm: stepper(network(neuron, weight), context, x, labels) for arm, context in ARMS.items()}
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    order = list(ARMS)
    for round_ in range(rounds + 3):
        random.Random(round_).shuffle(order)
        for arm in order:
            start = time.perf_counter()
            steps[arm]()
            if round_ >= 3:
                taken[arm].append((time.perf_counter() - start) * 1e3)
    return {**checked, "arms": {arm: row(taken[arm], taken["float32"]) for arm in ARMS}}


def row(times: list[float], base: list[float]) -> dict[str, object]:
    """Median and least ms; median ratio and the range of its middle nine tenths."""
    ratios = sorted(t / b for t, b in zip(times, base, strict=True))
    cut = len(ratios) // 20
    return {
        "step_ms": round(statistics.median(times), 1),
        "least_ms": round(min(times), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_5_95": [round(ratios[cut], 3), round(ratios[-1 - cut], 3)],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
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
