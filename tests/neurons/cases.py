"""Configurations of every registered neuron: every option value by default, every pair of values for slow tests.

A neuron that is registered and not listed here is tested as its constructor makes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitspike.neurons import NEURONS, Neuron

Options = dict[str, Any]

CHANNELS = 5
AMPLITUDE: tuple[Options, ...] = (
    {},
    {"amplitude": 2.0},
    {"amplitude": 1.5, "train_amplitude": "layer"},
    {"amplitude": 0.75, "train_amplitude": "channel"},
    {"amplitude": -1.25, "train_amplitude": "layer", "raw_amplitude": True},
    {"amplitude": 0.7, "train_amplitude": "channel", "raw_amplitude": True},
)
RESET: tuple[Options, ...] = tuple(
    {"reset": reset, "detach_reset": detach} for reset, detach in itertools.product(("hard", "soft"), (False, True))
)
DECAY: tuple[Options, ...] = ({}, {"learn_decay": True}, {"decay": 1.0}, {"decay": 0.0})
SURROGATE: tuple[Options, ...] = tuple(
    {"surrogate": name}
    for name in ("rectangle", "rectangle:0.25", "triangle:0.5", "atan:2.0", "sigmoid:4.0", "fast_sigmoid:5.0")
)
COMMON = (RESET, AMPLITUDE, DECAY, SURROGATE)
THRESHOLD: tuple[Options, ...] = ({"threshold": 1.0}, {"threshold": 0.5}, {"threshold": 0.7})

FACTORS: Mapping[str, tuple[Sequence[Options], ...]] = {
    "lif": (*COMMON, THRESHOLD),
    "ternary": (*COMMON, THRESHOLD),
    "multibit": (
        *COMMON,
        (
            *({"m": 1, "n": 1}, {"m": 1, "n": 0}, {"m": 0, "n": 1}, {"m": 2, "n": 0}, {"m": 1, "n": 2}),
            *({"m": 1, "n": 1, "learn_bits": "integer"}, {"m": 2, "n": 0, "learn_bits": "fraction"}),
        ),
    ),
    "integer": (
        *COMMON,
        (
            *({"D": 4}, {"D": 1}, {"D": 3, "threshold": 0.5}, {"D": 9, "threshold": 0.7}),
            *({"D": 7, "learn_bits": "integer"}, {"D": 1, "threshold": 0.7, "learn_bits": "integer"}),
        ),
    ),
    "signed": (
        *COMMON,
        ({"D": 1}, {"D": 2, "cancels_only": True}, {"D": 1, "slope": 0.25}, {"D": 3, "threshold": 0.5, "slope": 0.3}),
    ),
    "adaptive": (
        ({"decay": 1.0}, {"decay": 0.5, "learn_decay": True}, {"decay": 0.25}),
        tuple({"bits": bits, "signed": signed} for bits, signed in ((4, False), (1, False), (2, True), (3, True))),
        ({"threshold": 1.0}, {"threshold": 0.5, "sharing": "channel"}, {"threshold": 0.7}),
        ({}, {"steps": 3}, {"learn_bits": False}),
    ),
    "real": (AMPLITUDE, DECAY, SURROGATE, THRESHOLD, ({"gradient": "mask"}, {"gradient": "surrogate"})),
}

# Each apart, for what has a floor has no fused kernel, and the rest is to be tested with and without one.
FLOORS: Mapping[str, Sequence[Options]] = {
    "lif": ({"floor": -0.25, "reset": "soft", "decay": 1.0}, {"floor": -0.5, "learn_decay": True, "surrogate": "atan"}),
    "ternary": ({"floor": -0.625, "reset": "soft"},),
    "multibit": ({"floor": -0.25, "decay": 1.0, "train_amplitude": "channel"}, {"floor": 0.0, "reset": "hard"}),
    "integer": ({"floor": -1.0, "decay": 1.0}, {"floor": -0.25, "detach_reset": False}),
    "real": ({"floor": -0.25, "gradient": "surrogate"},),
}


def products(name: str) -> Iterator[tuple[Options, ...]]:
    return itertools.product(*FACTORS.get(name, ()))


def covering(name: str, strength: int) -> list[tuple[Options, ...]]:
    """Few combinations in which every value (strength 1) or every pair of values (2) occurs; greedy, fixed order."""
    candidates = list(products(name))
    # Neighbours in the product share most values; a stride coprime to its length mixes them.
    candidates = [candidates[(i * 7919) % len(candidates)] for i in range(len(candidates))]
    missing = {part for c in candidates for part in _parts(c, strength)}
    chosen = []
    while missing:
        best = max(candidates, key=lambda c: len(missing & _parts(c, strength)))
        chosen.append(best)
        missing -= _parts(best, strength)
    return chosen


def _parts(combination: tuple[Options, ...], strength: int) -> set[Any]:
    values = [(i, str(options)) for i, options in enumerate(combination)]
    return set(itertools.combinations(values, strength)) if len(values) >= strength else set()


def merged(combination: tuple[Options, ...]) -> Options:
    return {key: value for options in combination for key, value in options.items()}


def cases(strength: int) -> list[tuple[str, Options]]:
    """(name, options) over every registered neuron, its defaults first; see `covering` for the strength."""
    options = {name: [{}, *map(merged, covering(name, strength)), *FLOORS.get(name, ())] for name in NEURONS}
    return [(name, given) for name, found in options.items() for given in found]


def label(case: tuple[str, Options]) -> str:
    """A short test id."""
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def build(name: str, options: Options) -> Neuron:
    """The neuron, per-channel parts sized for CHANNELS."""
    return NEURONS[name](**options).replicate(CHANNELS, channel_dim=1)
