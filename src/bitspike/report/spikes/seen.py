"""What was sent: records that networks and programs fill alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layer:
    """One call site of neurons, or an encoder that sends spikes.

    Attributes:
        name: of the node. shape: of one sample and step. low, high: least and greatest level of its alphabet.
        real: whether it sends numbers instead of levels; low and high are then not used.
    """

    name: str
    shape: tuple[int, ...]
    low: int
    high: int
    real: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Seen:
    """One sample and what it made the layers send.

    Attributes:
        words: which one it is. sample: as the data hold it, with a time axis where ``timed``.
        sent: layer → levels, integers [T, ...] (real spikes: float32), every layer with its own T.
        output: what came out, [K], the mean over the steps; of several outputs a dict of them by name.
    """

    words: str
    sample: np.ndarray
    timed: bool
    sent: dict[str, np.ndarray]
    output: Any

    @property
    def steps(self) -> int:
        """T of the layer that has the most steps."""
        return max(len(levels) for levels in self.sent.values())

    def rates(self, layer: str) -> np.ndarray:
        """Share of a layer's neurons that send something, step by step.

        >>> Seen("toy", np.zeros(1), False, {"a": np.array([[0, 3, -1, 0], [0, 0, 0, 0]])}, np.zeros(1)).rates("a")
        array([0.5, 0. ])
        """
        levels = self.sent[layer]
        rates: np.ndarray = (levels.reshape(len(levels), -1) != 0).mean(1)
        return rates


def layer_facts(layers: Sequence[Layer], seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """One record a layer for JSON: neurons, rate, steps of every sample and, of integers, the count of every level."""
    rows: list[dict[str, Any]] = []
    for layer in layers:
        sent = [one.sent[layer.name] for one in seen]
        spikes, whole = sum(int(np.count_nonzero(k)) for k in sent), sum(k.size for k in sent)
        row: dict[str, Any] = {"name": layer.name, "shape": list(layer.shape), "steps": [len(k) for k in sent]}
        row |= {"spikes": spikes, "rate": spikes / whole}
        if not layer.real:
            counts: Counter[int] = Counter()
            for k in sent:
                values, times = np.unique(k, return_counts=True)
                counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
            row["levels"] = {str(level): counts[level] for level in sorted(counts)}
        rows.append(row)
    return rows
