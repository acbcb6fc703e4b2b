"""Configurations of every registered quantizer, read from its constructor; `OWN` adds what one alone has."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from typing import Any

from bitspike.quantizers import QUANTIZERS, Quantizer

Options = dict[str, Any]
Case = tuple[str, Options]

SHARED: Mapping[str, tuple[Any, ...]] = {"factor": ("none", "layer", "output", "input"), "scale": ("layer", "output")}
BITS = (1, 2, 3, 4, 5, 8)
SINGLE: tuple[Options, ...] = ({"clip": 0.25}, {"scale_gradient": False}, {"learn_bits": False, "bits": 3})
OWN: Mapping[str, list[Options]] = {
    "ternary": [{"factor": "layer", "share": 0.0}, {"factor": "output", "share": 0.9, "clip": 0.25}],
}


def options_of(kind: type[Quantizer]) -> list[Options]:
    """Every sharing with every number of bits, and single options, as far as a constructor has and takes them."""
    parameters = inspect.signature(kind).parameters
    axes = [[(key, value) for value in values] for key, values in SHARED.items() if key in parameters]
    axes += [[("bits", bits) for bits in BITS]] if "bits" in parameters else []
    rows = [dict(row) for row in itertools.product(*axes)] if axes else []
    rows += [options for options in SINGLE if options.keys() <= parameters.keys()]
    return [options for options in rows if _takes(kind, options)]


def _takes(kind: type[Quantizer], options: Options) -> bool:
    try:
        kind(**options)
    except ValueError:
        return False
    return True


def cases() -> list[Case]:
    """(name, options) over every registered quantizer, its defaults first."""
    return [
        (name, options) for name, kind in QUANTIZERS.items() for options in [{}, *options_of(kind), *OWN.get(name, [])]
    ]


def label(case: Case) -> str:
    """A short test id."""
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def build(name: str, options: Options) -> Quantizer:
    return QUANTIZERS[name](**options)
