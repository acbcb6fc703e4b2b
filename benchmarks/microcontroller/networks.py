"""Programs of the table, and the images that they are run on."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bitspike
from bitspike.checks import bad_value
from bitspike.data import load
from bitspike.runtime import Program
from bitspike.training.job import digest, load_data
from bitspike.training.runs import RunFolder
from bitspike.training.study import plan, read_study

ROOT = Path(__file__).resolve().parents[2]
JOBS = (
    *(
        "digits_demo/binary",
        "digits_demo/ternary",
        "digits_demo/multibit",
        "digits_budgets/medium",
        "digits_demo/reverb",
    ),
    *("fashion_mnist_study/multibit", "fashion_mnist_study/reverb"),
)
"""Arms of built-in studies, seed 0."""
IMAGES = 1000


@dataclass(frozen=True)
class Made:
    """A program with images, as integers of its input, and the classes of the first of them, which are test images."""

    program: Program
    images: np.ndarray
    labels: np.ndarray
    info: dict[str, Any]


def made(name: str, work: Path) -> Made:
    """Train (or load) an arm, fold and compile it with the defaults; 1,000 images, test images first."""
    found = _programs().network(name, work)
    found.info.update(finished(name, work))
    program = bitspike.compile(found.folded, found.calibration)
    assert found.test is not None  # arms of studies have data
    images = found.test.images
    if len(images) < IMAGES:
        images = torch.cat([images, load("digits").train.images])
    x = found.test.normalise(images[:IMAGES]).numpy()
    return Made(program, program.quantize(x), found.test.labels[:IMAGES].numpy(), found.info)


def finished(name: str, work: Path) -> dict[str, int]:
    """The last epoch that a run was trained for, and how many its recipe has.

    Raises:
        ValueError: the run is not finished, or is not one of the study's recipe.
    """
    study, _, arm = name.partition("/")
    recipe = next(job.recipe for job in plan(read_study(study)) if job.arm == arm and job.seed == 0)
    run = RunFolder(work / study / f"{arm}-seed0")
    key = run.figures()["key"]  # of a finished run only
    lines = run.metrics.read_text(encoding="utf-8").splitlines() if run.metrics.exists() else []
    facts = {"epoch": json.loads(lines[-1])["epoch"] if lines else 0, "of_epochs": recipe.train.epochs}
    if facts["epoch"] != facts["of_epochs"]:
        got = f"epoch {facts['epoch']} of {facts['of_epochs']}"
        raise bad_value(str(run.path), "the table is made of finished runs", got, "finish it: bitspike train --resume")
    expected = recipe.key(digest(recipe, load_data(recipe)))
    if key != expected:
        raise bad_value(str(run.path), f"the run must be of {study}'s recipe", "another", "train it in another folder")
    return facts


def _programs() -> Any:
    """benchmarks/programs/networks.py, whose name is that of this file."""
    path = ROOT / "benchmarks" / "programs" / "networks.py"
    spec = importlib.util.spec_from_file_location("networks_of_programs", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found
