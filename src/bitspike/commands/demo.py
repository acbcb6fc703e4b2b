"""``bitspike demo``."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.commands.program import compile, run, verify
from bitspike.commands.study import run_queue, show
from bitspike.files import read_json, write_bytes_atomic, write_json_atomic
from bitspike.progress import Shown
from bitspike.report import as_text
from bitspike.training.job import load_data
from bitspike.training.runs import RunFolder, train_run
from bitspike.training.study import Study, plan, read_study

_ARM = "multibit"
_SHOWN = 8


def demo(out: Path = Path("demo-out"), quiet: bool = False) -> None:
    """Four kinds of spikes on scikit-learn's digits: train, fold, compare; compile and run one (about two minutes).

    Args:
        out: Folder of the results: one JSON a job, compare.json, compare.png; run/, multibit.bitspike, program.json,
            images.npy.
        quiet: Show no progress.
    """
    queue = replace(read_study("digits_demo"), out=out)
    if run_queue(queue, (0, 1), quiet).diverged:
        raise SystemExit(1)
    show(queue, out / "compare.json", out / "compare.png")
    _compile(queue, quiet)


def _compile(queue: Study, quiet: bool) -> None:
    """One arm as a run folder and as a program: sizes, agreement on the test split, the first test images."""
    recipe = next(job.recipe for job in plan(queue) if job.arm == _ARM)
    folder, model, images = queue.out / "run", queue.out / f"{_ARM}.bitspike", queue.out / "images.npy"
    with Shown(1, quiet) as shown:
        shown.job(1, 1, f"{_ARM} as a run, {folder}")
        train_run(recipe, folder, True, shown.step)
    _say(f"compile {folder} --out {model} --pixels")
    compile(folder, model, pixels=True)
    _say(f"verify {folder} {model} --drop 0.02")
    verify(folder, model, drop=0.02)
    test = load_data(recipe).test
    array = io.BytesIO()
    np.save(array, test.images[:_SHOWN].numpy())
    write_bytes_atomic(images, array.getvalue())
    _say(f"run {model} --input {images}")
    run(model, images)
    print(f"labels: {', '.join(test.classes[int(label)] for label in test.labels[:_SHOWN])}\n")
    weights = RunFolder(folder).weights("final")
    sizes = {"float32_bytes": weights.stat().st_size, "program_bytes": model.stat().st_size}
    found: Any = read_json(folder / "verify.json")
    figures = {key: found[key] for key in ("samples", "folded_accuracy", "accuracy", "agreement")}
    write_json_atomic(queue.out / "program.json", {"arm": _ARM, **figures, **sizes})
    rows = [
        ["what", "bytes", "file"],
        ["weights, float32", f"{sizes['float32_bytes']:,}", str(weights)],
        ["integer program: operations, weights, report", f"{sizes['program_bytes']:,}", str(model)],
    ]
    print(as_text(rows))


def _say(command: str) -> None:
    """The command line that does what comes now."""
    print(f"\n$ bitspike {command}", flush=True)
