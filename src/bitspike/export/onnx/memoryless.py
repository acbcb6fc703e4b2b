"""Operations without state, on tensors of exact numbers: [N, ...] → [N, ...], N samples or samples and steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bitspike.export.onnx.nodes import spread
from bitspike.export.onnx.numbers import LIMIT, Exact, Fixed, Num, Term
from bitspike.export.onnx.values import Clock
from bitspike.runtime.arithmetic import Array
from bitspike.runtime.ops import Operation
from bitspike.runtime.ops.geometry import reach, taps
from bitspike.runtime.ops.pooling import Maximum

Emit = Callable[[Exact, Any, list[Num], Clock], Num]


def _bounded(array: Array, low: int, high: int) -> int:
    """Greatest magnitude that a sum of products with a row of ``array`` and its parts may have."""
    rows = np.abs(array.reshape(len(array), -1)).sum(1, dtype=object)
    return int(rows.max()) * max(abs(low), abs(high))


def _cut(array: Array, bits: int) -> list[tuple[Array, int]]:
    """Integers as (parts of so many bits with the sign of the whole, shift)."""
    found: list[tuple[Array, int]] = []
    left, shift = np.abs(array), 0
    while left.any() or not found:
        found.append(((left & (2**bits - 1)) * np.sign(array), shift))
        left, shift = left >> bits, shift + bits
    return found


def sums(exact: Exact, x: Num, weight: Array, apply: Callable[[str, Array], str], low: int, high: int) -> list[Term]:
    """Terms of the sums of weight·x, each a linear map of float32 numbers whose partial sums stay below 2^24."""
    weight = weight.astype(np.int64)
    one = exact.folded(x, x.low, x.high, 1) if max(abs(x.low), abs(x.high)) <= LIMIT else None
    if one is not None and max(-low, high) <= LIMIT:
        return [Term(apply(one.digits[0], weight), 0, low, high)]
    wide, heavy = max(abs(x.low), abs(x.high)).bit_length(), int(np.abs(weight).max()).bit_length()
    plans = []
    for b in range(1, max(heavy, 1) + 1):
        most = max(_bounded(part, 1, 1) for part, _ in _cut(weight, b))
        a = (LIMIT // max(most, 1)).bit_length() - 1
        if a > 0:
            plans.append((-(-wide // a) * -(-heavy // b), a, b))
    _, a, b = min(plans)
    found = []
    for term in _magnitudes(exact, x, a):
        for part, shift in _cut(weight, b):
            most = _bounded(part, term.low, term.high)
            if most:
                found.append(Term(apply(term.name, part), term.shift + shift, -most, most))
    return found or [Term(apply(exact.zero(x.digits[0]), weight), 0, 0, 0)]


def _magnitudes(exact: Exact, x: Num, bits: int) -> list[Term]:
    """x in pieces of at most ``bits`` bits, a sign beside."""
    found: list[Term] = []
    for digit in x.terms:
        term, shift = digit, digit.shift
        while max(abs(term.low), abs(term.high)) > 2**bits:
            above = exact.floored(term.name, bits)
            rest = exact.nodes.add("Sub", term.name, exact.by(above, 2.0**bits))
            found.append(Term(rest, shift, 0, 2**bits - 1))
            shift += bits
            term = Term(above, shift, term.low >> bits, term.high >> bits)
        found.append(Term(term.name, shift, term.low, term.high))
    return found


def _biased(exact: Exact, made: Operation, terms: list[Term]) -> Num:
    (y,), bias = made.written, made.constants.get("bias")
    if bias is not None:
        terms = [*terms, *exact.fixed(Fixed(spread(bias.astype(np.int64)[None], len(y.shape)))).terms]
    return exact.total(terms, y.low, y.high)


def convolution(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    at, (y,), x = made.attributes, made.written, inputs[0]
    place = {"strides": list(at["stride"]), "dilations": list(at["dilation"]), "group": at["groups"]}
    place |= {"pads": [*at["before"], *at["after"]], "kernel_shape": list(made.kernel)}
    spans = [d * (k - 1) for d, k in zip(at["dilation"], made.kernel, strict=True)]
    if any(max(b, a) > span for b, a, span in zip(at["before"], at["after"], spans, strict=True)):
        # A window may meet nothing but zeros. There OpenVINO 2026.4 reads beyond its memory, also where it has put the
        # pads of a node before into the convolution; a maximum that changes nothing keeps them apart.
        sides = made.read[0].shape[1:]
        outer = [b + n + a for b, n, a in zip(at["before"], sides, at["after"], strict=True)]
        x, place["pads"] = _padded(exact, x, at["before"], (sides, outer), 0), [0] * (2 * len(sides))
        lows = [exact.nodes.const(np.float32(term.low)) for term in x.terms]
        digits = (exact.nodes.add("Max", *pair) for pair in zip(x.digits, lows, strict=True))
        x = Num(tuple(digits), x.low, x.high)

    def apply(x: str, weight: Array) -> str:
        return exact.nodes.add("Conv", x, exact.weight(weight), **place)

    return _biased(exact, made, sums(exact, x, made.constants["weight"], apply, y.low, y.high))


def linear(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    (y,) = made.written

    def apply(x: str, weight: Array) -> str:
        return exact.nodes.add("MatMul", x, exact.weight(weight.T))

    return _biased(exact, made, sums(exact, inputs[0], made.constants["weight"], apply, y.low, y.high))


def rescale(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    at, axes = made.attributes, len(made.read[0].shape)
    y = exact.scaled(inputs[0], clock.row(made.multiplier, axes), at["shift"])
    if "bias" in made.constants:
        y = exact.add(y, exact.fixed(clock.row(made.bias, axes)))
    return exact.clamp(y, at["low"], at["high"])


def add(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    return exact.clamp(exact.add(*inputs), -(2**31), 2**31 - 1)


def multiply(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    x, a = inputs
    (y,), (first, second) = made.written, made.read
    if second.shape != first.shape:
        shape = exact.nodes.const(np.array([-1, *second.shape, *[1] * (len(first.shape) - 1)]), np.int64)
        a = Num(tuple(exact.nodes.add("Reshape", name, shape) for name in a.digits), a.low, a.high)
    return exact.multiplied(x, a, y.low, y.high)


def lookup(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    nodes, (y,), shape = exact.nodes, made.written, made.read[0].shape
    place = exact.add(inputs[0], exact.whole(-made.attributes["first"]))
    if max(abs(place.low), abs(place.high)) > LIMIT:
        raise ArithmeticError("a table has more than 2^24 numbers a channel")  # refused before
    place = exact.folded(place, place.low, place.high, 1)
    at = nodes.cast(place.digits[0], np.int64)
    size = made.table.shape[2]
    if made.table.shape[1] > 1:
        offsets = spread(np.arange(shape[0])[None] * size, len(shape))[0]
        at = nodes.add("Add", at, nodes.const(offsets, np.int64))
    rows = made.table.reshape(len(made.table), -1).astype(np.int64)
    table = exact.fixed(clock.row(rows, 1))
    flat = nodes.const(np.array([-1]), np.int64)
    parts = [nodes.add("Gather", nodes.add("Reshape", name, flat), at, axis=0) for name in table.digits]
    return Num(tuple(parts), y.low, y.high)


def _padded(exact: Exact, x: Num, before: Any, sides: Any, fill: int) -> Num:
    """x [N, C, *spatial] in tensors whose spatial sides are these; what lies beyond is cut off."""
    nodes, axes = exact.nodes, len(sides[0])
    inner, outer = sides
    after = [o - b - n for o, b, n in zip(outer, before, inner, strict=True)]
    filled = exact.fixed(Fixed(np.array([fill])), len(x.digits))
    x = exact.in_digits(x, len(filled.digits))
    names = []
    for name, value in zip(x.digits, filled.digits, strict=True):
        if any(a < 0 for a in after):
            ends = [n + min(a, 0) for n, a in zip(inner, after, strict=True)]
            spans = ([0] * axes, ends, list(range(2, 2 + axes)))
            name = nodes.add("Slice", name, *(nodes.const(np.array(part), np.int64) for part in spans))
        if any(before) or any(a > 0 for a in after):
            pads = nodes.const(np.array([0, 0, *before, 0, 0, *(max(a, 0) for a in after)]), np.int64)
            name = nodes.add("Pad", name, pads, value)
        names.append(name)
    return Num(tuple(names), min(x.low, fill), max(x.high, fill))


def highest(exact: Exact, pool: Maximum, x: Num, sides: tuple[int, ...]) -> Num:
    """The maximum over windows of x [N, C, *sides]."""
    nodes, low, high = exact.nodes, x.low, x.high
    x = _padded(exact, x, pool.padding, (sides, pool.reach), low)
    if len(x.digits) == 1:
        place: dict[str, Any] = {
            "kernel_shape": list(pool.kernel),
            "strides": list(pool.stride),
            "dilations": list(pool.dilation),
        }
        return Num((nodes.add("MaxPool", x.digits[0], **place),), low, high)
    top: Num | None = None
    for _, spans in taps(pool.sides, pool.kernel, pool.stride, pool.dilation):
        part = _spans(exact, x, spans[1:])
        top = part if top is None else exact.maximum(top, part)
    assert top is not None
    return Num(top.digits, low, high)


def _spans(exact: Exact, x: Num, spans: Any) -> Num:
    nodes, axes = exact.nodes, list(range(2, 2 + len(spans)))
    numbers = ([s.start for s in spans], [s.stop for s in spans], axes, [s.step for s in spans])
    parts = [nodes.const(np.array(part), np.int64) for part in numbers]
    return Num(tuple(nodes.add("Slice", name, *parts) for name in x.digits), x.low, x.high)


def maxpool(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    return highest(exact, made.pool, inputs[0], made.read[0].shape[1:])


def sumpool(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    at, (x,), (y,) = made.attributes, made.read, made.written
    places = zip(made.sides, at["kernel"], at["stride"], made.dilation, strict=True)
    held = _padded(exact, inputs[0], at["padding"], (x.shape[1:], tuple(reach(*each) for each in places)), 0)
    weight = np.ones((x.shape[0], 1, *at["kernel"]), np.int64)
    bound = math.prod(at["kernel"])
    low, high = bound * min(held.low, 0), bound * max(held.high, 0)

    def apply(name: str, ones: Array) -> str:
        return exact.nodes.add(
            "Conv",
            name,
            exact.weight(ones),
            strides=list(at["stride"]),
            kernel_shape=list(at["kernel"]),
            group=x.shape[0],
        )

    total = exact.total(sums(exact, held, weight, apply, low, high), low, high)
    if not at["divisor"]:
        return exact.folded(total, max(low, y.low), min(high, y.high))
    sizes = [np.full(count, k) for count, k in zip(made.sides, at["kernel"], strict=True)]
    for size, last in zip(sizes, made.last, strict=True):
        size[-1] = last
    area = sizes[0] if len(sizes) == 1 else np.multiply.outer(*sizes)
    factor = at["divisor"] // area
    found = exact.times(total, Fixed(factor[None, None]))
    return exact.folded(found, max(found.low, y.low), min(found.high, y.high))


def reshape(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    (x,), nodes = inputs, exact.nodes
    shape = nodes.const(np.array([-1, *made.written[0].shape]), np.int64)
    return Num(tuple(nodes.add("Reshape", name, shape) for name in x.digits), x.low, x.high)


def concat(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    parts = exact.alike(*inputs)
    names = [exact.nodes.add("Concat", *d, axis=1) for d in zip(*(x.digits for x in parts), strict=True)]
    return Num(tuple(names), min(x.low for x in parts), max(x.high for x in parts))


def slice_(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    (x,), at, nodes = inputs, made.attributes, exact.nodes
    axes = list(range(1, 1 + len(at["start"])))
    parts = [nodes.const(np.array(p), np.int64) for p in (at["start"], at["stop"], axes, at["stride"])]
    return Num(tuple(nodes.add("Slice", name, *parts) for name in x.digits), x.low, x.high)


def pad(exact: Exact, made: Any, inputs: list[Num], clock: Clock) -> Num:
    (x,), at, nodes = inputs, made.attributes, exact.nodes
    pads = nodes.const(np.array([0, *at["before"], 0, *at["after"]]), np.int64)
    zero = nodes.const(np.float32(0))
    parts = tuple(nodes.add("Pad", name, pads, zero) for name in x.digits)
    return Num(parts, min(x.low, 0), max(x.high, 0))


ROWS: dict[str, Emit] = {
    "convolution": convolution,
    "linear": linear,
    "rescale": rescale,
    "add": add,
    "multiply": multiply,
    "lookup": lookup,
    "maxpool": maxpool,
    "sumpool": sumpool,
    "reshape": reshape,
    "concat": concat,
    "slice": slice_,
    "pad": pad,
}
"""Kind → how it is written."""
