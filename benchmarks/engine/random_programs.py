"""Random programs through the engine, every instruction set and form of kernel, held against the interpreter.

    PYTHONPATH=src python benchmarks/engine/random_programs.py [--count 100000] [--part 2000] [--out FILE]

Works through parts of seeds; what a part found is in the JSON when the part ends, so a run can be stopped and goes on.
A program that differs is named by its seed, and the exit code is 1. Each program runs whole (3 samples) and as a stream
in chunks (2 samples, two windows), threads 1 to 4 and all forms of kernels in turn; outputs, types, steps summed and
counts of clamped numbers must be equal. Every third program sends one to five outputs by name, the others one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from bitspike.files import read_json, write_json_atomic  # noqa: E402
from bitspike.runtime import INPUT, Program  # noqa: E402
from bitspike.runtime.engine import available_isas  # noqa: E402
from bitspike.runtime.engine.library import ABI  # noqa: E402
from bitspike.runtime.engine.planner import candidates  # noqa: E402
from bitspike.runtime.ops import OPERATIONS  # noqa: E402
from programs.drawn import drawn, input_of  # noqa: E402

OUT = ROOT / "results" / "engine" / "random_programs.json"


def same(a: Any, b: Any) -> bool:
    """Whether two results, or those of all outputs, are equal in everything."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(each, b[name]) for name, each in a.items())
    return bool(
        a.levels.dtype == b.levels.dtype
        and np.array_equal(a.levels, b.levels)
        and (a.steps, a.exponent, dict(a.clamped)) == (b.steps, b.exponent, dict(b.clamped))
    )


def stream(program: Program, x: Any, cut: int) -> list[Any]:
    """Results of two chunks."""
    state, parts = None, []
    for chunk in (x[:cut], x[cut:]):
        if len(chunk):
            part, state = program.feed(chunk, state)
            parts.append(part)
    return parts


def check(seed: int, isas: tuple[str, ...], found: Counter[str]) -> list[str]:
    """What differs for one seed, by instruction set; ``found`` counts operations, neighbours and forms."""
    program = drawn(seed, wide=seed % 4 == 0, several=seed % 3 == 2)
    slow = Program(program.spec, "interpreter")
    x, live = input_of(program, seed, batch=3), input_of(program, seed + 1, batch=2, windows=2)
    cut = 1 + seed % max(1, len(live) - 1)
    whole, parts = slow.run(x), stream(slow, live, cut)
    found["clamped"] += any(each.clamped for each in whole.values())
    found[f"outputs {len(whole)}"] += 1
    wrong = []
    for i, isa in enumerate(isas):
        known = {made.op.name: candidates(made, isa) for made in program.operations if "weight" in made.constants}
        forms = {name: each[(seed + i) % len(each)].name for name, each in known.items()}
        fast = Program(program.spec, "native", 1 + (seed + i) % 4, isa, forms)
        pairs = [(whole, fast.run(x)), *zip(parts, stream(fast, live, cut), strict=True)]
        found.update(f"form {isa}: {row.form}" for row in fast.engine.rows if row.form)
        if not all(same(a, b) for a, b in pairs):
            wrong.append(f"{isa} {seed}")
    kind = {name: made.op.kind for made in program.operations for name in made.op.outputs} | {INPUT: INPUT}
    for made in program.operations:
        found[f"operation {made.op.kind}"] += 1
        found.update(f"{kind[name]} → {made.op.kind}" for name in made.op.inputs)
    return wrong


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--part", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    isas = available_isas()
    known = read_json(given.out) if given.out.exists() else None
    if not isinstance(known, dict) or (known["isas"], known["abi"]) != (list(isas), ABI):
        known = {"isas": list(isas), "abi": ABI, "programs": 0, "seconds": 0.0, "different": [], "found": {}}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    while known["programs"] < given.count:
        first, begun, found = known["programs"], time.monotonic(), Counter(known["found"])
        for seed in range(first, min(first + given.part, given.count)):
            known["different"] += check(seed, isas, found)
        known["programs"] = min(first + given.part, given.count)
        known["seconds"] = round(known["seconds"] + time.monotonic() - begun, 1)
        known["found"] = dict(sorted(found.items()))
        known["operations_never_drawn"] = sorted(
            set(OPERATIONS) - {key[10:] for key in found if key.startswith("operation ")}
        )
        write_json_atomic(given.out, known)
        print(f"{known['programs']} programs, {known['seconds']:.0f} s, different: {known['different']}", flush=True)
    return int(bool(known["different"] or known["operations_never_drawn"]))


if __name__ == "__main__":
    raise SystemExit(main())
