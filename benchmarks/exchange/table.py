"""Every target × every kind of network: exact, how many numbers differ, or refused because ….

    python benchmarks/exchange/table.py [--venvs FOLDER] [--target NAME …] [--out results/exchange]

Each network is trained for a few seconds, folded and compiled; each target writes it, and ``runners/TARGET.py`` runs
what was written in the system it is for. Outputs are held against the interpreter's integers, or, where a target reads
the folded network, spikes and outputs against that network's. A row is kept as soon as it is known (a JSON each), and
``docs/deploy.md`` gets the table. What cannot run here says "not run".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests")]

import torch  # noqa: E402
from cases import KINDS, STEPS, Case, NotRun, Ran, case, said  # noqa: E402
from render import cell, put, table  # noqa: E402

from bitspike.export import TARGETS  # noqa: E402
from bitspike.files import write_json_atomic  # noqa: E402


def runner(target: str) -> Callable[[Case, Path, Path], list[Ran]]:
    """The function `run` of a target's file; raises `NotRun` where there is none, or it needs what is not here."""
    path = HERE / "runners" / f"{target}.py"
    if not path.exists():
        raise NotRun("it has no runner")
    spec = importlib.util.spec_from_file_location(f"runner_{target}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise NotRun(str(error)) from error
    found: Callable[[Case, Path, Path], list[Ran]] = module.run
    return found


def rows(target: str, network: Case, venvs: Path) -> list[dict[str, Any]]:
    """What came out, a row a system that ran it."""
    known = {"target": target, "network": network.name, "T": network.T}
    with tempfile.TemporaryDirectory() as folder:
        try:
            ran = runner(target)(network, Path(folder), venvs)
        except NotRun as reason:
            return [{**known, "not_run": str(reason)}]
        except ValueError as error:
            return [{**known, "refused": said(error)}]
    return [{**known, **{key: value for key, value in asdict(one).items() if value != ""}} for one in ran]


def main() -> None:
    """All of it, or some targets anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venvs" / "exchange")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "exchange")
    parser.add_argument("--target", action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.target or list(TARGETS)
    for name in KINDS:
        for T in STEPS:
            network = case(name, T)
            for target in names:
                found = rows(target, network, given.venvs)
                file = re.sub(r"\W+", "_", f"{target}_{name}_T{T}").strip("_")
                write_json_atomic(given.out / f"{file}.json", {"rows": found})
                print(f"{target}, {name}, T = {T}: {cell(found)}", flush=True)
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(given.out.glob("*_T*.json"))]
    put(ROOT / "docs" / "deploy.md", table([row for file in files for row in file["rows"]]))


if __name__ == "__main__":
    main()
