"""Forecast latencies beside measured ones: random allocations of two networks with random weights.

    python benchmarks/budgets/latency.py [--networks digits resnet] [--count 24] [--out FILE.json]

Of every network the table of times is measured as before a training with a latency budget. Then come allocations drawn
with a fixed seed, "all" with bits and T anywhere within their bounds, "bits" with T = 1: they are compiled and timed in
turns with each other and the reference program. Uniform allocations say what bits and T do to the time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "training"))

import torch  # noqa: E402
from machine import machine, source  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from bitspike.allocation import Allocation, AllocationConfig  # noqa: E402
from bitspike.allocation.apply import put  # noqa: E402
from bitspike.allocation.forecast import Forecast  # noqa: E402
from bitspike.allocation.latency import Latency  # noqa: E402
from bitspike.allocation.repair import State  # noqa: E402
from bitspike.allocation.timing import measured_times  # noqa: E402
from bitspike.files import write_json_atomic  # noqa: E402
from bitspike.layers import Refined  # noqa: E402
from bitspike.models import Policy, he_resnet20, study_cnn  # noqa: E402
from bitspike.neurons import Adaptive  # noqa: E402
from bitspike.quantizers import LearnedBits  # noqa: E402
from bitspike.training.clock import EngineClock  # noqa: E402

UNIFORM = ((1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1), (3, 1, 1), (3, 3, 1), (6, 6, 1), (1, 1, 2), (6, 6, 2), (6, 6, 3))
"""Weight bits, spike bits, T."""


def network(name: str) -> tuple[nn.Module, Tensor]:
    """(a network with learned bits and T, all layers alike, its norms settled; inputs)."""
    torch.manual_seed(0)
    neuron, weight = Refined(Adaptive(4), T=2, learn_T=True), LearnedBits(4)
    policy = Policy(first=weight, last=weight, downsample=weight)
    if name == "digits":
        x = torch.randn(64, 1, 8, 8)
        net: nn.Module = study_cnn(neuron, weight, 1, (1, 8, 8), width=16, stem_stride=1, policy=policy)
    else:
        x = torch.randn(32, 3, 32, 32)
        net = he_resnet20(neuron, weight, T=1, width=8, policy=policy)
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(x)
    return net.eval(), x


def drawn(forecast: Forecast, count: int, steps: int | None) -> list[State]:
    """Random allocations; with a T for all, if one is given."""
    draw = random.Random(0)
    return [
        tuple(
            steps if steps is not None and lever.kind == "steps" else draw.randint(lever.low, lever.high)
            for lever in forecast.levers
        )
        for _ in range(count)
    ]


def ranks(values: list[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    return [float(order.index(i)) for i in range(len(values))]


def measured(name: str, count: int) -> dict[str, Any]:
    """Table, random and uniform allocations of one network."""
    net, x = network(name)
    allocation = Allocation(net, AllocationConfig(renewal="range", extreme="fresh"))
    allocation.start(x)
    forecast, clock = Forecast(allocation, x), EngineClock(x, threads=1)
    times = measured_times(forecast, x, clock, lambda done, all_: print(f"{name}: {done}/{all_}", end="\r", flush=True))
    latency = Latency(forecast, times)
    clock.seconds = 0.5

    def networks(states: list[State]) -> Iterator[nn.Module]:
        for state in states:
            put(forecast, state, x)
            yield net

    def time(states: list[State]) -> list[float]:
        return [timed.whole * times.reference_ms for timed in clock(networks(states))]

    found: dict[str, Any] = {"reference_ms": times.reference_ms, "rest_ms": latency.rest_ms, "machine": times.machine}
    for kind, steps in (("all", None), ("bits", 1)):
        states = drawn(forecast, count, steps)
        pairs = list(zip(map(latency, states), time(states), strict=True))
        ahead, after = [[pair[i] for pair in pairs] for i in (0, 1)]
        found[kind] = {
            "rank_correlation": round(statistics.correlation(ranks(ahead), ranks(after)), 3),
            "median_relative_error": round(statistics.median(abs(a / b - 1) for a, b in pairs), 4),
            "median_signed_error": round(statistics.median(a / b - 1 for a, b in pairs), 4),
            "measured_range_ms": [round(min(after), 5), round(max(after), 5)],
            "pairs_ms": [[round(a, 5), round(b, 5)] for a, b in pairs],
        }
        print(name, kind, {key: value for key, value in found[kind].items() if key != "pairs_ms"}, flush=True)
    alike = [{"weights": w, "spikes": s, "steps": t} for w, s, t in UNIFORM]
    states = [tuple(min(max(row[lever.kind], lever.low), lever.high) for lever in forecast.levers) for row in alike]
    found["uniform"] = [{**row, "ms": round(ms, 5)} for row, ms in zip(alike, time(states), strict=True)]
    print(name, *found["uniform"], sep="\n", flush=True)
    return found


def main() -> None:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=("digits", "resnet"), default=["digits", "resnet"])
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latency.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    networks = {name: measured(name, given.count) for name in given.networks}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"count": given.count, "machine": machine(), "source": source(HERE.parents[1]), "networks": networks}
    write_json_atomic(given.out, found)


if __name__ == "__main__":
    main()
