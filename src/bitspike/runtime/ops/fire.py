"""Charge, fire, reset, emit: every neuron of the library in one row."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arithmetic import Array, saturate, scaled
from ..fields import Choice, Fields, Flag, Int, Ints, Roles
from ..limits import INT32, MAX_STEPS
from ..spec import Value
from .base import Operation, Ran, Slot, advance, row


class Membrane(NamedTuple):
    """v int32 [B, ...]; the sum of what was sent, or None; steps seen."""

    v: Array
    sent: Array | None
    time: int


class Fire(Operation):
    """One step of a neuron; >> rounds half up, ⌊·⌋ down; constants are per channel, or per step and channel.

        a = (v·m + 2^(s−1)) >> s             decay [m, s]; [1, 0] leaves v as it is
        u = max(clamp32(a + x), floor)       without the constant no maximum
        n = |u| if signed, else u
        k = min(max(⌊(n − first)/spacing⌋ + 1, 0), count);   k = 0 where n < gate;   k = −k where signed and u < 0
        k = max(k, −sent);  sent = clamp32(sent + k)         with cancel only
        v = 0 where k ≠ 0 (with gate: where n >= gate), else u                       hard reset
        v = clamp32(u − charge·k)                                                    soft reset
        s = up·k where k >= 0, else down·k

    v starts at ``initial`` (0 without), sent at 0. Outputs: s, and u where a second one is named.
    """

    kind = "fire"
    fields: ClassVar[Fields] = {
        "count": Ints(1, 65535, 1, MAX_STEPS),
        "signed": Flag(),
        "reset": Choice(("hard", "soft")),
        "decay": Ints(0, 2**30, 2, 2, (1, 0)),
        "cancel": Flag(),
        "up": Int(1, 2**16, 1),
        "down": Int(1, 2**16, 1),
        "exponent": Int(-64, 64, 0),
    }
    roles: ClassVar[Roles] = {
        "first": True,
        "spacing": False,
        "charge": False,
        "gate": False,
        "initial": False,
        "floor": False,
    }
    results: ClassVar[tuple[int, int]] = (1, 2)

    def prove(self) -> tuple[Value, ...]:
        (x,), at = self.read, self.attributes
        self.tables: dict[str, Array | None] = {role: self.per_channel(role, x) for role in self.roles}
        self._check_roles()
        multiplier, shift = at["decay"]
        if shift > 30 or multiplier > 2**shift:
            raise self.bad("decay must be [m, s] with m <= 2^s, s <= 30", [multiplier, shift], "correct it")
        top = max(at["count"])
        down = top * at["down"] if at["signed"] else 0
        self.fits(-down, top * at["up"])
        sent = Value(x.shape, -down, top * at["up"], at["exponent"], x.steps)
        return (sent, Value(x.shape, *INT32, x.exponent, x.steps))[: len(self.op.outputs)]

    def _check_roles(self) -> None:
        at, tables = self.attributes, self.tables
        for role in ("first", "spacing", "charge"):
            table = tables[role]
            if table is not None and int(table.min()) < 1:
                raise self.bad(f"{role} must be >= 1", int(table.min()), "correct it")
        for role, needed, reason in (
            ("spacing", max(at["count"]) > 1, "where count is above 1"),
            ("charge", at["reset"] == "soft", "with a soft reset"),
        ):
            if (tables[role] is not None) != needed:
                raise self.bad(f"it must have the constant {role} {reason} only", sorted(self.constants), "correct it")
        if tables["gate"] is not None and (at["signed"] or at["cancel"]):
            raise self.bad("a gate must come without signed and cancel", "both", "leave one out")
        if at["cancel"] and not at["signed"]:
            raise self.bad("cancel must come with signed", "unsigned", "leave it out")
        if at["down"] != 1 and not at["signed"]:
            raise self.bad("down must come with signed", "unsigned", "leave it out")
        for role in ("initial", "floor"):
            table = tables[role]
            if table is not None and len(table) > 1:
                raise self.bad(f"{role} must be the same at every step", f"{len(table)} rows", "leave one")

    def slots(self) -> tuple[Slot, ...]:
        shape = self.read[0].shape
        return (Slot("v", shape), *([Slot("sent", shape)] if self.attributes["cancel"] else []))

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y, *more) = inputs, self.written
        v, sent, time = self._start(x) if state is None else state
        spikes, potentials, clamped = np.empty(x.shape, y.dtype), [], 0
        for i, current in enumerate(x):
            u, outside = self._charge(v, current)
            k, fired = self._level(u, time)
            clamped += outside
            if sent is not None:
                k = np.maximum(k, -sent.astype(np.int64))
                total, outside = saturate(sent + k, *INT32)
                sent, fired, clamped = total.astype(np.int32), k != 0, clamped + outside
            v, outside = self._reset(u, k, fired, time)
            clamped, time = clamped + outside, advance(time, 1)
            spikes[i] = self._emitted(k)
            if more:
                potentials.append(u.astype(np.int32))
        outputs = (spikes, np.stack(potentials)) if more else (spikes,)
        return Ran(outputs, Membrane(v, sent, time), clamped)

    def _row(self, role: str, time: int) -> Array | None:
        table = self.tables[role]
        return None if table is None else row(table, time, len(self.read[0].shape))

    def _start(self, x: Array) -> Membrane:
        initial = self._row("initial", 0)
        v = np.zeros(x.shape[1:], np.int32)
        v += 0 if initial is None else initial.astype(np.int32)
        return Membrane(v, np.zeros_like(v) if self.attributes["cancel"] else None, 0)

    def _charge(self, v: Array, x: Array) -> tuple[Array, int]:
        """(u in int64, how many were clamped)."""
        multiplier, shift = self.attributes["decay"]
        left = v if multiplier == 1 << shift else scaled(v, multiplier, shift)
        u, clamped = saturate(np.add(left, x, dtype=np.int64), *INT32)
        floor = self._row("floor", 0)
        return (u if floor is None else np.maximum(u, floor)), clamped

    def _level(self, u: Array, time: int) -> tuple[Array, Array]:
        """(levels, in int8 or int64; whether a neuron fired)."""
        at, count = self.attributes, self.attributes["count"]
        top = count[min(time, len(count) - 1)]
        first, spacing, gate = (self._row(role, time) for role in ("first", "spacing", "gate"))
        if top == 1 and at["signed"]:
            k = (u >= first).view(np.int8) - (u <= -first).view(np.int8)  # type: ignore[operator]
            return k, k != 0
        n = np.abs(u) if at["signed"] else u
        if top == 1:
            k = (n >= first).view(np.int8)
        else:
            k = _floor_divided(n - first, spacing)
            k += 1
            np.clip(k, 0, top, out=k)
        fired = k != 0
        if gate is not None:
            fired = n >= gate
            k = k * fired
        return (np.where(u < 0, -k, k) if at["signed"] else k), fired

    def _reset(self, u: Array, k: Array, fired: Array, time: int) -> tuple[Array, int]:
        if self.attributes["reset"] == "hard":
            return np.where(fired, 0, u).astype(np.int32), 0
        taken = np.multiply(k, self._row("charge", time), dtype=np.int64)  # type: ignore[arg-type]
        v, clamped = saturate(u - taken, *INT32)
        return v.astype(np.int32), clamped

    def _emitted(self, k: Array) -> Array:
        up, down = self.attributes["up"], self.attributes["down"]
        if up == down == 1:
            return k
        sent: Array = np.multiply(k, up, dtype=np.int64)
        return sent if up == down else np.where(k < 0, np.multiply(k, down, dtype=np.int64), sent)


def _floor_divided(n: Array, spacing: Array | None) -> Array:
    """⌊n/spacing⌋; a shift where all spacings are one power of two."""
    assert spacing is not None  # proved: count is above 1
    one = int(spacing.flat[0])
    if one & (one - 1) == 0 and (spacing == one).all():
        return n >> (one.bit_length() - 1)
    return np.floor_divide(n, spacing)
