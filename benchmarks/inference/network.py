"""An exported network: its layers in plain words, read without bitspike, and the units of what they send.

A neuron's spikes are integer levels k. `units` says what one level is worth where a runtime quantizes: k·spacing, so
that rounding a membrane to a spike is one quantization whose scale is the neuron's spacing; weights and gains behind it
are divided by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Layer = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Exported:
    """What `compiled.py` wrote into a folder.

    Attributes:
        T: steps. given: step, low and high of the input's levels. layers: in order. arrays: by "layer.part".
    """

    T: int
    given: dict[str, float]
    layers: list[Layer]
    arrays: Arrays

    @cached_property
    def units(self) -> dict[str, float]:
        """Value → what one of its levels is worth; 1 for real values."""
        found: dict[str, float] = {}
        for layer in self.layers:
            if layer["kind"] == "neuron":
                found[layer["name"]] = layer["spacing"]
            elif layer["kind"] in ("pad", "pool", "average"):
                found[layer["name"]] = found[layer["inputs"][0]]
            else:
                found[layer["name"]] = 1.0
        return found

    def weights(self, layer: Layer, units: bool = False) -> tuple[Any, Any, Any]:
        """(int8 levels [O, ...], scale [O], bias [O]); with ``units`` for inputs in their units."""
        levels, scale, bias = (self.arrays[f"{layer['name']}.{part}"] for part in ("levels", "scale", "bias"))
        return levels, scale / np.float32(self.units[layer["inputs"][0]] if units else 1.0), bias

    def real(self, layer: Layer) -> tuple[Any, Any]:
        """(float32 weights [O, ...], bias [O])."""
        levels, scale, bias = self.weights(layer)
        return levels.astype(np.float32) * scale.reshape(-1, *[1] * (levels.ndim - 1)), bias

    def factor(self, layer: Layer, units: bool = False) -> Any:
        """Of a gain, [1 or C, 1, 1]."""
        unit = self.units[layer["inputs"][0]] if units else 1.0
        return (self.arrays[f"{layer['name']}.factor"] / np.float32(unit)).reshape(-1, 1, 1).astype(np.float32)


def read(folder: Path) -> Exported:
    """The network of a folder."""
    found = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    with np.load(folder / "network.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return Exported(found["T"], found["input"], found["layers"], arrays)


def samples(folder: Path) -> Arrays:
    """images [256, 3, H, W], labels, logits (of the program), folded (of the folded float network)."""
    with np.load(folder / "images.npz") as file:
        return {name: file[name] for name in file.files}
