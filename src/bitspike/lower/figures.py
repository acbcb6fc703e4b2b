"""Figures of each output over batches: how far program and network are apart, and whether they say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitspike.checks import bad_value
from bitspike.graph.outputs import by_name
from bitspike.lower.targets import Tally, sends_steps, targets_of
from bitspike.lower.wire import Array
from bitspike.runtime import Program


@dataclass
class OutputFigures:
    """One output of a program beside that of its network.

    Attributes:
        agreement: share of samples with the same class or set of labels, of maps the share of places; None for numbers.
        accuracy, folded_accuracy: share correct of program and network; None without labels. error, folded_error: of
            numbers instead, root of the mean squared error.
        max_logit_difference: greatest difference of a number; ``max_logit_difference_forced`` that with the network's
            spikes forced on the program, where that was done. largest_logit: greatest |number| of the network.
    """

    agreement: float | None = None
    accuracy: float | None = None
    folded_accuracy: float | None = None
    error: float | None = None
    folded_error: float | None = None
    max_logit_difference: float = 0.0
    max_logit_difference_forced: float = 0.0
    largest_logit: float = 0.0


WHOLE = ("agreement", "accuracy", "folded_accuracy", "error", "folded_error")
FARTHEST = ("max_logit_difference", "max_logit_difference_forced", "largest_logit")


class Figures:
    """Gathers `OutputFigures` by output.

    Args:
        where: for messages. program: whose outputs they are.
    """

    def __init__(self, where: str, program: Program) -> None:
        self.where: str = where
        self.named: bool = bool(program.spec.outputs)
        self.tallies: dict[str, Tally] = {
            name: Tally(targets_of(program, name), sends_steps(program, name)) for name in program.outputs
        }
        self.found: dict[str, OutputFigures] = {name: OutputFigures() for name in program.outputs}

    @property
    def samples(self) -> int:
        """How many were added."""
        return next(iter(self.tallies.values())).samples

    def add(
        self,
        got: Mapping[str, Array],
        wanted: Mapping[str, Array],
        labels: Any,
        forced: Mapping[str, Array] | None = None,
    ) -> None:
        """One batch: outputs of program and network, what the samples are (or None), outputs with spikes forced."""
        truths = self._truths(labels)
        for name, tally in self.tallies.items():
            expected, own = wanted[name], self.found[name]
            own.max_logit_difference = max(own.max_logit_difference, _apart(got[name], expected))
            if forced is not None:
                farther = _apart(forced[name], expected)
                own.max_logit_difference_forced = max(own.max_logit_difference_forced, farther)
            own.largest_logit = max(own.largest_logit, float(np.abs(expected).max()))
            tally.add(got[name], expected, truths.get(name))

    def _truths(self, labels: Any) -> dict[str, Array]:
        if labels is None:
            return {}
        if not self.named:
            return {"": labels.cpu().numpy()}
        if not isinstance(labels, Mapping) or not set(labels) <= set(self.found):
            must = f"labels of a program whose outputs have names must be a dict of some of {', '.join(self.found)}"
            got = ", ".join(map(str, labels)) if isinstance(labels, Mapping) else type(labels).__name__
            raise bad_value(self.where, must, got, "name the output that they belong to")
        return {name: each.cpu().numpy() for name, each in labels.items()}

    def outputs(self) -> dict[str, OutputFigures]:
        """By name; the only one of a program without names is ""."""
        return {name: replace(own, **self.tallies[name].figures()) for name, own in self.found.items()}  # type: ignore[arg-type]

    def fields(self, forced: bool = True) -> dict[str, Any]:
        """For a record of the whole: of one output without a name all figures, else the lowest agreement, the greatest
        differences, and "outputs" with those of each."""
        rows = self.outputs()
        far = [name for name in FARTHEST if forced or not name.endswith("_forced")]
        if not self.named:
            return {name: getattr(rows[""], name) for name in (*WHOLE, *far)}
        shares = [row.agreement for row in rows.values() if row.agreement is not None]
        greatest = {name: max(getattr(row, name) for row in rows.values()) for name in far}
        return {"agreement": min(shares, default=None), **greatest, "outputs": rows}


def _apart(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max())


def network_outputs(where: str, program: Program, value: Any) -> dict[str, Array]:
    """What a folded network returned, by output of its program, in float64.

    Raises:
        ValueError: the network has other outputs.
    """
    found = by_name(value)
    if tuple(found) != program.outputs:
        must = f"the network must have the program's outputs ({', '.join(map(repr, program.outputs))})"
        raise bad_value(where, must, ", ".join(map(repr, found)), "compile this network again")
    return {name: each.double().cpu().numpy() for name, each in found.items()}
