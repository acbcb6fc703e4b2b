"""Where everything lies while the engine runs one sample: values and scratch in one arena, states beside it.

Operations run one after the other over all steps of a chunk, so that weights are read once for all of them; a value has
room for the steps that a chunk can bring. The arena is planned like that of `runtime.plan`, and nothing is allocated
beyond it and the buffers of each thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..echoes import echoes_of
from ..ops import Operation
from ..ops.geometry import reach
from ..plan import Place, placed
from ..spec import INPUT, Value
from .forms import BITS, GATHER, Form
from .grouping import ELEMENTWISE, Grouped, rows_of, space_of

_MAX_CHUNK = 64
_ARENA = 2**26
"""Bytes beyond which a chunk gets fewer steps."""
_LINE = 64


@dataclass
class Layout:
    """Offsets in bytes, by name.

    Attributes:
        chunk: steps of the input at a time. capacity: value → steps it has room for. values: value → its place; what
            only its group reads has none. scratch: operation → place of what it needs while its group runs, or, where
            it is in ``fed``, from the group on that stores its input and its operand in one.
        states: (operation, "slot") → offset. arena_bytes, state_bytes: of one sample. kept_bytes: of a state without
            membranes, which lie behind: a whole run keeps them in the buffers of a tile.
    """

    chunk: int
    capacity: dict[str, int]
    values: dict[str, Place] = field(default_factory=dict)
    scratch: dict[int, Place] = field(default_factory=dict)
    fed: set[int] = field(default_factory=set)
    states: dict[Any, int] = field(default_factory=dict)
    arena_bytes: int = 0
    state_bytes: int = 0
    kept_bytes: int = 0

    def state(self, key: Any, size: int) -> int:
        """Room for a state, at an aligned offset."""
        self.states[key] = self.state_bytes
        self.state_bytes += -(-size // _LINE) * _LINE
        return self.states[key]


def operand_sides(made: Operation) -> tuple[int, int]:
    """Height and width of a convolution's input with its border."""
    if made.op.kind == "linear":
        return 1, 1
    at, kernel = made.attributes, made.kernel  # type: ignore[attr-defined]
    sides = [reach(*each) for each in zip(made.written[0].shape[1:], kernel, at["stride"], at["dilation"], strict=True)]
    return (1, sides[0]) if len(sides) == 1 else (sides[0], sides[1])


