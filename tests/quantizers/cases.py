"""Configurations of every registered quantizer; one that is not listed is tested as its constructor makes it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from bitspike.quantizers import QUANTIZERS, Quantizer

Case = tuple[str, dict[str, Any]]

SHARING = [{"factor": sharing} for sharing in ("none", "layer", "output", "input")]
CONFIGURATIONS: Mapping[str, list[dict[str, Any]]] = {
    "sign": [*SHARING, {"factor": "layer", "clip": 0.25}],
    "ternary": [*SHARING, {"factor": "layer", "share": 0.0}, {"factor": "output", "share": 0.9, "clip": 0.25}],
    "learned_bits": [{"bits": b, "scale": s} for b, s in itertools.product((1, 2, 3, 4, 8), ("layer", "output"))]
    + [{"scale_gradient": False}, {"learn_bits": False, "bits": 3}],
    "power_of_two": [{"bits": b, "scale": s} for b, s in itertools.product((3, 4, 5), ("layer", "output"))]
    + [{"scale_gradient": False}],
    "uniform": [{"bits": b, "scale": s} for b, s in itertools.product((1, 2, 3, 4, 5, 8), ("layer", "output"))]
    + [{"scale_gradient": False}],
}


def cases() -> list[Case]:
    """(name, options) over every registered quantizer, its defaults first."""
    return [(name, options) for name in QUANTIZERS for options in [{}, *CONFIGURATIONS.get(name, [])]]


def label(case: Case) -> str:
    """A short test id."""
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def build(name: str, options: dict[str, Any]) -> Quantizer:
    return QUANTIZERS[name](**options)
