"""The loop of a worker: one JSON object a line in, one out.

| order | answer |
| --- | --- |
| `hello` | versions, threads, instruction set |
| `prepare` id, spec, warm_s | builds the case and warms it up: facts, first_s, estimate_ms |
| `run` id, n | n calls in a row: ms per call, the CPU time of others |
| `memory` spec, steps | peak memory of a training step (once a process) |
| `drop` ids | forgets cases, all without ids |

A case that a library cannot run answers `unavailable` with the reason; a fault answers `error`.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from workers.clock import others_s

Spec = dict[str, Any]


class UnavailableError(Exception):
    """The library has no such case; the message says why."""


@dataclass
class Prepared:
    """A case ready to be timed.

    Args:
        call: one call of what is measured.
        facts: what it computes, for the results.
        network, inputs, forward: of a training step only, for its memory (see `workers.memory`).
    """

    call: Callable[[], object]
    facts: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)


Build = Callable[[Spec], Prepared]


def serve(packages: tuple[str, ...], build: Build) -> None:
    """Answer orders until the input ends. What libraries print goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    cases: dict[str, Prepared] = {}
    for line in sys.stdin:
        try:
            answer = _obey(json.loads(line), packages, build, cases)
        except UnavailableError as reason:
            answer = {"unavailable": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _obey(order: Spec, packages: tuple[str, ...], build: Build, cases: dict[str, Prepared]) -> Spec:
    match order["do"]:
        case "hello":
            torch.set_num_threads(order["threads"])
            return {
                "versions": {name: version(name) for name in ("torch", *packages)}
                | {"python": platform.python_version()},
                "threads": torch.get_num_threads(),
                "instructions": torch.backends.cpu.get_cpu_capability(),
            }
        case "prepare":
            return _prepare(order, build, cases)
        case "run":
            return _run(cases[order["id"]], order["n"])
        case "memory":
            from workers.memory import measure

            return measure(build, order["spec"], order["steps"])
        case "drop":
            for name in order.get("ids") or list(cases):
                cases.pop(name, None)
            if not cases:
                torch.compiler.reset()
            gc.collect()
            return {}
    raise ValueError(f"no such order: {order['do']}")


def _prepare(order: Spec, build: Build, cases: dict[str, Prepared]) -> Spec:
    made = build(order["spec"])
    start = time.perf_counter()
    made.call()
    first_s = time.perf_counter() - start
    spent, taken = 0.0, []
    while len(taken) < 2 or (spent < order["warm_s"] and len(taken) < 1000):
        start = time.perf_counter()
        made.call()
        taken.append(time.perf_counter() - start)
        spent += taken[-1]
    cases[order["id"]] = made
    late = sorted(taken[len(taken) // 2 :])
    return {"facts": made.facts, "first_s": round(first_s, 3), "estimate_ms": late[len(late) // 2] * 1e3}


def _run(made: Prepared, n: int) -> Spec:
    """One uncounted call, so that caches and threads are the case's own, then n counted ones in one reading."""
    gc.collect()
    made.call()
    others = others_s()
    start = time.perf_counter()
    for _ in range(n):
        made.call()
    wall_s = time.perf_counter() - start
    return {"ms": wall_s * 1e3 / n, "wall_s": wall_s, "others_s": others()}