def list_bytes(made: Operation, width: int) -> int:
    """Bytes of the lists of a row of an operand so wide: as `Lists` in csrc/engine/gather.cpp."""
    channels, *_, columns = (*made.read[0].shape, 1) if made.op.kind == "linear" else made.read[0].shape
    numbers = channels * columns
    starts = -(-4 * (width + 1) // _LINE) * _LINE
    return starts + (2 * numbers + 127) // _LINE * _LINE + (numbers + 127) // _LINE * _LINE


def laid_out(found: Grouped, operations: Sequence[Operation], sent: Sequence[str], forms: Mapping[int, Form]) -> Layout:
    """Place everything; ``sent`` comes out, ``forms`` are those of the operands of convolutions."""
    chunk = 1 if echoes_of(operations) else min(found.values[INPUT].steps, _MAX_CHUNK)
    while True:
        layout = Layout(chunk, _capacities(found, chunk))
        _arena(layout, found, operations, sent, forms)
        if chunk == 1 or layout.arena_bytes <= _ARENA:
            break
        chunk = (chunk + 1) // 2
    _states(layout, found, operations)
    return layout


def _capacities(found: Grouped, chunk: int) -> dict[str, int]:
    """Steps that can come with one chunk. Counts of all values are periodic, with their steps in a window as period, so
    a chunk of a window or less brings no more of them than one window has."""
    return {name: chunk if not found.clocks[name] else value.steps for name, value in found.values.items()}


def stored(found: Grouped, operations: Sequence[Operation], sent: Sequence[str]) -> set[str]:
    """Values that lie in the arena: read by a head or another group, joined, or sent."""
    home = {
        name: i for i, group in enumerate(found.groups) for op in group.operations for name in _outputs(operations, op)
    }
    kept = {INPUT, *sent} | {name for group in found.groups for pair in group.joins for name in pair}
    kept |= {name for at, of in echoes_of(operations).items() for name in (of, *_outputs(operations, at))}
    for i, group in enumerate(found.groups):
        for index in group.operations:
            made, names = operations[index], found.inputs[index]
            rows = rows_of(made)
            for place, name in enumerate(names):
                if made.op.kind not in ELEMENTWISE or place in rows or home.get(name) != i:
                    kept.add(name)
    return {name for name in kept if not _is_final(operations, name)}


def _outputs(operations: Sequence[Operation], index: int) -> tuple[str, ...]:
    return operations[index].op.outputs


def _is_final(operations: Sequence[Operation], name: str) -> bool:
    return any(made.final and name in made.op.outputs for made in operations)


def _arena(
    layout: Layout,
    found: Grouped,
    operations: Sequence[Operation],
    sent: Sequence[str],
    forms: Mapping[int, Form],
) -> None:
    kept = stored(found, operations, sent)
    sizes: dict[str, tuple[int, int]] = {}
    lives: dict[str, tuple[int, int]] = {}
    for name in kept:
        value = found.values[name]
        sizes[f"value {name}"] = value.size_bytes * layout.capacity[name], layout.capacity[name]
    lives[f"value {INPUT}"] = (0, 0)
    echoes = echoes_of(operations)
    lives |= {f"value {name}": (0, 0) for at in echoes for name in _outputs(operations, at)}
    home: dict[str, int] = {}  # value → group that stores it
    for i, group in enumerate(found.groups):
        written = [name for op in group.operations for name in _outputs(operations, op)] + [b for _, b in group.joins]
        read = [name for op in group.operations for name in found.inputs[op]] + [a for a, _ in group.joins]
        for name in written:
            lives[f"value {name}"] = (i, i)
        if not group.joins:
            home |= dict.fromkeys(written, i)
        for name in read:
            lives[f"value {name}"] = (lives[f"value {name}"][0], i)
        for index in group.operations:
            size = _scratch(layout, found, operations[index], found.inputs[index], forms.get(index))
            if size:
                name = found.inputs[index][0]
                fed = index in forms and forms[index].number != GATHER and home.get(name, i) < i
                if fed and forms[index].number == BITS and space_of(found.values[name])[1:] == (1, 1):
                    fed = False  # tiles of one place are cut by channels, which share sums
                if fed:
                    layout.fed.add(index)
                first = home[name] if fed else i
                sizes[f"scratch {index}"], lives[f"scratch {index}"] = (size, 1), (first, i)
    for name in echoes.values():
        lives[f"value {name}"] = (lives[f"value {name}"][0], len(found.groups))
    for name in kept.intersection(sent):
        lives[f"value {name}"] = (lives[f"value {name}"][0], len(found.groups))
    places = placed(sizes, lives, 0)
    layout.values = {name: places[f"value {name}"] for name in kept}
    layout.scratch = {i: places[f"scratch {i}"] for i in range(len(operations)) if f"scratch {i}" in places}
    top = max([0, *(place.offset + place.size_bytes for place in places.values())])
    layout.arena_bytes = -(-top // _LINE) * _LINE


def _scratch(layout: Layout, found: Grouped, made: Operation, names: tuple[str, ...], form: Form | None) -> int:
    """Bytes that an operation needs in the arena while its group runs."""
    steps, channels = layout.capacity[names[0]], made.read[0].shape[0]
    if form is not None:
        height, width = operand_sides(made)
        if form.number == GATHER:
            return steps * height * list_bytes(made, width)
        stride = made.attributes["stride"][-1] if made.op.kind == "convolution" else 1
        # Kernels read whole tiles of 16 pixels, and a few numbers beyond the end.
        return (steps * height * width + 16 * stride) * form.pixel_bytes(channels) + 2 * _LINE
    if made.op.kind == "tally":
        return steps * made.read[0].size * 4
    if made.op.kind == "windows" and made.attributes["frames"] > 1:
        return made.read[0].size * 4
    return 0


def _states(layout: Layout, found: Grouped, operations: Sequence[Operation]) -> None:
    membranes = [index for index, made in enumerate(operations) if made.op.kind == "fire"]
    for index, made in enumerate(operations):
        for name in ("time", "counted"):
            layout.state((index, name), 8)
        if made.op.kind == "echo":
            layout.state((index, "last"), made.written[0].size_bytes)
        elif index not in membranes:
            _slots(layout, index, made)
    for group in found.groups:
        for _, name in group.joins:
            layout.state((name, "count"), 8)
            value: Value = found.values[name]
            layout.state((name, "waiting"), value.size_bytes * layout.capacity[name])
    layout.kept_bytes = layout.state_bytes
    for index in membranes:
        _slots(layout, index, operations[index])


def _slots(layout: Layout, index: int, made: Operation) -> None:
    for slot in made.slots():
        width = 8 if slot.dtype == "int64" else 4  # the engine keeps all others as int32
        layout.state((index, slot.name), slot.size_bytes // _itemsize(slot.dtype) * width)


def _itemsize(dtype: str) -> int:
    return {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8}[dtype]


__all__ = ["Layout", "laid_out", "operand_sides", "space_of", "stored"]
