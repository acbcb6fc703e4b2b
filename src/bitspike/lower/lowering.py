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
from bitspike.lower.wire import Array, Refused, Wire, wire
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
        self.graph, self.builder, self.measured, self.options = graph, builder, measured, options
        self.wires: dict[str, Any] = {}
        self.report = CompileReport(samples=measured.samples)
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
            return wire(w.name, np.ldexp(unit, -exponent))
        bias = round_half(shift)
        if np.abs(bias).max(initial=0.0) > INT32[1]:
            raise Refused(f"its shift of {float(np.abs(w.shift).max()):.3g} does not fit 32 bits")
        m, s, error = multipliers(real, max(abs(value.low), abs(value.high)))
        attributes = {"shift": s, "low": low, "high": high, "exponent": exponent}
        shifts = np.atleast_1d(bias).astype(np.int64) if bias.any() else None
        made = self.add("rescale", name, [w], attributes, multiplier=np.atleast_1d(m), bias=shifts)
        self.report.rescales[made] = [error, float(np.abs(bias - shift).max(initial=0.0))]
        return wire(made, np.ldexp(unit, -exponent))

    def fraction_bits(self, w: Wire, node: str, room: float = 1.0) -> int:
        """Fraction bits for a wire as a current in units of one: no overflow whatever comes, or, where that would leave
        less than 12 bits of what was measured, none on the calibration data."""
        return self.fraction_bits_of(self.bound(w) * room, self.measured.most.get(node, 0.0) * room)

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
        if small and not w.shift.any():
            least = np.abs(w.factor[w.factor != 0]).min(initial=np.inf)
            ratio = w.factor / least
            most = np.abs(ratio).max(initial=0.0) * max(abs(value.low), abs(value.high))
            if math.isfinite(least) and (ratio == np.floor(ratio)).all() and most < 2**15:
                kept = self.settle(Wire(w.name, ratio, np.zeros(())), 0, f"{node}.levels")
                return kept.times(least)
        return self.analog(w, node)

    def analog(self, w: Wire, node: str) -> Wire:
        """A real signal in ``activation_bits`` signed bits, the exponent by calibration; what is outside is clamped."""
        top = 2 ** (self.options.activation_bits - 1) - 1
        most = self.measured.most.get(node, 0.0) or self.bound(w) or 1.0
        exponent = max(-60, min(FRACTION, math.floor(math.log2(top / min(most * _ROOM, max(self.bound(w), 1e-9))))))
        return self.settle(w, exponent, f"{node}.quantize", low=-top, high=top)

    def source(self, node: Node, place: int = 0) -> str:
        """Name of an input node."""
        return node.inputs[place]
