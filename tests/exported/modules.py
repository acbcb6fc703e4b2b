"""Exported WebAssembly modules, run by Node, beside the interpreter."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.export import export
from bitspike.export.wasm.compiler import missing
from bitspike.runtime import Program, Result
from bitspike.runtime.interpreter import step

RUNNER = Path(__file__).with_name("run_module.mjs")
NODE = "" if shutil.which("node") else "node"
LACKING = " and ".join(filter(None, (missing(), NODE)))
needs_compiler = pytest.mark.skipif(bool(missing()), reason=f"not run: there is no {missing()}")
needs_node = pytest.mark.skipif(bool(LACKING), reason=f"not run: there is no {LACKING}")


def interpreted(program: Program) -> Program:
    """The same program, run by its definition."""
    return Program(program.spec, "interpreter")


def job(
    program: Program, folder: Path, samples: Iterable[Any], streamed: Iterable[Any] = (), real: bool = False
) -> Any:
    """Export a program, and say what is to run: samples as `run` takes them, sequences [steps, ...] for a stream."""
    main = folder / "net.wasm"
    export(program, "wasm", main)
    flat = [[np.asarray(x).reshape(-1).tolist() for x in given] for given in (samples, streamed)]
    return {"module": str(main.with_suffix(".mjs")), "samples": flat[0], "streamed": flat[1], "real": real}


def node(jobs: list[Any], folder: Path) -> list[Any]:
    """What came out of each."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    done = subprocess.run(["node", str(RUNNER), str(file)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def said(result: Result, mean: bool) -> dict[str, Any]:
    """A result for one sample in the words of the runner."""
    levels = result.levels[0] if mean else result.levels[:, 0]
    clamped = {name: count for name, count in result.clamped.items() if count}
    flat = [str(k) for k in levels.reshape(-1).tolist()]
    return {"levels": flat, "shape": list(levels.shape), "steps": result.steps, "clamped": clamped}


def is_mean(program: Program) -> bool:
    return any(made.final for made in program.operations)


def said_of(results: dict[str, Result]) -> dict[str, Any]:
    """All outputs of a program that have names."""
    return {name: said(result, result.mean) for name, result in results.items()}


def run_steps(program: Program, x: Any) -> list[dict[str, Any]]:
    """A stream of the interpreter, step by step; x: [steps, ...]."""
    state, rows = None, []
    for one in np.asarray(x):
        result, state = program.stream(one[None, None], state)
        rows.append(said(result, is_mean(program)))
    return rows


def spikes(program: Program, sample: Any) -> dict[str, list[list[int]]]:
    """Layer → numbers that its neurons send at every step of a whole run."""
    x = program.sequence(np.asarray(sample) if program.spec.input.repeat else np.asarray(sample)[:, None])
    found = {}
    for made in program.operations:
        if made.kind == "fire":
            (levels,), _ = step(program.operations, np.ascontiguousarray(x), None, (made.op.outputs[0],))
            found[made.op.outputs[0]] = [row.reshape(-1).tolist() for row in levels[:, 0]]
    return found


def sent_by(seen: list[Any]) -> dict[str, list[list[int]]]:
    """The same of what a module told."""
    found: dict[str, list[list[int]]] = {}
    for name, number, levels in seen:
        rows = found.setdefault(name, [])
        assert number == len(rows)
        rows.append(levels)
    return found
