"""The workbench of the rules: a builder, wires of nodes, and the three ways to bring a wire into a form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitspike.graph import Graph, Node
from bitspike.lower.fixed_point import bits_above, multipliers
from bitspike.lower.measured import Measured
from bitspike.lower.report import CompileReport
from bitspike.lower.rules.gather import gather
from bitspike.lower.wire import Array, TooWide, Wire, wire
from bitspike.runtime import Builder, Value
from bitspike.runtime.arithmetic import round_half

INT32 = (-(2**31), 2**31 - 1)
FRACTION = 30
"""Fraction bits of a current at most."""
_ROOM = 2
"""How often the greatest magnitude on the calibration data fits, where no bound is proved."""


@dataclass(frozen=True)
class Options:
    """Bits that a user chooses; see `compile`."""

    weight_bits: int = 8
    spike_bits: int = 8
    input_bits: int = 8
    activation_bits: int = 16


class Lowering:
    """State of one lowering.

    Attributes:
        graph: the folded network. builder: what is written so far. measured: calibration. options: bits.
        wires: node → what it became. membranes: neuron → its potential, nameless where no output shows it.
        report: what is noted on the way.
    """

    def __init__(self, graph: Graph, builder: Builder, measured: Measured, options: Options) -> None:
        self.graph: Graph = graph
        self.builder: Builder = builder
        self.measured: Measured = measured
        self.options: Options = options
        self.wires: dict[str, Any] = {}
        self.report: CompileReport = CompileReport(samples=measured.samples)
        self.membranes: dict[str, Wire] = {}
        self._names: set[str] = set()

    def value(self, w: Wire) -> Value:
        """What is proved of the integers of a wire."""
        return self.builder.values[w.name]

    def free(self, name: str) -> str:
        """A name for an operation that no other has."""
        name, count = name[:180], 1
        given = name
        while name in self._names or name in self.builder.values:
            count += 1
            name = f"{given}.{count}"
        self._names.add(name)
        return name

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Wire],
        attributes: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        **constants: Any,
    ) -> str:
        """Write an operation; constants are arrays, or (array, grid). Returns the name of its first output."""
        name = self.free(name)
        tensors = {}
        for role, given in constants.items():
            if given is not None:
                array, grid = given if isinstance(given, tuple) else (given, None)
                tensors[role] = self.builder.constant(np.asarray(array), grid, f"{name}.{role}")
        return self.builder.add(kind, [w.name for w in inputs], attributes, tensors, name, outputs)

    def bound(self, w: Wire) -> float:
        """Greatest magnitude that the true value of a wire can have, proved."""
        return float(self.bounds(w).max())

    def bounds(self, w: Wire) -> Array:
        """The same per channel, or step and channel, as far as factor and shift differ."""
        value = self.value(w)
        ends = [np.abs(w.factor * end + w.shift) for end in (value.low, value.high)]
        found: Array = np.maximum(*ends)
        return found

    def settle(
        self,
        w: Wire,
        exponent: int,
        name: str,
        unit: Any = 1.0,
        low: int = INT32[0],
        high: int = INT32[1],
    ) -> Wire:
        """Bring a wire to integers worth ``unit·2^-exponent`` ([] or [C]), clamped to low .. high; pays factor, shift.

        Nothing is written where that is what they are worth already.
        """
        value = self.value(w)
        unit = np.asarray(unit, np.float64)
        real = np.ldexp(w.factor / unit, exponent)
        shift = np.ldexp(w.shift / unit, exponent)
        inside = low <= value.low and value.high <= high
        if (real == 1).all() and not shift.any() and inside and value.exponent == exponent:
            return wire(w.name, np.ldexp(unit, -exponent), at=w.at)
        bias = round_half(shift)
        if np.abs(bias).max(initial=0.0) > INT32[1]:
            raise TooWide(f"its shift of {float(np.abs(w.shift).max()):.3g} does not fit 32 bits")
        m, s, error = multipliers(real, max(abs(value.low), abs(value.high)))
        attributes = {"shift": s, "low": low, "high": high, "exponent": exponent}
        shifts = np.atleast_1d(bias).astype(np.int64) if bias.any() else None
        made = self.add("rescale", name, [w], attributes, multiplier=np.atleast_1d(m), bias=shifts)
        self.report.rescales[made] = [error, float(np.abs(bias - shift).max(initial=0.0))]
        return wire(made, np.ldexp(unit, -exponent), at=w.at)

    def fraction_bits(self, w: Wire, node: str, room: float = 1.0) -> int:
        """Fraction bits for a wire as a current in units of one: no overflow whatever comes, or, where that would leave
        less than 12 bits of what was measured, none on the calibration data."""
        bits = self.fraction_bits_of(self.bound(w) * room, self.measured.most.get(node, 0.0) * room)
        return min(bits, self.bits_of_shift(w))

    @staticmethod
    def bits_of_shift(w: Wire, unit: Any = 1.0) -> int:
        """Fraction bits with which shift and factor of a wire, in units of one or of each channel, fit 32 bits."""
        return bits_above(max(float(np.abs(part / unit).max(initial=0.0)) for part in (w.shift, w.factor)))

    @staticmethod
    def fraction_bits_of(far: float, most: float) -> int:
        """The same for a proved bound and a measured magnitude (0: not known)."""
        proved = bits_above(far)
        wanted = bits_above(most * _ROOM) if most else proved
        enough = 12 - math.floor(math.log2(most)) if most else -64
        return max(-60, min(FRACTION, proved if proved >= enough else wanted))

    def current(self, w: Wire, node: str, name: str = "", room: int = 1) -> Wire:
        """A wire in units of 2^-e without a shift, e by `fraction_bits`; ``room`` times its range fits 32 bits."""
        low, high = (INT32[0], INT32[1]) if room == 1 else (-(INT32[1] // room), INT32[1] // room)
        return self.settle(w, self.fraction_bits(w, node, room), name or f"{node}.rescale", low=low, high=high)

    def plain(self, w: Wire, node: str, room: int = 1, positive: bool = False, steady: bool = False) -> Wire:
        """A wire that every operation can read: one unit or factors, no shift, ``room`` times its range fits 32 bits.

        Args:
            positive: factors must be > 0 (maxima). steady: they must not change with time (sums over time).
        """
        value = self.value(w)
        wide = max(abs(value.low), abs(value.high)) * room > INT32[1]
        moved = (positive and (w.factor <= 0).any()) or (steady and w.factor.ndim == 2)
        if value.exponent is None or w.shift.any() or wide or moved:
            return self.current(w, node, room=room)
        return w

    def operand(self, w: Wire, node: str, columns: bool = False) -> Wire:
        """A wire that a synapse can read: few bits, one factor (``columns``: or one a channel), no shift.

        Levels stay as they are where channels or steps differ by shifts that fit 16 bits; other numbers become
        ``activation_bits`` wide, with a range by calibration.
        """
        value = self.value(w)
        small = value.exponent is not None and value.low >= -(2**15) and value.high < 2**16
        if small and not w.shift.any() and (w.factor.ndim == 0 or (columns and w.factor.ndim == 1)):
            return w
        kept = self._levels(w, node)
        return self.analog(w, node) if kept is None else kept

    def _levels(self, w: Wire, node: str) -> Wire | None:
        """Integer levels with one factor, where channels or steps differ by whole factors and 16 bits hold all."""
        value = self.value(w)
        if value.exponent is None or value.low < -(2**15) or value.high >= 2**16 or w.shift.any():
            return None
        least = np.abs(w.factor[w.factor != 0]).min(initial=np.inf)
        if not math.isfinite(least):
            return None
        ratio = w.factor / least
        most = np.abs(ratio).max(initial=0.0) * max(abs(value.low), abs(value.high))
        if (ratio != np.floor(ratio)).any() or most >= 2**15:
            return None
        return self.settle(Wire(w.name, ratio, np.zeros(()), w.at), 0, f"{node}.levels").times(least)

    def single(self, w: Wire, node: str) -> Wire:
        """A wire with one factor and no shift that every operation can read."""
        if w.scalar:
            return self.usable(w, node)
        kept = self._levels(w, node)
        return self.current(w, node) if kept is None else kept

    def usable(self, w: Wire, node: str) -> Wire:
        """A wire whose integers every operation can read, whatever they are worth."""
        value = self.value(w)
        wide = value.low < INT32[0] or value.high > INT32[1]
        return self.current(w, node) if value.exponent is None or wide else w

    def shape(self, w: Wire) -> tuple[int, ...]:
        """Shape of a sample and step as the network has it."""
        return self.value(w).shape if w.at is None else w.at.shape

    def straight(self, w: Wire, node: str) -> Wire:
        """A wire whose numbers lie as in the network."""
        return w if w.at is None else gather(self, w, w.at, node, f"{node}.straight")

    def straightened(self, node: str) -> Wire:
        """The wire of a node, its numbers as in the network from now on."""
        found = self.wires[node]
        if isinstance(found, Wire) and found.at is not None:
            self.wires[node] = found = self.straight(found, node)
        return found  # type: ignore[no-any-return]

    def channels(self, w: Wire, axis: int) -> tuple[Wire, Array | None]:
        """A wire, perhaps with all its numbers in a row, and which channel of the network's axis each of axis 0 is.

        None: the channels themselves, in order. Constants of a channel are to be taken there.
        """
        shape = self.shape(w)
        if w.at is None and axis % len(shape) == 0:
            return w, None
        numbers = np.arange(shape[axis]).reshape(-1, *[1] * (len(shape) - axis % len(shape) - 1))
        return self.spread(w, np.broadcast_to(numbers, shape))

    def spread(self, w: Wire, numbers: Array) -> tuple[Wire, Array]:
        """Numbers [..., *shape of the network] as constants [..., C] of a wire, which may be put in a row for them."""
        value, size = self.value(w), int(np.prod(self.shape(w), dtype=np.int64))
        flat = numbers.reshape(*numbers.shape[: numbers.ndim - len(self.shape(w))], size)
        if w.at is not None:
            moved = np.empty_like(flat)
            moved[..., w.at.reshape(-1)] = flat
            flat = moved
        rows = flat.reshape(*flat.shape[:-1], value.shape[0], -1)
        if (rows == rows[..., :1]).all():
            return w, rows[..., 0]
        return self.in_a_row(w), flat

    def in_a_row(self, w: Wire) -> Wire:
        """The same wire with every number as a channel of its own; its numbers need a unit."""
        value = self.value(w)
        if len(value.shape) == 1:
            return w
        at = np.arange(value.size).reshape(value.shape) if w.at is None else w.at
        inner = value.size // value.shape[0]
        if value.exponent is None or value.low < INT32[0] or value.high > INT32[1]:
            w = self.current(w, "", f"{w.name}.units")  # what calibration says of its node may be of another factor
        factor, shift = (np.repeat(n, inner, -1) if n.ndim and n.shape[-1] > 1 else n for n in (w.factor, w.shift))
        return Wire(self.add("reshape", f"{w.name}.row", [w], {"shape": [value.size]}), factor, shift, at)

    def analog(self, w: Wire, node: str) -> Wire:
        """A real signal in ``activation_bits`` signed bits, the exponent by calibration; what is outside is clamped."""
        top = 2 ** (self.options.activation_bits - 1) - 1
        most = self.measured.most.get(node, 0.0) or self.bound(w) or 1.0
        exponent = max(-60, min(FRACTION, math.floor(math.log2(top / min(most * _ROOM, max(self.bound(w), 1e-9))))))
        exponent = min(exponent, self.bits_of_shift(w))
        return self.settle(w, exponent, f"{node}.quantize", low=-top, high=top)

    def source(self, node: Node, place: int = 0) -> str:
        """Name of an input node."""
        return node.inputs[place]
