"""Training speed and memory of bitspike beside other libraries, on a CPU with two threads.

Usage: .venv/bin/python benchmarks/training/run.py [--cases neuron networks still memory published …] [--pairs 9]

Writes one JSON a group. See README.md for the rules.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import Bench, NotMeasuredError
from machine import machine, source
from measure import PAUSE_S, RESAMPLES, RULE
from plans.base import Plan, Settings
from process import ROOT, THREADS, WORKERS, Places

from bitspike.files import write_json_atomic

GROUPS = ("neuron", "networks", "still", "memory", "published", "formers", "formers_memory")
RESULTS = Path(__file__).parent / "results"


def run_group(group: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a group; its file is rewritten at the end of every stage."""
    settings = Settings(given.kernel, given.quick, not given.no_compile)
    plan: Plan = import_module(f"plans.{group}").plan(settings)
    rows = [row for row in plan.rows if given.only in f"{row.stage} {row.ours.label} {row.others[0].label}"]
    bench = Bench(Places(given.venvs, given.bitspike_python), given.pairs, given.quick, given.keep_disturbed)
    record: dict[str, Any] = {
        "group": group,
        "complete": False,
        "quick": given.quick,
        "only": given.only or None,
        "machine": machine(),
        "source": source(ROOT),
        "configuration": {
            "threads": THREADS,
            "kernel": given.kernel,
            "pairs": given.pairs,
            "order": "ours, other, ours, other …; all workers alive, one at work",
            "sample": f"as many calls as fill about {plan.sample_s:g} s, after one that does not count",
            "pause_s": PAUSE_S,
            "disturbed": "kept" if given.keep_disturbed else RULE,
            "ratio": f"median of the pairs' ratios; interval: 90 %, bootstrap over pairs, {RESAMPLES} resamples",
        },
        "left_out": list(plan.left_out),
        "rows": [],
    }
    try:
        if not group.endswith("memory"):
            for worker in WORKERS:
                try:
                    bench.start(worker)
                except NotMeasuredError as reason:
                    say(f"{worker}: {reason}")
        for index, row in enumerate(rows):
            start = time.monotonic()
            result = bench.memory(row) if group.endswith("memory") else bench.row(row, plan)
            record["rows"].append(result)
            say(f"{group} {index + 1}/{len(rows)} {said(result)} ({time.monotonic() - start:.0f} s)")
            last = index + 1 == len(rows)
            if last or rows[index + 1].stage != row.stage:
                if not group.endswith("memory"):
                    bench.drop()
                record |= {"complete": last, "versions": bench.versions}
                write_json_atomic(given.out / f"{group}.json", record)
    finally:
        bench.close()
    return record["rows"]


def said(result: dict[str, Any]) -> str:
    """A row in one line."""
    names = f"{result['stage']}: {result['ours']['label']} | {result['other']['label']}"
    if result["status"] != "measured":
        return f"{names}: {result['status']}"
    goal = f", goal {result['goal']['text']} {'met' if result['met'] else 'NOT met'}" if result["goal"] else ""
    if "ours_ms" in result:
        return f"{names}: {result['ours_ms']:g} | {result['other_ms']:g} ms, ratio {result['ratio']:g}{goal}"
    peaks = f"{result['ours']['peak_increase_mib']:g} | {result['other']['peak_increase_mib']:g} MiB"
    return f"{names}: {peaks}, ratio {result['ratio']:g}{goal}"


def say(text: str) -> None:
    """Progress, on the error stream."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Command line; 1 if a row failed (a fault or broken parity; what is only unavailable is no failure)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--pairs", type=int, help="wanted per row; default 9, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that all runs; figures mean nothing")
    parser.add_argument("--keep-disturbed", action="store_true", help="count disturbed samples too (--quick does)")
    parser.add_argument("--kernel", default="native", help="bitspike's scan kernel, default native")
    parser.add_argument("--no-compile", action="store_true", help="leave out what runs under torch.compile")
    parser.add_argument("--only", default="", help="rows whose stage or labels hold this text")
    parser.add_argument("--out", type=Path, help="default benchmarks/training/results; with --quick a temporary folder")
    parser.add_argument("--venvs", type=Path, default=Places.venvs, help="folder with the peers' environments")
    parser.add_argument("--bitspike-python", type=Path, default=Places.bitspike, help="interpreter for bitspike")
    given = parser.parse_args()
    given.keep_disturbed |= given.quick
    given.pairs = given.pairs or (2 if given.quick else 9)
    given.out = given.out or (Path(tempfile.mkdtemp(prefix="bitspike-training-")) if given.quick else RESULTS)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [row for group in given.cases for row in run_group(group, given)]
    failed = [row for row in rows if row["status"].startswith("failed")]
    measured = sum(row["status"] == "measured" for row in rows)
    say(f"{measured} of {len(rows)} rows measured, {len(failed)} failed; results in {given.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
