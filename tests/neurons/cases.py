"""Configurations of every registered neuron: every option value by default, every pair of values for slow tests.

Options that neurons have in common are read from the signature of the constructor, so a neuron that is registered and
named nowhere here is tested with all it takes of them. `OWN` adds what one neuron alone has.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitspike.neurons import NEURONS, Neuron

Options = dict[str, Any]
Factors = tuple[Sequence[Options], ...]

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
DECAY: tuple[Options, ...] = ({}, {"decay": 0.5, "learn_decay": True}, {"decay": 1.0}, {"decay": 0.0})
SURROGATE: tuple[Options, ...] = tuple(
    {"surrogate": name}
    for name in ("rectangle", "rectangle:0.125", "triangle:0.5", "atan:2.0", "sigmoid:4.0", "fast_sigmoid:5.0")
)
THRESHOLD: tuple[Options, ...] = ({"threshold": 1.0}, {"threshold": 0.5}, {"threshold": 0.7})
INITIAL: tuple[Options, ...] = ({}, {"initial": 0.25})
COMMON: Factors = (RESET, AMPLITUDE, DECAY, SURROGATE, THRESHOLD, INITIAL)

OWN: Mapping[str, Factors] = {
    "multibit": (
        (
            *({"m": 1, "n": 1}, {"m": 1, "n": 0}, {"m": 0, "n": 1}, {"m": 2, "n": 0}, {"m": 1, "n": 2}),
            *({"m": 1, "n": 1, "learn_bits": "integer"}, {"m": 2, "n": 0, "learn_bits": "fraction"}),
        ),
    ),
    "integer": (
        (
            *({"D": 4}, {"D": 1}, {"D": 3}, {"D": 9}),
            *({"D": 7, "learn_bits": "integer"}, {"D": 1, "learn_bits": "integer"}),
        ),
    ),
    "signed": (({"D": 1}, {"D": 2, "cancels_only": True}, {"D": 1, "slope": 0.25}, {"D": 3, "slope": 0.3}),),
    "adaptive": (
        tuple({"bits": bits, "signed": signed} for bits, signed in ((4, False), (1, False), (2, True), (3, True))),
        ({"sharing": "layer"}, {"sharing": "channel"}),
        ({}, {"steps": 3}, {"learn_bits": False}),
    ),
    "real": (({"gradient": "mask"}, {"gradient": "surrogate"}),),
}

# Each apart, for what has a floor has no fused kernel, and the rest is to be tested with and without one.
FLOOR: tuple[Options, ...] = ({"floor": -0.25}, {"floor": -0.625}, {"floor": -2.5})
OWN_FLOORS: Mapping[str, Sequence[Options]] = {
    "lif": ({"floor": -0.25, "reset": "soft", "decay": 1.0}, {"floor": -0.5, "learn_decay": True, "surrogate": "atan"}),
    "ternary": ({"floor": -0.625, "reset": "soft"},),
    "multibit": ({"floor": -0.25, "decay": 1.0, "train_amplitude": "channel"}, {"floor": 0.0, "reset": "hard"}),
    "integer": ({"floor": -1.0, "decay": 1.0}, {"floor": -0.25, "detach_reset": False}),
    "real": ({"floor": -0.25, "gradient": "surrogate"},),
}

# Each apart, too: neither a fused kernel nor learned bits go with trained thresholds.
TRAINED: tuple[Options, ...] = (
    {"train_threshold": "layer", "decay": 0.5, "reset": "soft", "detach_reset": False},
    {"train_threshold": "channel", "decay": 0.5, "learn_decay": "channel", "reset": "soft", "detach_reset": True},
    {"train_threshold": "channel", "threshold": 0.7, "reset": "hard", "detach_reset": False, "surrogate": "atan:2.0"},
    {"decay": 0.5, "learn_decay": "channel", "amplitude": 0.75, "train_amplitude": "channel", "threshold": 0.7},
)


def accepted(kind: type[Neuron], group: Sequence[Options]) -> list[Options]:
    """The options of a group as far as a constructor has them, each once; without those that it refuses."""
    parameters, found = inspect.signature(kind).parameters, []
    for options in group:
        known = {key: value for key, value in options.items() if key in parameters}
        if known not in found and (known or not options):
            try:
                kind(**known)
            except ValueError:
                continue
            found.append(known)
    return found


def factors(kind: type[Neuron], own: Factors = ()) -> Factors:
    """Groups of options, one of each to be chosen: those in common that a constructor has, then its own."""
    common = [accepted(kind, group) for group in COMMON]
    return (*(group for group in common if any(group)), *own)


def floors(name: str) -> list[Options]:
    """The first floor that a neuron takes, and its own cases; none where it has no floor."""
    return [*accepted(NEURONS[name], FLOOR)[:1], *OWN_FLOORS.get(name, ())]


def covering(groups: Factors, strength: int) -> list[tuple[Options, ...]]:
    """Few combinations in which every value (strength 1) or every pair of values (2) occurs; in a fixed order."""
    sizes = [len(group) for group in groups]
    if strength == 1 or len(groups) < 2:
        return [
            tuple(group[(i + j) % len(group)] for j, group in enumerate(groups)) for i in range(max(sizes, default=0))
        ]
    missing = dict.fromkeys(_pairs(sizes))
    chosen = []
    while missing:
        row = dict(next(iter(missing)))  # the first pair that is left, then what covers most with it
        for g in (g for g in range(len(groups)) if g not in row):
            gains = [sum(tuple(sorted(((g, i), other))) in missing for other in row.items()) for i in range(sizes[g])]
            start = len(chosen) % sizes[g]
            row[g] = max(range(sizes[g]), key=lambda i: (gains[i], -((i - start) % sizes[g])))
        for pair in itertools.combinations(sorted(row.items()), 2):
            missing.pop(pair, None)
        chosen.append(tuple(groups[g][row[g]] for g in range(len(groups))))
    return chosen


def _pairs(sizes: list[int]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for (g, one), (h, other) in itertools.combinations(enumerate(sizes), 2):
        for i, j in itertools.product(range(one), range(other)):
            yield (g, i), (h, j)


def merged(combination: tuple[Options, ...]) -> Options:
    return {key: value for options in combination for key, value in options.items()}


def cases(strength: int) -> list[tuple[str, Options]]:
    """(name, options) over every registered neuron, its defaults first; see `covering` for the strength."""
    found = []
    for name, kind in NEURONS.items():
        rows = covering(factors(kind, OWN.get(name, ())), strength)
        found += [(name, options) for options in ({}, *map(merged, rows), *floors(name), *accepted(kind, TRAINED))]
    return found


def label(case: tuple[str, Options]) -> str:
    """A short test id."""
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def build(name: str, options: Options) -> Neuron:
    """The neuron, per-channel parts sized for CHANNELS."""
    return NEURONS[name](**options).replicate(CHANNELS, channel_dim=1)
