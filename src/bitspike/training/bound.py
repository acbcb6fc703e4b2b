"""The recipe that a file of weights was trained by, kept in it, so that a recipe edited afterwards is noticed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from bitspike.checks import bad_value
from bitspike.schema import to_mapping
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.resume import SAFE, changes
from bitspike.training.weights import read_facts

_FACT = "recipe"


def recipe_fact(recipe: Recipe) -> dict[str, str]:
    """What `save_weights` writes beside the hash: the resolved recipe, wherever the data lies."""
    return {_FACT: json.dumps(to_mapping(recipe.anywhere()), sort_keys=True)}


def check_bound(weights: Path, recipe: Recipe, file: Path, todo: str) -> None:
    """Raise where a recipe differs from that of a file of weights, but in keys that change nothing of the network.

    Where the file was written by an older version and says nothing, a warning says so; one that has no hash either is
    left to `read_weights`.

    Args:
        weights: the file. recipe, file: what stands beside it, and where. todo: what to do instead of changing it back.

    Raises:
        ValueError: names the first key that differs, and both values.
    """
    facts = read_facts(weights)
    if not facts:
        return
    try:
        stored = recipe_from_mapping(json.loads(facts[_FACT]), str(weights))
    except (KeyError, ValueError, TypeError):
        warnings.warn(
            f"{weights} does not say by which recipe it was trained (another version wrote it): a change of {file} "
            "would not be noticed.",
            stacklevel=3,
        )
        return
    for key, (before, now) in changes(stored, recipe.anywhere()).items():
        if key not in SAFE:
            must = f"{key} must be {before!r}, by which {weights.name} was trained"
            raise bad_value(str(file), must, repr(now), f"set it back, or {todo}")
