"""Exact integers of any width on float32 tensors.

Some runtimes compute integers of a graph in float32 and say nothing. So every tensor here *is* float32, and what it
holds is an integer of at most 24 bits, or one times a power of two: sums, products and comparisons of such are
exact in any order and with any fused multiply-add. A wider number is kept in digits of base 2^11:

    x = Σ d_i·2^(11·i),   0 <= d_i < 2^11 below the highest, which has the sign.

The bounds of every digit are worked out beside it; where one would pass 2^24 the carry is taken before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitspike.export.onnx.nodes import Nodes
from bitspike.runtime.arithmetic import Array, half

BASE = 11
LIMIT = 2**24 - 1
_CARRIES = 2**12
"""More carries meet nowhere; each may be one lower than its share of a bound."""


@dataclass(frozen=True)
class Term:
    """A tensor that counts 2^shift each, and its bounds."""

    name: str
    shift: int
    low: int
    high: int


@dataclass(frozen=True)
class Num:
    """An integer tensor in digits, the lowest first; low and high bound the number itself."""

    digits: tuple[str, ...]
    low: int
    high: int

    @property
    def terms(self) -> list[Term]:
        """Its digits with their bounds."""
        return [Term(name, BASE * i, *self.bounds(i)) for i, name in enumerate(self.digits)]

    def bounds(self, i: int) -> tuple[int, int]:
        """Those of a digit."""
        last = i == len(self.digits) - 1
        return (self.low >> BASE * i, self.high >> BASE * i) if last else (0, 2**BASE - 1)


def digits_for(low: int, high: int, limit: int = LIMIT) -> int:
    """How many digits a range needs when the highest may reach ``limit``.

    >>> digits_for(0, 2**24 - 1), digits_for(0, 2**24), digits_for(-(2**31), 2**31 - 1), digits_for(-(2**63), 0)
    (1, 2, 2, 5)
    """
    count = 1
    while not (-limit <= low >> BASE * (count - 1) and high >> BASE * (count - 1) <= limit):
        count += 1
    return count


def split(array: Array, count: int) -> list[Array]:
    """Integers → so many digits."""
    lower = [(array >> BASE * i) & (2**BASE - 1) for i in range(count - 1)]
    return [*lower, array >> BASE * (count - 1)]


class Fixed:
    """A constant: rows [R, ...] of integers, one a step, the last for all later steps.

    Args:
        place: name of the row to take, an int64 tensor [1], where it is known only when the graph runs.
    """

    def __init__(self, rows: Array, place: str | None = None) -> None:
        self.rows: Array = rows.astype(np.int64)
        self.place: str | None = place
        self.low: int = int(rows.min())
        self.high: int = int(rows.max())

    def times(self, factor: int) -> Fixed:
        """Multiplied before it enters the graph."""
        return Fixed(self.rows * factor, self.place)


class Exact:
    """Arithmetic that adds nodes."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def constant(self, array: Array, place: str | None, low: int, high: int) -> str:
        if low < -(2**24) or high > 2**24:
            raise ArithmeticError("a constant is wider than a digit")  # a fault of the exporter
        if place is None or len(array) == 1:
            return self.nodes.const(array[0])
        return self.nodes.add("Gather", self.nodes.const(array), place, axis=0)

    def weight(self, array: Array) -> str:
        """Weights of a synapse or of a pool of sums."""
        return self.nodes.const(array)

    def fixed(self, value: Fixed, count: int = 0) -> Num:
        """A constant in the graph, in so many digits at least."""
        count = max(count, digits_for(value.low, value.high))
        parts = [self.constant(a, value.place, int(a.min()), int(a.max())) for a in split(value.rows, count)]
        return Num(tuple(parts), value.low, value.high)

    def plus(self, a: str, b: str) -> str:
        return self.nodes.add("Add", a, b)

    def by(self, a: str, factor: float) -> str:
        """a times a constant, a power of two or -1."""
        return a if factor == 1 else self.nodes.add("Mul", a, self.nodes.const(np.float32(factor)))

    def zero(self, a: str) -> str:
        """0 in the shape of a; not 0·a, which OpenVINO 2026.4 makes a tensor without numbers where axes are free."""
        return self.nodes.cast(self.nodes.add("Equal", a, self.nodes.const(np.float32(2**25))), np.float32)

    def floored(self, a: str, shift: int) -> str:
        """⌊a/2^shift⌋."""
        return self.nodes.add("Floor", self.by(a, 2.0**-shift)) if shift else a

    def total(self, terms: Sequence[Term], low: int, high: int, limit: int = LIMIT, least: int = 1) -> Num:
        """The number that terms add up to, known to lie between low and high.

        limit: of its highest digit. least: digits it has at least.
        """
        loose = [sum(t.low << t.shift for t in terms), sum(t.high << t.shift for t in terms)]
        low, high = max(low, loose[0]), min(high, loose[1])
        count = max(least, digits_for(low, high, limit))
        parts = [sum(min(t.low, 0) << t.shift for t in terms), sum(max(t.high, 0) << t.shift for t in terms)]
        most = max(count, digits_for(parts[0], parts[1], LIMIT - _CARRIES))
        digits: list[str] = []
        waiting = list(terms)
        for at in range(most):
            here = sorted((t for t in waiting if t.shift < BASE * (at + 1)), key=lambda t: (t.high - t.low, t.name))
            last = at == most - 1
            here = waiting if last else here
            waiting = [] if last else [t for t in waiting if t.shift >= BASE * (at + 1)]
            name, carries = self._digit(here, at, last)
            digits.append(self._batched(name, terms))
            waiting += carries
        return self.folded(Num(tuple(digits), *loose), low, high, count)

    def _batched(self, name: str, terms: Sequence[Term]) -> str:
        """A digit with the batch axis of the terms, if they have one."""
        alone = self.nodes.alone
        full = next((t.name for t in terms if t.name not in alone), None)
        return name if full is None or name not in alone else self.plus(self.zero(full), name)

    def _digit(self, terms: Sequence[Term], at: int, last: bool) -> tuple[str, list[Term]]:
        """(a digit, what is carried to the next)."""
        carries: list[Term] = []
        sum_: Term | None = None
        for term in terms:
            part = self._scaled(term, at, carries, last)
            if sum_ is not None and not _small(sum_.low + part.low, sum_.high + part.high):
                sum_ = self._carried(sum_, at, carries)
                part = part if _small(sum_.low + part.low, sum_.high + part.high) else self._carried(part, at, carries)
            if sum_ is None:
                sum_ = part
            else:
                sum_ = Term(self.plus(sum_.name, part.name), part.shift, sum_.low + part.low, sum_.high + part.high)
        if sum_ is None:
            return self.nodes.const(np.float32(0)), carries
        if not last and not (sum_.low >= 0 and sum_.high < 2**BASE):
            sum_ = self._carried(sum_, at, carries)
        if last and carries:
            raise ArithmeticError("a sum is wider than its digits")  # a fault of the exporter
        return sum_.name, carries

    def _scaled(self, term: Term, at: int, carries: list[Term], last: bool) -> Term:
        """A term in units of a digit; what does not fit is carried."""
        up = term.shift - BASE * at
        low, high = term.low << up, term.high << up
        if _small(low, high):
            return Term(self.by(term.name, 2.0**up), BASE * at, low, high)
        if last:
            raise ArithmeticError("a sum is wider than its digits")  # a fault of the exporter
        keep = BASE - up
        above = self.floored(term.name, keep)
        carries.append(Term(above, BASE * (at + 1), term.low >> keep, term.high >> keep))
        rest = self.nodes.add("Sub", term.name, self.by(above, 2.0**keep))
        return Term(self.by(rest, 2.0**up), BASE * at, 0, (2**keep - 1) << up)

    def _carried(self, term: Term, at: int, carries: list[Term]) -> Term:
        above = self.floored(term.name, BASE)
        carries.append(Term(above, BASE * (at + 1), term.low >> BASE, term.high >> BASE))
        rest = self.nodes.add("Sub", term.name, self.by(above, 2.0**BASE))
        return Term(rest, BASE * at, 0, 2**BASE - 1)

    def folded(self, x: Num, low: int, high: int, count: int = 0) -> Num:
        """x, known to lie between low and high, in no more digits than that needs (or ``count``)."""
        count = count or digits_for(low, high)
        if len(x.digits) <= count:
            return Num(x.digits, low, high)
        top = x.digits[-1]
        for name in reversed(x.digits[count - 1 : -1]):
            top = self.plus(self.by(top, 2.0**BASE), name)
        return Num((*x.digits[: count - 1], top), low, high)

    def in_digits(self, x: Num, count: int) -> Num:
        """x in exactly so many digits, at least as many as it has."""
        if len(x.digits) == count:
            return x
        digits = list(x.digits)
        while len(digits) < count:
            above = self.floored(digits[-1], BASE)
            digits[-1:] = [self.nodes.add("Sub", digits[-1], self.by(above, 2.0**BASE)), above]
        return Num(tuple(digits), x.low, x.high)

    def alike(self, *numbers: Num) -> list[Num]:
        """Numbers in equally many digits."""
        count = max(len(x.digits) for x in numbers)
        return [self.in_digits(x, count) for x in numbers]

    def add(self, *numbers: Num) -> Num:
        """The sum."""
        return self.total(
            [t for x in numbers for t in x.terms], sum(x.low for x in numbers), sum(x.high for x in numbers)
        )

    def negative(self, x: Num) -> list[Term]:
        """The terms of −x."""
        return [Term(self.nodes.add("Neg", t.name), t.shift, -t.high, -t.low) for t in x.terms]

    def minus(self, a: Num, b: Num) -> Num:
        """a − b."""
        return self.total([*a.terms, *self.negative(b)], a.low - b.high, a.high - b.low)

    def at_least(self, a: Num, b: Num) -> str:
        """Truth of a >= b."""
        a, b = self.alike(a, b)
        found = self.nodes.add("GreaterOrEqual", a.digits[0], b.digits[0])
        for x, y in zip(a.digits[1:], b.digits[1:], strict=True):
            same = self.nodes.add("And", self.nodes.add("Equal", x, y), found)
            found = self.nodes.add("Or", self.nodes.add("Greater", x, y), same)
        return found

    def where(self, truth: str, a: Num, b: Num) -> Num:
        """a where it is true, else b."""
        a, b = self.alike(a, b)
        parts = [self.nodes.add("Where", truth, *pair) for pair in zip(a.digits, b.digits, strict=True)]
        return Num(tuple(parts), min(a.low, b.low), max(a.high, b.high))

    def maximum(self, a: Num, b: Num) -> Num:
        """The greater of both."""
        low, high = max(a.low, b.low), max(a.high, b.high)
        if len(a.digits) == len(b.digits) == 1:
            return Num((self.nodes.add("Max", a.digits[0], b.digits[0]),), low, high)
        return self.folded(self.where(self.at_least(a, b), a, b), low, high)

    def minimum(self, a: Num, b: Num) -> Num:
        """The lesser of both."""
        low, high = min(a.low, b.low), min(a.high, b.high)
        if len(a.digits) == len(b.digits) == 1:
            return Num((self.nodes.add("Min", a.digits[0], b.digits[0]),), low, high)
        return self.folded(self.where(self.at_least(b, a), a, b), low, high)

    def whole(self, k: int) -> Num:
        """A number as a constant."""
        return self.fixed(Fixed(np.array([k])))

    def clamp(self, x: Num, low: int, high: int) -> Num:
        """min(max(x, low), high)."""
        if x.low < low:
            x = self.maximum(x, self.whole(low))
        if x.high > high:
            x = self.minimum(x, self.whole(high))
        return x

    def narrow(self, x: Num, bits: int) -> list[Term]:
        """x in digits whose highest has no more than so many bits and a sign."""
        if max(abs(x.low), abs(x.high)) < 2**bits:
            return x.terms if len(x.digits) == 1 else self.folded(x, x.low, x.high, 1).terms
        return self.total(x.terms, x.low, x.high, limit=2**bits - 1).terms

    def product(self, x: Num, m: Fixed) -> list[Term]:
        """Terms of x·m."""
        most = max(abs(m.low), abs(m.high))
        if max(abs(x.low), abs(x.high)) * most <= LIMIT:
            return self._products(self.narrow(x, 24), self.fixed(m).terms)
        count = digits_for(m.low, m.high, 2**BASE)
        return self._products(self.narrow(x, BASE), self.fixed(m, count).terms)

    def _products(self, a: Sequence[Term], b: Sequence[Term]) -> list[Term]:
        found = []
        for x in a:
            for y in b:
                if (x.low == x.high == 0) or (y.low == y.high == 0):
                    continue
                ends = [p * q for p in (x.low, x.high) for q in (y.low, y.high)]
                name = x.name if y.low == y.high == 1 else self.nodes.add("Mul", x.name, y.name)
                found.append(Term(name, x.shift + y.shift, min(ends), max(ends)))
        return found or [Term(self.zero(a[0].name), 0, 0, 0)]

    def multiplied(self, a: Num, b: Num, low: int, high: int) -> Num:
        """a·b of two tensors."""
        if max(abs(a.low), abs(a.high)) * max(abs(b.low), abs(b.high)) <= LIMIT:
            return self.total(self._products(self.narrow(a, 24), self.narrow(b, 24)), low, high)
        return self.total(self._products(self.narrow(a, BASE), self.narrow(b, BASE)), low, high)

    def times(self, x: Num, m: Fixed) -> Num:
        """x·m."""
        ends = [p * q for p in (x.low, x.high) for q in (m.low, m.high)]
        return self.total(self.product(x, m), min(ends), max(ends))

    def scaled(self, x: Num, m: Fixed, shift: int) -> Num:
        """(x·m + half) >> shift."""
        if shift == 0:
            return self.times(x, m)
        ends = [p * q for p in (x.low, x.high) for q in (m.low, m.high)]
        low, high, more = min(ends) + half(shift), max(ends) + half(shift), half(shift)
        terms = self.product(x, m)
        at = min((shift - 1) // BASE, digits_for(low, high) - 1)
        unit = more >> BASE * at
        if unit <= LIMIT:
            terms.append(Term(self.nodes.const(np.float32(unit)), BASE * at, unit, unit))
        else:
            terms += self.whole(more).terms
        return self.shifted(self.total(terms, low, high), shift)

    def shifted(self, x: Num, shift: int) -> Num:
        """x >> shift, rounding down."""
        terms, last = [], len(x.digits) - 1
        for i, t in enumerate(x.terms):
            if t.shift >= shift:
                terms.append(Term(t.name, t.shift - shift, t.low, t.high))
            elif i == last or t.shift + BASE > shift:
                down = shift - t.shift
                terms.append(Term(self.floored(t.name, down), 0, t.low >> down, t.high >> down))
        return self.total(terms, x.low >> shift, x.high >> shift)

    def as_float(self, truth: str) -> Num:
        """0 or 1."""
        return Num((self.nodes.cast(truth, np.float32),), 0, 1)

    def level(self, n: Num, first: Fixed, spacing: Fixed | None, count: int) -> Num:
        """min(max(⌊(n − first)/spacing⌋ + 1, 0), count)."""
        if count == 1 or spacing is None:
            return self.as_float(self.at_least(n, self.fixed(first)))
        rest = self.minus(n, self.fixed(first))
        one = spacing.low
        if one == spacing.high and one & (one - 1) == 0:
            k = self.clamp(self.shifted(rest, one.bit_length() - 1), -1, count - 1)
            return self.add(k, self.whole(1))
        k, fires = Num((), 0, 0), self.at_least(rest, self.whole(0))
        for bit in reversed(range((count - 1).bit_length())):
            unit = self.fixed(spacing.times(1 << bit))
            fits = self.at_least(rest, unit)
            rest = self.where(fits, self.minus(rest, unit), rest)
            term = Num((self.by(self.nodes.cast(fits, np.float32), 2.0**bit),), 0, 1 << bit)
            k = self.add(k, term) if k.digits else term
        k = self.minimum(self.add(k, self.whole(1)), self.whole(count))
        return self.where(fires, k, self.whole(0))


def _small(low: int, high: int) -> bool:
    return low >= -LIMIT and high <= LIMIT
