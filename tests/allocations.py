"""Tasks for repairs and searches, and a small recipe with budgets."""

from __future__ import annotations

import functools
import random
from typing import Any

from bitspike.allocation.repair import Problem, State
from bitspike.data import Splits
from bitspike.training.job import load_data
from bitspike.training.recipe import Recipe, recipe_from_mapping


def problem(weights: list[tuple[float, int, int]], limits: list[float], seed: int = 0) -> Problem:
    """Layers of (macs, weights, spikes): levers are weight bits, spike bits and T of each; budgets product and size."""
    draw = random.Random(seed)
    scale = [draw.uniform(0.1, 10) for _ in range(2 * len(weights))]

    def used(state: State) -> tuple[float, ...]:
        layers = _layers(weights, state)
        ace = sum(macs * w * s * t for (macs, _, _), (w, s, t) in layers)
        size = sum(count * w for (_, count, _), (w, _, _) in layers)
        peak = [count * s * t for (_, _, count), (_, s, t) in layers]
        return tuple(value / limit for value, limit in zip((ace, size, *peak), limits, strict=False))

    def harm(state: State) -> float:
        rows = _layers(weights, state)
        return sum(
            scale[2 * i] * 4.0**-w + scale[2 * i + 1] / (t * (2**s - 1)) ** 2 for i, (_, (w, s, t)) in enumerate(rows)
        )

    low = (1, 1, 1) * len(weights)
    high = (8, 6, 3) * len(weights)
    return Problem(low, high, used, (1.0,) * len(limits), harm)


def _layers(
    weights: list[tuple[float, int, int]], state: State
) -> list[tuple[tuple[float, int, int], tuple[int, int, int]]]:
    return [(layer, (state[3 * i], state[3 * i + 1], state[3 * i + 2])) for i, layer in enumerate(weights)]


def random_problem(draw: random.Random) -> tuple[Problem, State]:
    layers = draw.randint(1, 5)
    weights = [(10 ** draw.uniform(2, 5), draw.randint(10, 3000), draw.randint(8, 500)) for _ in range(layers)]
    whole = problem(weights, [1.0] * (2 + layers))
    least, most = whole.used(whole.low), whole.used(whole.high)
    limits = [a * (b / a) ** draw.uniform(0.02, 1.1) for a, b in zip(least, most, strict=True)]
    chosen = draw.randint(1, len(limits))
    made = problem(weights, limits[:chosen], draw.randint(0, 99))
    return made, tuple(draw.randint(a, b) for a, b in zip(made.low, made.high, strict=True))


def recipe(
    budget: dict[str, Any], train: dict[str, Any] | None = None, neuron: dict[str, Any] | None = None, **table: Any
) -> Recipe:
    chosen = {"refined": True, "learn_steps": True, "bits_lr": 0.5, **table}
    return recipe_from_mapping(
        {
            "name": "budgets",
            "data": {"name": "digits", "batch_size": 128},
            "model": {"options": {"width": 4, "stem_stride": 1}},
            "neuron": neuron or {"name": "adaptive", "bits": 4},
            "weight": {"name": "learned_bits", "bits": 4},
            "policy": {"first": "same", "last": "same"},
            "train": {"epochs": 2, "threads": 1, "log_every": 1, "lr": 0.05, **(train or {})},
            "allocation": {**chosen, "budget": budget},
        }
    )


@functools.cache
def splits() -> Splits:
    return load_data(recipe({"size": "1MB"}))
