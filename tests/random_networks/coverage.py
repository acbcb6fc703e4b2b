"""What a set of random networks covers: cells of options that occurred together in a block that fired, none empty.

A cell counts where the program was exact, unless one of its options is never exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

from random_networks.check import Outcome, check
from random_networks.factors import BLOCK, NETWORK, READS, forbidden
from random_networks.plan import Choose, Plan, Row, careful, draw, must_round

Cell = tuple[tuple[str, Any], ...]
FACTORS: Mapping[str, Sequence[Any]] = dict([READS, *BLOCK.items(), *NETWORK.items()])
TRIES = 24
"""Networks that a cell gets before it counts as empty."""


def cells(*names: str) -> list[Cell]:
    """All combinations of the options of some factors that no rule forbids."""
    found = product(*([(name, option) for option in FACTORS[name]] for name in names))
    return [cell for cell in found if not any(forbidden(dict(pair)) for pair in combinations(cell, 2))]


def pairs() -> list[Cell]:
    """All pairs of options, of a block, its network and the spikes it reads."""
    return [cell for names in combinations(FACTORS, 2) for cell in cells(*names)]


@dataclass
class Coverage:
    """Cells that are wanted, and those that are filled.

    Attributes:
        wanted: all of them. filled: cell → blocks that had it. networks: that were run. blocks: that fired.
        errors: why a program is not exact → error of every such network, relative to the usual; "" → exact ones.
    """

    wanted: list[Cell]
    filled: dict[Cell, int] = field(default_factory=dict)
    networks: int = 0
    blocks: int = 0
    errors: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.missing = dict.fromkeys(self.wanted)
        self._names = sorted({tuple(name for name, _ in cell) for cell in self.wanted})

    def add(self, plan: Plan, outcome: Outcome) -> None:
        """Count the cells of blocks behind the stem that fired; of an inexact program those that cannot be exact."""
        self.networks += 1
        self.errors.setdefault(outcome.cause, []).append(outcome.error)
        for row, fired in zip(plan.rows(), outcome.live[1:], strict=True):
            self.blocks += fired
            for names in self._names if fired else ():
                cell = tuple((name, row[name]) for name in names)
                if outcome.cause and not must_round(dict(cell)):
                    continue
                self.filled[cell] = self.filled.get(cell, 0) + 1
                self.missing.pop(cell, None)

    def plans(self, first_seed: int = 0) -> Iterator[Plan]:
        """Plans until no cell is missing: each for the first cell that is, and for as many others as it can have."""
        tries: dict[Cell, int] = {}
        seed = first_seed
        while left := [cell for cell in self.missing if tries.get(cell, 0) < TRIES]:
            cell = left[0]
            tries[cell] = tries.get(cell, 0) + 1
            choose = self._greedy(seed)
            yield draw(seed, choose if must_round(dict(cell)) else careful(choose), dict(cell))
            seed += 1

    def _greedy(self, seed: int) -> Choose:
        """Chooses what fills most cells with what is chosen; at random among those."""
        r = random.Random(seed)
        partial = {frozenset(pair) for cell in self.missing for pair in combinations(cell, 2)}

        def choose(name: str, options: Sequence[Any], row: Row) -> Any:
            if name == "blocks":
                return options[-1]
            told = [pair for pair in row.items() if pair[0] != "before"]
            gains = [sum(frozenset(((name, v), known)) in partial for known in told) for v in options]
            return r.choice([v for v, gain in zip(options, gains, strict=True) if gain == max(gains)])

        return choose

    def table(self) -> str:
        """A line for every combination of factors: cells that are filled, of those that can be."""
        lines = [f"{self.networks} networks, {self.blocks} blocks that fired, {len(self.wanted)} cells"]
        for cause, errors in sorted(self.errors.items()):
            lines.append(
                f"{cause or 'exact':28} {len(errors):5} networks, at most {max(errors):.2g} of the usual error"
            )
        for names in self._names:
            own = [cell for cell in self.wanted if tuple(name for name, _ in cell) == names]
            got = [self.filled.get(cell, 0) for cell in own]
            full = sum(count > 0 for count in got)
            lines.append(f"{' × '.join(names):28} {full:5} of {len(own):5}, {min(got)}..{max(got)} blocks a cell")
        return "\n".join(lines)

    def grid(self, rows: str, columns: str) -> str:
        """Filled cells by the options of two factors, e.g. spike formats and weight formats."""
        names = [str(option) for option in FACTORS[columns]]
        lines = [" " * 18 + " ".join(f"{name[:14]:>14}" for name in names)]
        for option in FACTORS[rows]:
            counts = [
                sum(n for cell, n in self.filled.items() if {(rows, option), (columns, other)} <= set(cell))
                for other in FACTORS[columns]
            ]
            lines.append(f"{option!s:18}" + " ".join(f"{count:14}" for count in counts))
        return "\n".join(lines)

    @property
    def unusual(self) -> float:
        """Share of networks with more than the usual error."""
        return sum(error > 1 for errors in self.errors.values() for error in errors) / max(self.networks, 1)


def fill(wanted: Iterable[Cell]) -> Coverage:
    """Check networks until every cell is filled, or has had its tries."""
    coverage = Coverage(list(wanted))
    for plan in coverage.plans():
        coverage.add(plan, check(plan))
    return coverage
