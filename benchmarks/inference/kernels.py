"""Kernel figures: one 3×3 convolution from 64 to 64 channels at 16×16 with its neuron, by format, form and density.

    python benchmarks/inference/kernels.py [--isa NAME] [--rounds 9] [--keep-disturbed] [--out FILE.json]

A figure is a difference: a program with nine such layers that read one input, less one with a single layer, over eight.
So the call, the conversion of the input and the read-out are left out. The same without convolutions is the part of
neurons and of adding up the layers' spikes; what is left is the kernel alone. Batch 1, 32 steps a call. A star is at
the form that the planner takes when it knows the density. Rows that the file has are kept; remove it to begin anew.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "training"))

import numpy as np  # noqa: E402
from machine import folder_of, machine, source  # noqa: E402
from measure import PAUSE_S, RULE, Sample, as_sample, interval  # noqa: E402
from workers.clock import others_s  # noqa: E402

from bitspike.files import read_json, write_json_atomic  # noqa: E402
from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Spec, Value, verify  # noqa: E402
from bitspike.runtime.engine import available_isas  # noqa: E402
from bitspike.runtime.engine.library import library  # noqa: E402
from bitspike.runtime.engine.planner import DENSITY, candidates, planned  # noqa: E402

CHANNELS, SIDE, STEPS, LAYERS = 64, 16, 32, 9
SPIKES = {"binary": (0, 1), "2 bits": (0, 3), "ternary": (-1, 1), "4 bits": (0, 15), "8 bits": (0, 255)}
WEIGHTS = {"±1": Grid(-1, 1, stride=2), "ternary": Grid(-1, 1), "8 bits": Grid(-127, 127)}
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.5)
SAMPLE_S = 0.05
ROW = ("spikes", "weights", "threads", "form")
Record = dict[str, Any]
PATIENCE = 30  # tries of a figure over its rounds: on a busy machine it waits for idle moments


def spec(low: int, high: int, grid: Grid | None, layers: int) -> Spec:
    """Layers side by side, their spikes added; without a grid they have no convolution."""
    random = np.random.default_rng(0)
    b = Builder(Input(Value((CHANNELS, SIDE, SIDE), low, high, 0, STEPS)))
    total = ""
    for _ in range(layers):
        y = INPUT
        if grid is not None:
            weight = b.constant(random.choice(np.array(grid.levels), (CHANNELS, CHANNELS, 3, 3)), grid)
            place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1], "exponent": None}
            y = b.add("convolution", [INPUT], place, {"weight": weight})
        scales = {
            "multiplier": b.constant(random.integers(2**18, 2**19, CHANNELS)),
            "bias": b.constant(random.integers(-600, 900, CHANNELS)),
        }
        y = b.add("rescale", [y], {"shift": 20, "exponent": 12}, scales)
        constants = {"first": b.constant(np.array([2048]))}
        fire = {"count": [1], "signed": False, "reset": "hard", "decay": [1, 2]}
        y = b.add("fire", [y], fire, constants)
        total = y if not total else b.add("add", [total, y])
    return b.finish(total).spec


def program(given: Spec, threads: int, isa: str, form: str) -> Program:
    """All layers in one form."""
    forms = {op.name: form for op in given.operations if "weight" in op.tensors}
    return Program(given, "native", threads, isa, forms)


def chosen(given: Spec, isa: str, density: float) -> str:
    """The form that the planner takes for the first layer."""
    operations = verify(given)
    info = {DENSITY: {made.op.name: density for made in operations}}
    return next(iter(planned(operations, isa, info).values())).name


def spikes(low: int, high: int, density: float) -> Any:
    """[STEPS, 1, C, H, W] of the alphabet, so many of them not 0."""
    random = np.random.default_rng(1)
    values = random.choice([k for k in range(low, high + 1) if k], (STEPS, 1, CHANNELS, SIDE, SIDE))
    return np.where(random.random(values.shape) < density, values, 0)


def timed(run: Program, x: Any) -> Sample:
    """Ms a call."""
    run(x)
    others, count, start = others_s(), 0, time.perf_counter()
    while time.perf_counter() - start < SAMPLE_S:
        run(x)
        count += 1
    wall = time.perf_counter() - start
    return as_sample({"ms": wall * 1e3 / count, "wall_s": wall, "others_s": others()})


def figure(pair: tuple[Program, Program], x: Any, rounds: int, keep_disturbed: bool) -> tuple[list[float], int]:
    """(µs a layer and step of every round, disturbed rounds that were dropped)."""
    found: list[float] = []
    dropped = 0
    for _ in range(PATIENCE * rounds):
        time.sleep(PAUSE_S / 5)
        one, many = (timed(run, x) for run in pair)
        if (one.disturbed or many.disturbed) and not keep_disturbed:
            dropped += 1
            continue
        found.append((many.ms - one.ms) * 1e3 / STEPS / (LAYERS - 1))
        if len(found) == rounds:
            return found, dropped
    raise SystemExit(f"too disturbed: {len(found)} of {rounds} rounds; run again")


def neurons(record: Record, threads: int, isa: str, rounds: int, keep_disturbed: bool) -> None:
    """What a layer takes without its convolution, and the peak of the instruction set."""
    if str(threads) in record["neuron_us"]:
        return
    known: dict[str, float] = {}
    for spike, (low, high) in SPIKES.items():
        one, many = (Program(spec(low, high, None, layers), "native", threads, isa) for layers in (1, LAYERS))
        found, dropped = figure((one, many), spikes(low, high, 0.1), rounds, keep_disturbed)
        record["dropped"] += dropped
        known[spike] = round(statistics.median(found), 2)
        print(f"{spike}, neurons alone, {threads} threads: {known[spike]} µs", flush=True)
    record["neuron_us"][str(threads)] = known
    record["peak_gops"][str(threads)] = round(2 * one.engine.peak() / 1e9, 1)


def main() -> None:
    """Measure all formats that the file does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=available_isas(), default=available_isas()[-1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep-disturbed", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found_on = machine()
    out = given.out or HERE / "results" / folder_of(found_on["cpu"], available_isas()[-1]) / "kernels.json"
    record = opened(out, given.isa, given.rounds, found_on)
    done = {tuple(row[key] for key in ROW) for row in record["rows"]}
    for threads, spike, weight in product((1, 2), SPIKES, WEIGHTS):
        low, high = SPIKES[spike]
        one, many = (spec(low, high, WEIGHTS[weight], layers) for layers in (1, LAYERS))
        taken = {str(density): chosen(many, given.isa, density) for density in DENSITIES}
        made = next(made for made in verify(one) if "weight" in made.constants)
        for form in (form.name for form in candidates(made, given.isa)):
            if (spike, weight, threads, form) in done:
                continue
            pair = program(one, threads, given.isa, form), program(many, threads, given.isa, form)
            row: Record = {
                **{"spikes": spike, "weights": weight, "threads": threads, "form": form, "us": {}, "interval_us": {}},
                "chosen": [density for density, name in taken.items() if name == form],
                "engine": str(pair[0].engine).splitlines(),
            }
            for density in DENSITIES:
                found, dropped = figure(pair, spikes(low, high, density), given.rounds, given.keep_disturbed)
                record["dropped"] += dropped
                row["us"][str(density)] = round(statistics.median(found), 2)
                row["interval_us"][str(density)] = [round(value, 2) for value in interval(found)]
            operations = 2 * CHANNELS * CHANNELS * 9 * SIDE * SIDE
            row["gops"] = round(operations / statistics.median(row["us"].values()) / 1e3, 1)
            record["rows"].append(row)
            write_json_atomic(out, record)
            print(f"{spike} × {weight}, {form}, {threads} threads: {row['us']} µs", flush=True)
    order = list(product((1, 2), SPIKES, WEIGHTS))
    record["rows"].sort(key=lambda row: order.index((row["threads"], row["spikes"], row["weights"])))
    write_json_atomic(out, record)
    for threads in (1, 2):
        neurons(record, threads, given.isa, given.rounds, given.keep_disturbed)
        write_json_atomic(out, record)


def opened(out: Path, isa: str, rounds: int, found_on: Record) -> Record:
    """What the file has of this CPU, instruction set, number of rounds and build of the engine; else a new record."""
    build = hashlib.sha256(Path(library()._name).read_bytes()).hexdigest()  # type: ignore[union-attr]
    same = {"cpu": found_on["cpu"], "isa": isa, "rounds": rounds, "engine_sha256": build}
    begun = read_json(out) if out.exists() else None
    if isinstance(begun, dict):
        other = [f"{key} {begun.get(key)!r}, not {value!r}" for key, value in same.items() if begun.get(key) != value]
        if other:
            raise SystemExit(f"{out} has rows of {'; '.join(other)}: remove it or name another --out")
        return begun
    out.parent.mkdir(parents=True, exist_ok=True)
    return {
        **same,
        "densities": list(DENSITIES),
        "dropped": 0,
        "rule": RULE,
        "machine": found_on,
        "source": source(HERE.parents[1]),
        "neuron_us": {},
        "peak_gops": {},
        "rows": [],
    }


if __name__ == "__main__":
    main()
