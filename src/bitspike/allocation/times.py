"""A table of times: what every layer of a network takes on one machine, by bits and time steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value
from bitspike.files import read_json, write_json_atomic
from bitspike.schema import conform, from_mapping

FORMAT, VERSION = "bitspike.times", 1
AXES = ("weights", "spikes", "steps")
_TODO = "delete the file, and the next run measures again"

Place = tuple[float, float, float]
"""Weight bits, spike bits and T of a layer, or slopes along them."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Times of the layers of a network, linear between the bits and T that were measured.

    All are shares of the time of a reference program that ran in turns with them, which a busy machine slows alike.

    Attributes:
        machine: what they hold for: cpu, isa, threads, library (a digest). network: digest of the network's layers and
            bounds. reference_ms: of the reference program on a machine that does nothing else.
        rest: what belongs to no layer: the call, input and output.
        weights, spikes, steps: bits and T that were measured, ascending.
        layers: synapse → times [weights][spikes][steps]. fires: synapse → neurons whose time is in it, too.
    """

    format: str = FORMAT
    version: int = VERSION
    machine: dict[str, object]
    network: str
    reference_ms: float
    rest: float
    weights: tuple[int, ...]
    spikes: tuple[int, ...]
    steps: tuple[int, ...]
    layers: dict[str, tuple[tuple[tuple[float, ...], ...], ...]]
    fires: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        conform(self)
        where = "times"
        if (self.format, self.version) != (FORMAT, VERSION):
            must, got = f"it must be {FORMAT!r} of version {VERSION}", f"{self.format!r} {self.version}"
            raise bad_value(where, must, got, _TODO)
        for name in AXES:
            axis = getattr(self, name)
            if not axis or list(axis) != sorted(set(axis)) or axis[0] < 1:
                raise bad_value(where, f"{name} must be integers >= 1 that ascend", list(axis), _TODO)
        if not self.reference_ms > 0:
            raise bad_value(where, "reference_ms must be positive", self.reference_ms, _TODO)
        shape = tuple(len(getattr(self, name)) for name in AXES)
        for layer, rows in self.layers.items():
            lengths = {len(row) for row in rows}, {len(times) for row in rows for times in row}
            if (len(rows), *lengths) != (shape[0], {shape[1]}, {shape[2]}):
                raise bad_value(where, f"the times of {layer} must be {list(shape)}", "others", _TODO)
            if any(time < 0 for row in rows for times in row for time in times):
                raise bad_value(where, f"the times of {layer} must not be negative", "one below 0", _TODO)
        if not self.layers or self.fires.keys() != self.layers.keys():
            raise bad_value(where, "layers and fires must name the same layers, one at least", "others", _TODO)

    def at(self, layer: str, place: Place) -> float:
        """Ms of a layer; beyond the ends of an axis the end."""
        values = np.array(self.layers[layer])
        between = [_between(getattr(self, name), value) for name, value in zip(AXES, place, strict=True)]
        total = 0.0
        for corner in itertools.product((0, 1), repeat=len(AXES)):
            share = math.prod(part if up else 1 - part for up, (_, part) in zip(corner, between, strict=True))
            if share:
                index = tuple(first + up for up, (first, _) in zip(corner, between, strict=True))
                total += share * float(values[index])
        return total * self.reference_ms

    def slopes(self, layer: str, place: Place) -> Place:
        """Ms that the layer gains a bit or step: along every axis the steepest chord to a lower number that was
        measured, so that what a flat stretch hides is seen; at the lower end that to the next higher one."""
        here, found = self.at(layer, place), []
        for k, name in enumerate(AXES):
            axis = getattr(self, name)
            below = [knot for knot in axis if knot < place[k]]
            others = below or [knot for knot in axis if knot > place[k]][:1]
            chords = [(here - self.at(layer, _moved(place, k, knot))) / (place[k] - knot) for knot in others]
            found.append(max(chords, default=0.0))
        return found[0], found[1], found[2]

    def check(self, where: str, machine: Mapping[str, object], network: str) -> None:
        """Raise `ValueError` where the table holds for another machine, engine or network."""
        for key in {**self.machine, **machine}:
            its, own = self.machine.get(key), machine.get(key)
            if its != own:
                must = f"its times must be of this machine and engine, {key} {own!r}"
                raise bad_value(where, must, repr(its), "name another file, and it is measured anew")
        if self.network != network:
            must = "its times must be of this network: its layers, sizes and bounds of bits and T"
            raise bad_value(where, must, "another", "name another file, and it is measured anew")

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write a JSON file, whole or not at all."""
        write_json_atomic(path, self.as_dict())


def read_times(path: Path) -> Times:
    """The table in a file; raises `ValueError` or `TypeError` where it is none."""
    return from_mapping(Times, read_json(path), str(path))


def mean_over(times: Times, layer: str, kinds: tuple[str, ...]) -> Times:
    """The same with the times of a layer averaged along the axes of these kinds: nothing of it is learned there."""
    values, axes = np.array(times.layers[layer]), tuple(AXES.index(kind) for kind in kinds)
    even = np.broadcast_to(values.mean(axes, keepdims=True), values.shape)
    return replace(times, layers={**times.layers, layer: nested(even)})


def nested(values: np.ndarray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """Times [weights][spikes][steps], six digits each."""
    return tuple(tuple(tuple(float(f"{time:.6g}") for time in row) for row in rows) for rows in values)


def _moved(place: Place, k: int, value: float) -> Place:
    values = list(place)
    values[k] = value
    return values[0], values[1], values[2]


def _between(axis: tuple[int, ...], value: float) -> tuple[int, float]:
    """(index of the knot at or below, share of the way to the next one), within the axis."""
    value = min(max(value, axis[0]), axis[-1])
    first = max(i for i, knot in enumerate(axis) if knot <= value)
    return (first, 0.0) if first + 1 == len(axis) else (first, (value - axis[first]) / (axis[first + 1] - axis[first]))
