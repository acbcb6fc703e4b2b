"""Plans of random networks: drawn option by option, whole or around options that are wanted."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from random_networks.factors import ATTENTION, BLOCK, NETWORK, READS, SPATIAL, forbidden

Row = dict[str, Any]
Choose = Callable[[str, Sequence[Any], Row], Any]

STEM: Row = {
    **{"kernel": "3", "stride": "1", "padding": "half", "groups": "1", "dilation": "1"},
    **{"pool": "none", "pooled": "spikes", "around": "none", "edge": "none", "also": "none"},
}
"""What the first block has, which reads the input."""
SIDES = {"image": (8, 9), "row": (12,), "features": ()}
BLOCKS = (1, 2, 3)


@dataclass(frozen=True)
class Plan:
    """A network: factor → option.

    Attributes:
        seed: of all numbers. network: of `NETWORK`. blocks: of `BLOCK`, the first one is the stem.
    """

    seed: int
    network: Row
    blocks: tuple[Row, ...]

    def rows(self) -> list[Row]:
        """Every block behind the stem with the options of the network and the spikes it reads."""
        reads = [block["spike"] for block in self.blocks]
        return [
            self.network | block | {READS[0]: before} for before, block in zip(reads, self.blocks[1:], strict=False)
        ]

    def __str__(self) -> str:
        """Every block in a line, without options that are the simplest."""
        lines = [f"seed {self.seed}: " + ", ".join(f"{name} {option}" for name, option in self.network.items())]
        for block in self.blocks:
            told = [f"{k} {v}" for k, v in block.items() if k in ("spike", "weight", "steps") or v != BLOCK[k][0]]
            lines.append(", ".join(told))
        return "; ".join(lines)


def _options(factors: Mapping[str, Sequence[Any]], name: str, chosen: Row) -> list[Any]:
    if name in chosen:
        return [chosen[name]]
    found = [v for v in factors[name] if not any(forbidden({name: v, k: c}) for k, c in chosen.items())]
    assert found, f"nothing is left for {name} beside {chosen}"
    return found


def draw(seed: int, choose: Choose, wanted: Mapping[str, Any] | None = None) -> Plan:
    """A plan; the second block and the network have the options that are wanted.

    Args:
        seed: of the numbers. choose: (factor, its options, the simplest first, what is chosen already and "before", the
            steps that come in) → one of them.
        wanted: factor → option, which no rule forbids.
    """
    wanted = dict(wanted or {})
    network: Row = {k: v for k, v in wanted.items() if k in NETWORK}
    others = {k: v for k, v in wanted.items() if k in BLOCK}
    for name in NETWORK:
        known = network | others
        network[name] = choose(name, _options(NETWORK, name, known), known)
    stem = STEM | {"kernel": "1"} if network["axes"] == "features" else STEM
    count = choose("blocks", BLOCKS, {})
    blocks: list[Row] = []
    sides, steps = SIDES[network["axes"]], 0
    for i in range(count + 1):
        own = dict(stem) if i == 0 else dict(others) if i == 1 else {}
        if i == 0 and READS[0] in wanted:
            own["spike"] = wanted[READS[0]]
        if i == 0 and "steps" in others and (others.get("edge", "none") == "none"):
            own["steps"] = others["steps"]
        own = _block(choose, own, network, sides, steps)
        sides, steps = after(own, sides), steps_after(own, steps)
        blocks.append(own)
    return Plan(seed, network, tuple(blocks))


def _block(choose: Choose, own: Row, network: Row, sides: tuple[int, ...], before: int) -> Row:
    for name in BLOCK:
        options = _options(BLOCK, name, network | own)
        if name not in own:
            options = [v for v in options if _fits(name, v, own, sides)]
        own[name] = choose(name, options, network | own | {"before": before})
    if before and own["edge"] == "none" and not own["spike"].startswith("refined"):
        own["steps"] = before
    return {name: own[name] for name in BLOCK}


def _fits(name: str, option: Any, own: Row, sides: tuple[int, ...]) -> bool:
    """Whether so many places have room for an option beside those that are chosen, and for a pool that is wanted."""
    if name == "pool" and option != "none":
        return min(convolved(own, sides), default=99) >= 4
    if name in SPATIAL:
        least = 4 if own.get("pool", "none") != "none" else 1
        return min(convolved(STEM | own | {name: option}, sides), default=99) >= least
    return True


def convolved(row: Row, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Places behind the convolution of a block."""
    found = []
    for axis, n in enumerate(sides):
        kernel, stride = (int(row[name].split("x")[min(axis, row[name].count("x"))]) for name in ("kernel", "stride"))
        reach = int(row["dilation"]) * (kernel - 1)
        half = reach // 2
        around = {"half": 2 * half, "none": 0, "more": 2 * half + 2, "same": reach}[row["padding"]]
        found.append((n + around - reach - 1) // stride + 1)
    return tuple(found)


def after(row: Row, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Places behind a block."""
    return tuple(_pooled(row["pool"], n) + (row["also"] == "zeros") for n in convolved(row, sides))


def _pooled(pool: str, n: int) -> int:
    if pool in ("none", "torch average"):
        return n + (pool == "torch average")
    if "adaptive" in pool:
        return n // 2 if n % 2 == 0 else 1
    if pool == "torch max dilated":
        return n - 2
    if pool in ("average of 9", "torch max", "tally padded", "average ceil", "torch max ceil"):
        return (n + 1) // 2
    return (n - 2) // 2 + 1 if pool == "max ceil" else n // 2


def steps_after(row: Row, before: int) -> int:
    """Steps that a block sends where so many come in."""
    sent = 1 if row["spike"] in ("refined always", "refined adaptive") else int(row["steps"])
    if not row["around"].startswith("join") or sent == before:
        return sent
    return max(sent, before) if row["around"] == "join windows" else 1


def chooser(seed: int) -> Choose:
    """Every option with the same probability, but plain places and steps more often, as else little is left of them."""
    r = random.Random(seed)

    def choose(name: str, options: Sequence[Any], row: Row) -> Any:
        if name in ("edge", "also", "pool", "groups", "dilation", "stride", "padding", "pooled") and r.random() < 0.4:
            return options[0]
        return r.choice(options)

    return choose


def careful(choose: Choose) -> Choose:
    """Leaves out what no program computes exactly, where something else is left."""

    def chosen(name: str, options: Sequence[Any], row: Row) -> Any:
        return choose(name, [v for v in options if not rounds(name, v, row)] or options, row)

    return chosen


def rounds(name: str, option: Any, row: Row) -> bool:
    """Whether an option brings numbers that are no multiples of powers of two, at least where that is not excluded."""
    if name == "spike" and str(option).startswith("refined"):
        return row.get("before", 0) > 2
    if name in ("spike", "around", "pool", "head"):
        joins = str(option).startswith("join") and row.get("steps") not in (1, 2)
        return joins or option in ("real", "global", "average of 9", "adaptive average", *ATTENTION[1:])
    if name == "steps":
        return option > 2 and (str(row.get("spike")).startswith("refined") or str(row.get("around")).startswith("join"))
    before = row.get("before", 0)
    return (
        name == "edge" and option != "none" and (before > 2 or (row["around"].startswith("join") and row["steps"] > 2))
    )


INEXACT_POOLS = ("average of 9", "adaptive average")
"""Windows of 9 places; windows of several sizes, unless the sides happen to divide."""


def must_round(cell: Mapping[str, Any]) -> bool:
    """Whether no network with these options has an exact program (or none that is easily drawn)."""
    spikes = {cell.get("spike"), cell.get("reads")}
    averaged = bool(spikes & {"refined always", "refined adaptive"}) and cell.get("steps") in (3, 5)
    rest = cell.get("around") in ATTENTION[1:] or cell.get("pool") in INEXACT_POOLS or cell.get("head") == "global"
    return "real" in spikes or averaged or rest
