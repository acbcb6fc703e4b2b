"""A program in the words that csrc/engine/program.cpp reads: groups of operations over buffers of tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arithmetic import Array, half
from ..echoes import echoes_of
from ..limits import INT32, INT64, MAX_COUNT
from ..ops import Operation
from ..ops.windows import overlaps
from ..spec import INPUT, Value
from .forms import Form
from .grouping import ELEMENTWISE, Group, Grouped, rows_of, space_of
from .layout import Layout, operand_sides, stored

_MAGIC = 0x6273700A
_KINDS = (
    *("convolution", "sumpool", "maxpool", "tally", "windows", "remap", "concat"),
    *("load", "load_row", "store"),
    *("rescale", "add", "multiply", "fire", "potential", "lookup", "latch", "mean"),
)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)} | {"linear": 0}
_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "int64")


class Words:
    """Writes a program; ``words`` and ``tables`` are what the engine is given.

    Args:
        found: groups. operations: of the program. sent: values that come out. layout: where everything lies.
        forms: operation → form.
    """

    def __init__(
        self,
        found: Grouped,
        operations: Sequence[Operation],
        sent: Sequence[str],
        layout: Layout,
        forms: Mapping[int, Form],
    ) -> None:
        self.found: Grouped = found
        self.operations: Sequence[Operation] = operations
        self.layout: Layout = layout
        self.forms: Mapping[int, Form] = forms
        self.tables: list[Array] = []
        self.stored: set[str] = stored(found, operations, sent)
        names = sorted(self.stored)
        self.numbers: dict[str, int] = {name: i for i, name in enumerate(names)}
        means = {made.op.outputs[0]: index for index, made in enumerate(operations) if made.final}
        self.words: list[int] = [_MAGIC, len(names)]
        for name in names:
            value = found.values[name]
            place = layout.values[name]
            dtype = _DTYPES.index(value.dtype.name)
            self.words += [*space_of(value), dtype, layout.capacity[name], place.offset]
        self.words += [self.numbers[INPUT], len(sent)]
        for name in sent:  # a value, or -1 and the operation that sums
            self.words += [-1, means[name]] if name in means else [self.numbers[name]]
        self.words += [len(operations), layout.chunk]
        self.words += [layout.arena_bytes, layout.state_bytes, layout.kept_bytes, MAX_COUNT, len(found.groups)]
        echoes = echoes_of(operations)
        self.words.append(len(echoes))
        for at, name in echoes.items():
            (echo,) = operations[at].op.outputs
            self.words += [self.numbers[name], self.numbers[echo], layout.states[at, "last"]]
        for group in found.groups:
            if group.joins:
                self._join(group)
            else:
                self._group(group)

    def _join(self, group: Group) -> None:
        self.words += [1, 1, 1, 0, len(group.joins)]
        for source, name in group.joins:
            state = self.layout.states
            self.words += [self.numbers[source], self.numbers[name], state[name, "waiting"], state[name, "count"]]

    def _group(self, group: Group) -> None:
        channels, height, width = group.space
        writer = _GroupWriter(self, group)
        self.words += [0, channels, height * width, writer.slots, len(writer.ops), *writer.words]

    def table(self, array: Any) -> int:
        """Number of a table of int32; -1 for none."""
        if array is None:
            return -1
        self.tables.append(np.ascontiguousarray(array, np.int32).reshape(-1))
        return len(self.tables) - 1


class _GroupWriter:
    """The operations of one group, with loads before their first use, stores after what others read, and slots."""

    def __init__(self, whole: Words, group: Group) -> None:
        self.whole, self.group = whole, group
        self.words: list[int] = []
        self.ops: list[str] = []
        self.at: dict[str, int] = {}  # value (or "row name") → operation of the group that holds it
        self.slot_of: dict[int, int] = {}
        self.free: list[int] = []
        self.slots = 0
        for index in group.operations:
            self._operation(index)

    def _reads(self, index: int) -> list[tuple[str, str]]:
        """(key of the buffer, name of the value) of what an elementwise operation reads."""
        made, names = self.whole.operations[index], self.whole.found.inputs[index]
        if made.op.kind not in ELEMENTWISE:
            return []
        rows = rows_of(made)
        return [(f"row {name}" if place in rows else f"all {name}", name) for place, name in enumerate(names)]

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.slots += 1
        return self.slots - 1

    def _write(
        self,
        kind: str,
        inputs: Sequence[int],
        numbers: Sequence[int] = (),
        tables: Sequence[int] = (),
        report: int = -1,
        wide: bool = False,
        slot: bool = True,
    ) -> int:
        place = self._take() if slot else -1
        self.words += [_NUMBERS[kind], report, place, int(wide), len(inputs), *inputs]
        self.words += [len(numbers), *map(int, numbers), len(tables), *tables]
        self.ops.append(kind)
        if slot:
            self.slot_of[len(self.ops) - 1] = place
        return len(self.ops) - 1

    def _operation(self, index: int) -> None:
        whole = self.whole
        made, names = whole.operations[index], whole.found.inputs[index]
        if made.op.kind in ELEMENTWISE:
            reads = self._reads(index)
            for key, name in reads:
                if key not in self.at:
                    kind = "load_row" if key.startswith("row ") else "load"
                    self.at[key] = self._write(kind, [whole.numbers[name]])
            inputs = [self.at[key] for key, _ in reads]
        else:
            inputs = [whole.numbers[name] for name in names]
        wide = not made.final and made.written[0].dtype.itemsize == 8
        kind = "remap" if made.op.kind in ("reshape", "slice", "pad") else made.op.kind
        numbers, tables = _ENCODERS[made.op.kind](whole, index, made)
        at = self._write(kind, inputs, numbers, [whole.table(t) for t in tables], index, wide, slot=not made.final)
        outputs = list(made.op.outputs)
        if not made.final:
            self.at[f"all {outputs[0]}"] = at
        for name in outputs[1:]:
            self.at[f"all {name}"] = self._write("potential", [at])
        for name in outputs:
            if name in whole.stored:
                self._write("store", [self.at[f"all {name}"]], [whole.numbers[name]], slot=False)
        self._release(index)

    def _release(self, index: int) -> None:
        """Buffers that nothing reads any more serve again."""
        later = [i for i in self.group.operations if i > index]
        needed = {key for i in later for key, _ in self._reads(i)}
        for key, op in list(self.at.items()):
            slot = self.slot_of.pop(op, None) if key not in needed else None
            if slot is not None:
                self.free.append(slot)
                del self.at[key]


Encoded = tuple[list[int], list[Any]]


def _per_channel(table: Array | None, value: Value, rows: int = 1) -> Array | None:
    """[steps or 1, C or 1] → [rows, C], the last row for all later steps."""
    if table is None:
        return None
    places = np.minimum(np.arange(rows), len(table) - 1)
    return np.broadcast_to(table[places], (rows, value.shape[0]))


def _convolution(whole: Words, index: int, made: Operation) -> Encoded:
    form, scratch = whole.forms[index], whole.layout.scratch[index].offset
    weight = made.constants["weight"]
    height, width = operand_sides(made)
    if made.op.kind == "linear":
        place = [1, 1, 1, 1, 1, 0, 0, 1, 1]
        inputs, out = weight.shape[1], 1
    else:
        at = made.attributes
        one = [1] if weight.ndim == 3 else []
        zero = [0] if weight.ndim == 3 else []
        place = [
            at["groups"],
            *one,
            *weight.shape[2:],
            *one,
            *at["stride"],
            *zero,
            *at["before"],
            *one,
            *at["dilation"],
        ]
        inputs, out = weight.shape[1], made.written[0].shape[-1]
    numbers = [*place, form.number, form.offset, scratch, height, width, len(weight), inputs, out, form.most]
    numbers += [index in whole.layout.fed, form.planes, form.lowest]
    return numbers, [weight, made.constants.get("bias")]


def _window(made: Operation, names: Sequence[str]) -> list[int]:
    axes = len(made.read[0].shape) - 1
    missing = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    return [n for name in names for n in ([missing[name]] * (2 - axes) + list(made.attributes[name]))]


def _sumpool(whole: Words, index: int, made: Operation) -> Encoded:
    last = [1] * (2 - len(made.last)) + list(made.last)  # type: ignore[attr-defined]
    numbers = _window(made, ("kernel", "stride", "padding"))
    return [*numbers, made.attributes["divisor"], *last, space_of(made.written[0])[2]], []


def _maxpool(whole: Words, index: int, made: Operation) -> Encoded:
    return [*_window(made, ("kernel", "stride", "padding", "dilation")), space_of(made.written[0])[2]], []


def _tally(whole: Words, index: int, made: Operation) -> Encoded:
    numbers, _ = _maxpool(whole, index, made)
    states = whole.layout.states
    memory = [states[index, "sums"], states[index, "sent"], whole.layout.scratch[index].offset]
    return [*numbers[:8], *memory, numbers[8]], []


def _windows(whole: Words, index: int, made: Operation) -> Encoded:
    frames, steps = made.attributes["frames"], made.attributes["steps"]
    if frames == 1:
        return [1, steps, 0, 0, 0], [[0]]
    parts = overlaps(frames, steps)
    begins = np.cumsum([0, *map(len, parts)])
    pairs = [number for frame in parts for weight, closes in frame for number in (weight, int(closes))]
    states, scratch = whole.layout.states, whole.layout.scratch[index].offset
    return [frames, steps, states[index, "total"], states[index, "time"], scratch], [[*begins, *pairs]]


def _remap(whole: Words, index: int, made: Operation) -> Encoded:
    """Where every number comes from, in the order [places][channels]; -1 where it is 0."""
    x, y, at = made.read[0], made.written[0], made.attributes
    source = np.arange(x.size).reshape(-1, x.shape[0]).T.reshape(x.shape)  # channels first → place in the engine
    if made.op.kind == "reshape":
        moved = source.reshape(y.shape)
    elif made.op.kind == "slice":
        moved = source[made.taken]  # type: ignore[attr-defined]
    else:
        moved = np.full(y.shape, -1)
        moved[tuple(slice(b, b + n) for b, n in zip(at["before"], x.shape, strict=True))] = source
    return [], [moved.reshape(y.shape[0], -1).T]


def _nothing(whole: Words, index: int, made: Operation) -> Encoded:
    return [], []


def _rescale(whole: Words, index: int, made: Operation) -> Encoded:
    x, at = made.read[0], made.attributes
    multiplier, bias = made.multiplier, made.bias  # type: ignore[attr-defined]
    rows = max(len(multiplier), len(bias))
    clamps = made.clamps  # type: ignore[attr-defined]
    has_bias = "bias" in made.constants
    most = max(abs(x.low), abs(x.high)) * int(np.abs(multiplier).max()) + half(at["shift"])
    narrow = at["shift"] < 31 and max(most, (most >> at["shift"]) + int(np.abs(bias).max()) + 1) <= INT32[1]
    folds = most + (int(np.abs(bias).max()) << at["shift"]) <= INT64[1]  # the bias can be added before the shift
    numbers = [at["shift"], at["low"], at["high"], clamps, rows, has_bias, whole.layout.states[index, "time"], narrow]
    numbers.append(folds)
    return numbers, [_per_channel(multiplier, x, rows), _per_channel(bias if has_bias else None, x, rows)]


def _add(whole: Words, index: int, made: Operation) -> Encoded:
    return [made.clamps], []  # type: ignore[attr-defined]


def _fire(whole: Words, index: int, made: Operation) -> Encoded:
    (x,), at, states = made.read, made.attributes, whole.layout.states
    tables: dict[str, Array | None] = made.tables  # type: ignore[attr-defined]
    rows = max(len(tables[role]) for role in ("first", "spacing", "charge", "gate") if tables[role] is not None)  # type: ignore[arg-type]
    per_step = [_per_channel(tables[role], x, rows) for role in ("first", "spacing", "charge", "gate")]
    whole_run = [_per_channel(tables[role], x) for role in ("initial", "floor")]
    spacing, charge = tables["spacing"], tables["charge"]
    narrow = charge is None or int(charge.max()) * max(at["count"]) <= INT32[1]
    shift = -1
    if spacing is not None and (spacing == spacing.flat[0]).all():
        one = int(spacing.flat[0])
        shift = one.bit_length() - 1 if one & (one - 1) == 0 else -1
    sent = states.get((index, "sent"), 0)
    numbers = [at["signed"], at["reset"] == "hard", *at["decay"], at["cancel"], at["up"], at["down"], rows]
    numbers += [states[index, "v"], sent, states[index, "time"], narrow, shift]
    return numbers, [*per_step, *whole_run, list(at["count"])]


def _lookup(whole: Words, index: int, made: Operation) -> Encoded:
    table: Array = made.table  # type: ignore[attr-defined]
    rows, channels, length = table.shape
    numbers = [made.attributes["first"], length, rows, channels > 1, whole.layout.states[index, "time"]]
    return numbers, [table]


def _latch(whole: Words, index: int, made: Operation) -> Encoded:
    states = whole.layout.states
    return [states[index, "first"], states[index, "time"]], []


def _mean(whole: Words, index: int, made: Operation) -> Encoded:
    states = whole.layout.states
    return [states[index, "total"], states[index, "counted"], states[index, "time"]], [list(made.attributes["keep"])]


_ENCODERS: dict[str, Callable[[Words, int, Operation], Encoded]] = {
    "convolution": _convolution,
    "linear": _convolution,
    "sumpool": _sumpool,
    "maxpool": _maxpool,
    "tally": _tally,
    "windows": _windows,
    "reshape": _remap,
    "slice": _remap,
    "pad": _remap,
    "concat": _nothing,
    "rescale": _rescale,
    "add": _add,
    "multiply": _nothing,
    "fire": _fire,
    "lookup": _lookup,
    "latch": _latch,
    "mean": _mean,
}
