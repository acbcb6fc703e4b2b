"""``bitspike reproduce``: one row of a table of results again, end to end, beside what is committed."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from bitspike import native
from bitspike.checks import bad_value
from bitspike.commands.options import Json, write_json
from bitspike.commands.program import beside_test, lowered_run
from bitspike.commands.study import run_queue
from bitspike.data import ImageSet
from bitspike.files import read_json, write_json_atomic
from bitspike.report import as_text
from bitspike.runtime import save
from bitspike.training.job import digest, load_data
from bitspike.training.rows import SCRIPTS, TABLES, Compared, Row, committed, compare_jobs, find_row, table_study
from bitspike.training.runs import RunFolder
from bitspike.training.study import plan

_SHOWN: tuple[str, ...] = (
    "test_accuracy",
    "folded_test_accuracy",
    "validation_accuracy",
    "spike_rate",
    "set_bits",
    "adds",
    "shift_adds",
    "multiplications",
    "size_bytes",
    "bit_budget",
    "s_ace",
)


def reproduce(
    row: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ROW")] = None,
    seed: int | None = None,
    set: tuple[str, ...] = (),
    out: Path = Path("runs/reproduce"),
    results: Path = Path("results"),
    json: Json = None,
    quiet: bool = False,
) -> None:
    """Repeat one row of a table of results and say how it differs from what is committed.

    The data are checked first; then it is trained (a run that was cut goes on), evaluated, folded, compiled, and the
    program runs the test split. Leaves OUT/TABLE/ARM-seedN.json, as `bitspike study` writes it, and in
    OUT/TABLE/runs/ARM-seedN the run, model.bitspike and reproduce.json.

    Args:
        row: TABLE/ARM, e.g. fashion_mnist/ternary; left out: all rows are listed, with what is committed.
        seed: One of the row's; left out: its first.
        set: key=value pairs laid over the base recipe, e.g. data.root=DIR.
        out: Folder of what is made.
        results: Folder of the committed results, results of a checkout; without it there is nothing to compare with.
        json: Write the comparison (or the list) to this file too.
        quiet: Show no progress.
    """
    if row is None:
        _list(results, json)
        return
    found = find_row(row, seed, results, set)
    recipe = found.job.recipe
    data = digest(recipe, load_data(recipe))
    print(f"{found.name}, seed {found.job.seed}: {_data_line(found, data)}", flush=True)
    study = replace(found.study, out=out / found.table)
    (job,) = plan(study)
    folder = study.out / "runs" / job.path.stem
    if run_queue(study, (0, 1), quiet, folder.parent).diverged:
        raise SystemExit(1)
    if not RunFolder(folder).summary.exists():
        must = "it must hold the run of the job that is done"
        raise bad_value(str(folder), must, "none", f"move {job.path} away, or choose another --out")
    done: Any = read_json(job.path)
    compared = None if found.committed is None else compare_jobs(found.committed, done)
    document = {
        "row": found.name,
        "seed": job.seed,
        "committed": None if found.committed is None else str(found.job.path),
        "compared": None if compared is None else compared.as_dict(),
        "figures": {key: done["result"][key] for key in _SHOWN if key in done["result"]},
        "program": _program(folder, recipe.data.test),
        "environment": {**done["environment"], **_machine()},
    }
    write_json_atomic(folder / "reproduce.json", document)
    write_json(json, document)
    _show(found, done, compared, document)


def _data_line(row: Row, found: str) -> str:
    if row.committed is None:
        return "nothing is committed for it to compare with"
    if row.committed.get("data_digest") == found:
        return "data and network are those of the committed job"
    return "data or network structure are NOT those of the committed job, so figures may differ"


def _program(folder: Path, test: bool) -> dict[str, Any]:
    """The run as a program, and what it does on the test split; why not where it cannot be compiled."""
    recipe = RunFolder(folder).read()
    pixels = recipe.model.encoder == "repeat" and isinstance(load_data(recipe).test, ImageSet)
    try:
        program = lowered_run(folder, "final", pixels=pixels)
    except ValueError as error:
        return {"refused": " ".join(str(error).split())}
    path = folder / "model.bitspike"
    facts = {"file": str(path), "size_bytes": save(program, path), "peak_bytes": program.plan.peak_bytes}
    return {**facts, **(beside_test(folder, program).as_dict() if test else {"samples": 0})}


def _machine() -> dict[str, Any]:
    kernels = native.isa_in_use() or "none"
    return {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count(), "kernels": kernels}


def _show(row: Row, done: dict[str, Any], compared: Compared | None, document: dict[str, Any]) -> None:
    old = {} if row.committed is None else row.committed["result"]
    table = [["figure", "committed", "here", "difference"]]
    for key in (key for key in _SHOWN if key in done["result"]):
        new, scale, digits = done["result"][key], *((100.0, 2) if key.endswith(("accuracy", "rate")) else (1.0, 3))
        cells = [f"{scale * new:,.{digits}f}", ""]
        before = "not run" if row.committed is None else "not counted"
        if key in old:
            before, cells[1] = f"{scale * old[key]:,.{digits}f}", f"{scale * (new - old[key]):+,.{digits}f}"
        table.append([key + (" %" if scale > 1 else ""), before, *cells])
    print(as_text(table))
    print(_verdict(compared))
    program = document["program"]
    if "refused" in program:
        print(f"not compiled: {program['refused']}")
    else:
        accuracy = program.get("accuracy")
        said = (
            "" if accuracy is None else f", test accuracy {100 * accuracy:.2f}%, agreement {program['agreement']:.2%}"
        )
        print(f"program: {program['size_bytes']:,} bytes{said}; {program['file']}")


def _verdict(compared: Compared | None) -> str:
    """In words: identical or by how much, and what else is not the same."""
    machine = _machine()
    here = f"here: {machine['machine']}, kernels {machine['kernels']}"
    if compared is None:
        return f"nothing to compare with; {here}"
    lines = [f"identical: all {compared.values:,} values are those that are committed"]
    if not compared.identical:
        apart = [f"{d.key} {d.different} of {d.values}, by {d.largest:.3g} at most" for d in compared.differences]
        count = sum(d.different for d in compared.differences)
        lines = [f"not identical: {count:,} of {compared.values:,} values differ", *(f"  {text}" for text in apart)]
    if not compared.recipe:
        lines.append("the recipe is another one than the committed job's")
    if not compared.data:
        lines.append("data or network structure are others than the committed job's")
    for key, (old, new) in compared.environment.items():
        lines.append(f"{key}: {old} of the committed job, {new} here")
    if not compared.environment:
        lines.append("versions and threads are those of the committed job; its file names neither processor nor code")
    for keys, what in ((compared.only_committed, "not made here"), (compared.only_found, "not in the committed file")):
        lines += [f"{what}: {', '.join(keys)}"] if keys else []
    return "\n".join([*lines, here])


def _list(results: Path, json: Path | None) -> None:
    """All rows, and what is committed of each."""
    table, records = [["row", "seeds", "committed", "accuracy %", "minutes"]], []
    for name in TABLES:
        study = table_study(name, results)
        jobs = plan(study)
        for arm in study.arms:
            own = [job for job in jobs if job.arm == arm.name]
            there = {job.seed: document for job in own if (document := committed(job.path)) is not None}
            got = [document["result"].get("test_accuracy") for document in there.values()]
            accuracy = None if not got or None in got else sum(got) / len(got)
            minutes = sum(d["wall_s"] for d in there.values()) / 60 / len(there) if there else None
            seeds, row = [job.seed for job in own], f"{name}/{arm.name}"
            figures = {"test_accuracy": accuracy, "minutes": minutes}
            records.append({"row": row, "seeds": seeds, "committed": list(there), **figures})
            shown = "not run" if not there else "not read" if accuracy is None else f"{100 * accuracy:.2f}"
            listed = [",".join(map(str, kind)) or "none" for kind in (seeds, there)]
            table.append([row, *listed, shown, "?" if minutes is None else f"{minutes:.1f}"])
    write_json(json, {"rows": records, "scripts": SCRIPTS})
    print(as_text(table))
    for name, command in SCRIPTS.items():
        print(f"{name}: {command}")
