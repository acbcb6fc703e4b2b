"""Recipes that train in a moment, on data of the tests' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bitspike.training import recipe_from_mapping
from bitspike.training.recipe import Recipe


def own(name: str, loss: str, hidden: int, epochs: int) -> str:
    """TOML text: a perceptron of two steps on NAME.npz."""
    return f"""
name = "{name}"
[data]
name = "npz:{name}.npz"
batch_size = 32
[model]
name = "mlp"
T = 2
[model.options]
hidden = [{hidden}]
[neuron]
name = "multibit"
[weight]
name = "float"
[train]
epochs = {epochs}
lr = 0.01
optimiser = "adamw"
loss = "{loss}"
threads = 1
"""


def framed(name: str, data: dict[str, Any], root: Path | None, tables: dict[str, Any]) -> Recipe:
    """A small perceptron on frames of a set, three steps; what ``tables`` hold stands over it, table by table."""
    base: dict[str, Any] = {
        "name": name,
        "data": {"batch_size": 8, "validation": 0.2, **data},
        "model": {"name": "mlp", "T": 3, "encoder": "frames", "options": {"hidden": [8]}},
        "neuron": {"name": "multibit"},
        "weight": {"name": "float"},
        "train": {"epochs": 2, "threads": 1},
    }
    if root is not None:
        base["data"]["root"] = str(root)
    return recipe_from_mapping({**base, **{key: {**base.get(key, {}), **value} for key, value in tables.items()}})
