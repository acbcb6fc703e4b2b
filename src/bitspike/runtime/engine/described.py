"""What the engine does with a program, for people: a row a group, with its kernel, the reason, weights and work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..ops import Operation
from ..spec import INPUT, Input
from ..text import columns
from .forms import Form
from .grouping import Grouped


@dataclass(frozen=True)
class Row:
    """One group.

    Attributes:
        layer: its operation with weights, else its first one. operations: (name, kind) of all. form: of the numbers
            that its kernel multiplies, "" where it multiplies none. why: the reason. weight_bytes: packed for it.
        macs: products of weights for one sample and all steps, zeros too; steps that are known to be equal are computed
            once a chunk. tiles: pieces that threads share.
    """

    layer: str
    operations: tuple[tuple[str, str], ...]
    form: str
    why: str
    weight_bytes: int
    macs: int
    tiles: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "operations": [{"name": name, "kind": kind} for name, kind in self.operations]}


def described(
    found: Grouped,
    operations: Sequence[Operation],
    forms: Mapping[int, Form],
    work: Mapping[int, int],
    facts: Sequence[Sequence[int]],
) -> tuple[Row, ...]:
    """Rows of all groups; ``facts`` has (bytes of weights, tiles) of each."""
    rows = []
    for group, (weights, tiles) in zip(found.groups, facts, strict=True):
        kinds = tuple((operations[i].op.name, operations[i].op.kind) for i in group.operations)
        kinds = kinds or tuple((name, "join") for _, name in group.joins)
        form, _, why = next((str(forms[i]) for i in group.operations if i in forms), "").partition(": ")
        macs = sum(work.get(i, 0) for i in group.operations)
        layer = next((operations[i].op.name for i in group.operations if i in forms), kinds[0][0])
        rows.append(Row(layer, kinds, form, why, weights, macs, tiles))
    return tuple(rows)


def work_of(given: Input, found: Grouped, operations: Sequence[Operation], chunk: int) -> dict[int, int]:
    """Operation with weights → products of one sample from a fresh state, as `Program` runs it."""
    held = {INPUT} if given.repeat and given.value.steps > 1 else set[str]()
    work: dict[int, int] = {}
    for index, made in enumerate(operations):
        names = found.inputs[index]
        steps = made.read[0].steps
        if made.op.kind == "windows":
            still = made.attributes["frames"] == 1
        elif made.op.kind == "latch":
            still = steps > 1
        else:
            still = made.steady and all(name in held for name in names)
        if still:
            held.update(made.op.outputs)
        weight = made.constants.get("weight")
        if weight is not None:
            places = made.written[0].size // made.written[0].shape[0]
            times = -(-given.value.steps // chunk) if names[0] in held else steps
            work[index] = weight.size * places * times
    return work


def as_table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    table: list[list[object]] = [["group", "runs", "multiplies", "why", "weight bytes", "MAC", "tiles"]]
    for row in rows:
        kinds = " → ".join(kind for _, kind in row.operations)
        weights = f"{row.weight_bytes:,}" if row.weight_bytes else ""
        table.append([row.layer, kinds, row.form, row.why, weights, f"{row.macs:,}" if row.macs else "", row.tiles])
    return columns(table, left=(0, 1, 2, 3))
