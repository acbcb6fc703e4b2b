"""What may differ in the recipe of a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value
from bitspike.schema import to_mapping
from bitspike.training.recipe import Recipe, read_recipe

SAFE = (
    *("name", "data.root", "data.cache", "data.eval_batch_size", "data.test"),
    *("train.threads", "train.log_every", "allocation.times"),
)
"""Keys that change nothing of what is learned (threads and batches of the evaluation: no more than its last bits)."""


def stored_recipe(path: Path) -> Recipe | None:
    """The recipe in a run's folder; None where there is none, or none that this version reads."""
    try:
        return read_recipe(path)
    except (OSError, ValueError, TypeError):
        return None


def changes(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Dotted key → (value then, value now) of all that differs."""
    then, now = _flat(to_mapping(old)), _flat(to_mapping(new))
    return {key: (then.get(key), now.get(key)) for key in {**then, **now} if then.get(key) != now.get(key)}


def check_changes(old: Recipe, new: Recipe, done: int) -> None:
    """Raise unless a run of ``old``, ``done`` epochs of which are over, may go on with ``new``.

    Raises:
        ValueError: names the first key that must not change, and both values.
    """
    for key, (before, now) in changes(old, new).items():
        if key in SAFE:
            continue
        must, todo = f"{key} must be {before!r} as in the run", f"set {key} back, or train into another --out"
        if key == "train.epochs":
            if new.train.schedule != "constant":
                must += f", whose schedule {new.train.schedule!r} is laid over all epochs"
                todo += " from these weights (allocation.warm_start=RUN/final.safetensors)"
            elif new.allocation is not None:
                must += ", whose bits or T are learned and frozen by it"
            elif now < done:
                must, todo = f"train.epochs must be at least {done}, which are done", "raise it"
            else:
                continue
        raise bad_value("train --resume", must, repr(now), todo)


def _flat(mapping: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found
