"""Programs of the table, and the images that they are run on."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bitspike
from bitspike.data import load
from bitspike.runtime import Program

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
    program = bitspike.compile(found.folded, found.calibration)
    assert found.test is not None  # arms of studies have data
    images = found.test.images
    if len(images) < IMAGES:
        images = torch.cat([images, load("digits").train.images])
    x = found.test.normalise(images[:IMAGES]).numpy()
    return Made(program, program.quantize(x), found.test.labels[:IMAGES].numpy(), found.info)


def _programs() -> Any:
    """benchmarks/programs/networks.py, whose name is that of this file."""
    path = ROOT / "benchmarks" / "programs" / "networks.py"
    spec = importlib.util.spec_from_file_location("networks_of_programs", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found
