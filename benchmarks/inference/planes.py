"""Planes of bits and the dense kernel of the same instruction set in turn: ns a pixel of one layer, for the costs in
`bitspike.runtime.engine.bits`.

    python benchmarks/inference/planes.py [--isa NAME ...] [--steps 4] [--seconds 0.3] [--threads 1]

A layer is a convolution with its neuron; times are the least of the engine's own clock. "chosen" is what the engine
takes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from unittest import mock

import numpy as np

from bitspike.runtime import INPUT, Builder, Input, Program, Value
from bitspike.runtime.engine import available_isas, forms

LAYERS = {
    "64 → 64, 3×3, 16²": (64, 16, 3),
    "16 → 16, 3×3, 32²": (16, 32, 3),
    "32 → 32, 3×3, 16²": (32, 16, 3),
    "128 → 128, 3×3, 8²": (128, 8, 3),
    "512 → 512, 3×3, 4²": (512, 4, 3),
    "64 → 64, 1×1, 16²": (64, 16, 1),
    "linear 512 → 512": (512, 1, 0),
}
SPIKES = {"1 bit": (0, 1), "2 bits": (0, 3), "3 bits": (0, 7), "4 bits": (0, 15), "ternary": (-1, 1)}
WEIGHTS = {"±1": [-1, 1], "ternary": [-1, 0, 1], "2 bits": [-3, -1, 1, 3]}


def program(layer: str, spikes: str, weights: str, steps: int, threads: int, isa: str) -> Program:
    """One layer: convolution, scaling, neuron."""
    random = np.random.default_rng(0)
    (channels, side, kernel), (low, high) = LAYERS[layer], SPIKES[spikes]
    shape = (channels, side, side) if kernel else (channels,)
    b = Builder(Input(Value(shape, low, high, 0, steps)))
    weight = b.constant(random.choice(WEIGHTS[weights], (channels, channels, *(kernel, kernel)[: 2 * bool(kernel)])))
    border = [kernel // 2] * 2
    place: dict[str, Any] = {"stride": [1, 1], "before": border, "after": border, "dilation": [1, 1]}
    y = b.add("convolution" if kernel else "linear", [INPUT], place if kernel else {}, {"weight": weight})
    scales = {
        "multiplier": b.constant(random.integers(2**18, 2**19, channels)),
        "bias": b.constant(random.integers(-600, 900, channels)),
    }
    y = b.add("rescale", [y], {"shift": 20, "exponent": 12}, scales)
    fire = {"count": [1], "signed": False, "reset": "hard", "decay": [1, 2]}
    return Program(
        b.finish(b.add("fire", [y], fire, {"first": b.constant(np.array([2048]))})).spec, "native", threads, isa
    )


def planes(made: Any, isa: str) -> forms.Form:
    """Planes of bits, fast or not."""
    dense = forms.dense_form(made, isa)
    return forms.bits_form(made, isa, dense) or dense


def compared(layer: str, spikes: str, weights: str, given: argparse.Namespace, isa: str) -> tuple[float, float, str]:
    """(µs a step with the dense kernel, with planes, form that is chosen)."""
    runs, times = [], [float("inf")] * 2
    for choose in (forms.dense_form, planes):
        with mock.patch("bitspike.runtime.engine.planner.form_of", choose):
            runs.append(program(layer, spikes, weights, given.steps, given.threads, isa).engine)
    chosen = program(layer, spikes, weights, given.steps, given.threads, isa).engine.rows[0].form
    value = runs[0]._given.value
    x = np.random.default_rng(1).integers(value.low, value.high, (given.steps, 1, *value.shape), endpoint=True)
    x = x.astype(value.dtype)
    end = time.perf_counter() + given.seconds
    while time.perf_counter() < end:
        for i, run in enumerate(runs):
            times[i] = min(times[i], *(float(run.profile(x)[0]) for _ in range(3)))
    dense, bits = (spent / 1e3 / given.steps for spent in times)
    return dense, bits, chosen


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="*", default=available_isas())
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print("| isa | layer | spikes | weights | dense µs | planes µs | ratio | chosen |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | --- |")
    for isa in given.isa:
        for layer in LAYERS:
            for spikes in SPIKES:
                for weights in WEIGHTS:
                    dense, bits, chosen = compared(layer, spikes, weights, given, isa)
                    row = f"| {isa} | {layer} | {spikes} | {weights} | {dense:.2f} | {bits:.2f} | {bits / dense:.2f}"
                    print(f"{row} | {chosen} |", flush=True)


if __name__ == "__main__":
    main()
