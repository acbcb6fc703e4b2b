"""Networks as users write them through upgrade, training, fold, cost, streaming, compiling and conversion.

Each step is held to a reference:

    python benchmarks/networks/run.py [NAME ...] [--json FILE] [--seed N]

Prints one line a network and the reason of everything that is not "ok". Exit 1 where a network crashes, differs
without a word, or is refused where zoo/ does not expect it. A minute on one core; needs einops.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "src")]

from measure import STEPS, Outcome, measure  # noqa: E402
from zoo import CASES, Case  # noqa: E402

MARKS = {"ok": "✓", "refused": "r", "different": "≠", "crash": "!", "-": "·"}


def faults(case: Case, found: dict[str, Outcome]) -> list[str]:
    """What should not be: crashes, differences, refusals that are not expected and expected ones that did not come."""
    bad = []
    for step, outcome in found.items():
        words = case.refused.get(step.replace(" ", "_"), case.refused.get(step.split()[0])) or None
        if outcome.kind == "-":
            continue
        if outcome.kind in ("crash", "different") or (outcome.kind == "refused" and words is None):
            bad.append(f"{case.name}: {step} {outcome.kind}: {outcome.detail}")
        elif words is not None and (outcome.kind != "refused" or words not in outcome.detail):
            bad.append(f"{case.name}: {step} should be refused with {words!r}, got {outcome.kind}: {outcome.detail}")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    unknown = set(asked.names) - set(CASES)
    if unknown:
        print(f"no network {', '.join(sorted(unknown))}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    rows, bad = {}, []
    print(f"{'network':34s}" + " ".join(f"{step:>11s}" for step in STEPS))
    for name in asked.names or CASES:
        rows[name] = measure(CASES[name], asked.seed)
        bad += faults(CASES[name], rows[name])
        print(f"{name:34s}" + " ".join(f"{MARKS[o.kind]:>11s}" for o in rows[name].values()), flush=True)
    done = sum(o.kind == "ok" for row in rows.values() for o in row.values())
    refused = sum(o.kind == "refused" for row in rows.values() for o in row.values())
    print(f"\n{len(rows)} networks: {done} steps as the references, {refused} refused, {len(bad)} faults")
    print(*bad, sep="\n")
    if asked.json:
        asked.json.write_text(
            json.dumps({n: {s: asdict(o) for s, o in row.items()} for n, row in rows.items()}, indent=1)
        )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
