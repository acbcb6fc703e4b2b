"""Traces worked out by hand, one JSON each, for every engine that runs neurons.

A file holds the registered name of the neuron, its options, the arithmetic in words ("how"), and for every time step
(rows) and neuron (columns) the current x, the membrane u before firing, the spike s and the membrane v after. All
numbers are dyadic, so that every engine must give them exactly, in single precision too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Rows = list[list[float]]


@dataclass(frozen=True)
class Trace:
    """One file; x, u, s, v are [T][N]."""

    name: str
    neuron: str
    options: dict[str, Any]
    how: list[str]
    x: Rows
    u: Rows
    s: Rows
    v: Rows


def traces(neuron: str | None = None) -> list[Trace]:
    """Every trace, or those of one neuron, in order of file name."""
    found = [Trace(path.stem, **json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]
    return [trace for trace in found if neuron in (None, trace.neuron)]
