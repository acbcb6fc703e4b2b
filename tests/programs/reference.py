"""What every operation means, once more: nested lists and Python's own integers, written from the page, not the code.

A value is a list over steps of nested lists [C][...]; one sample. Slow and plain.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import gcd, prod
from typing import Any

INT32 = (-(2**31), 2**31 - 1)


def clamp(x: int, low: int = INT32[0], high: int = INT32[1]) -> int:
    return low if x < low else high if x > high else x


def half_up(x: int, shift: int) -> int:
    """The nearest whole number to x / 2^shift, the greater one in a tie."""
    down, rest = divmod(x, 2**shift)
    return down + (2 * rest >= 2**shift)


def shape(x: Any) -> tuple[int, ...]:
    return (len(x), *shape(x[0])) if isinstance(x, list) else ()


def at(x: Any, place: tuple[int, ...]) -> Any:
    for i in place:
        x = x[i]
    return x


def make(sides: tuple[int, ...], entry: Callable[[tuple[int, ...]], int]) -> Any:
    def down(place: tuple[int, ...]) -> Any:
        if len(place) == len(sides):
            return entry(place)
        return [down((*place, i)) for i in range(sides[len(place)])]

    return down(())


def inside(place: tuple[int, ...], sides: tuple[int, ...]) -> bool:
    return all(0 <= i < n for i, n in zip(place, sides, strict=True))


def constant(tensor: Any, time: int, channel: int) -> int:
    """A number of a constant [C or 1] or [steps, C or 1]."""
    if isinstance(tensor[0], list):
        tensor = tensor[min(time, len(tensor) - 1)]
    return tensor[channel % len(tensor)]


def convolution(
    x: Any, weight: Any, bias: Any, stride: Any, before: Any, after: Any, dilation: Any, groups: int
) -> Any:
    outputs, own, *kernel = shape(weight)
    sides = shape(x)[1:]
    out = tuple(
        len(range(0, n + b + a - d * (k - 1), s))
        for n, b, a, d, k, s in zip(sides, before, after, dilation, kernel, stride, strict=True)
    )

    def entry(place: tuple[int, ...]) -> int:
        o, total = place[0], 0 if bias is None else bias[place[0]]
        for i in range(own):
            for p in product(*map(range, kernel)):
                q = tuple(
                    s * j + d * t - b for s, j, d, t, b in zip(stride, place[1:], dilation, p, before, strict=True)
                )
                if inside(q, sides):
                    total += at(weight[o][i], p) * at(x[o // (outputs // groups) * own + i], q)
        return total

    return make((outputs, *out), entry)


def linear(x: Any, weight: Any, bias: Any) -> Any:
    shift = bias or [0] * len(weight)
    return [b + sum(w * v for w, v in zip(row, x, strict=True)) for row, b in zip(weight, shift, strict=True)]


def rescale(x: Any, time: int, multiplier: Any, bias: Any, shift: int, low: int, high: int) -> tuple[Any, int]:
    clamped = 0

    def entry(place: tuple[int, ...]) -> int:
        nonlocal clamped
        y = half_up(at(x, place) * constant(multiplier, time, place[0]), shift)
        y += 0 if bias is None else constant(bias, time, place[0])
        clamped += not low <= y <= high
        return clamp(y, low, high)

    return make(shape(x), entry), clamped


def starts(side: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> list[int]:
    """Where pooling windows begin; one that begins behind the input (and the padding before it) is left out."""
    reach = dilation * (kernel - 1) + 1
    found, start = [], -padding
    while start + reach <= side + padding:
        found.append(start)
        start += stride
    if ceil and start < side and (not found or found[-1] + reach < side + padding):
        found.append(start)
    return found


def maximum(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Any:
    channels, *sides = shape(x)
    grid = [starts(*each, ceil) for each in zip(sides, kernel, stride, padding, dilation, strict=True)]

    def entry(place: tuple[int, ...]) -> int:
        corner = [begins[i] for begins, i in zip(grid, place[1:], strict=True)]
        spots = [
            tuple(c + d * t for c, d, t in zip(corner, dilation, p, strict=True)) for p in product(*map(range, kernel))
        ]
        return max(at(x[place[0]], q) for q in spots if inside(q, tuple(sides)))

    return make((channels, *map(len, grid)), entry)


def sums(x: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, divisor: int) -> Any:
    channels, *sides = shape(x)
    grid = [starts(n, k, s, p, 1, ceil) for n, k, s, p in zip(sides, kernel, stride, padding, strict=True)]

    def entry(place: tuple[int, ...]) -> int:
        corner = [begins[i] for begins, i in zip(grid, place[1:], strict=True)]
        spots = [tuple(c + t for c, t in zip(corner, p, strict=True)) for p in product(*map(range, kernel))]
        held = [q for q in spots if all(i < n + p for i, n, p in zip(q, sides, padding, strict=True))]
        total = sum(at(x[place[0]], q) for q in held if inside(q, tuple(sides)))
        return total * (divisor // len(held) if divisor else 1)

    return make((channels, *map(len, grid)), entry)


def windows(sequence: list[Any], frames: int, steps: int) -> list[Any]:
    """Whole windows: every frame is cut into ``steps`` pieces, ``frames`` pieces are a window."""
    found = []
    for start in range(0, len(sequence) - frames + 1, frames):
        pieces = [x for x in sequence[start : start + frames] for _ in range(steps)]
        for t in range(steps):
            part = pieces[t * frames : (t + 1) * frames]
            found.append(
                make(shape(part[0]), lambda place, part=part: sum(at(x, place) for x in part) // gcd(frames, steps))
            )
    return found


class Neuron:
    """One membrane, as the equations of the page say."""

    def __init__(self, attributes: dict[str, Any], tensors: dict[str, Any], channel: int) -> None:
        self.a = {"signed": False, "decay": (1, 0), "cancel": False, "up": 1, "down": 1} | attributes
        self.t, self.channel, self.time, self.sent, self.clamped = tensors, channel, 0, 0, 0
        self.v = self.number("initial") if "initial" in tensors else 0

    def number(self, role: str) -> int:
        return constant(self.t[role], self.time, self.channel)

    def bounded(self, x: int) -> int:
        self.clamped += not INT32[0] <= x <= INT32[1]
        return clamp(x)

    def step(self, x: int) -> tuple[int, int]:
        multiplier, shift = self.a["decay"]
        u = self.bounded(half_up(self.v * multiplier, shift) + x)
        if "floor" in self.t:
            u = max(u, self.number("floor"))
        n = abs(u) if self.a["signed"] else u
        top, k = self.a["count"][min(self.time, len(self.a["count"]) - 1)], 0
        boundary = self.number("first")
        while k < top and n >= boundary:  # climb the stairs, one boundary after the other
            k, boundary = k + 1, boundary + (self.number("spacing") if "spacing" in self.t else 0)
        fired = k != 0
        if "gate" in self.t:
            fired = n >= self.number("gate")
            k = k if fired else 0
        if self.a["signed"] and u < 0:
            k = -k
        if self.a["cancel"]:
            k = max(k, -self.sent)
            self.sent, fired = self.bounded(self.sent + k), k != 0
        if self.a["reset"] == "hard":
            self.v = 0 if fired else u
        else:
            self.v = self.bounded(u - k * self.number("charge"))
        self.time += 1
        return k * (self.a["up"] if k >= 0 else self.a["down"]), u


def fire(sequence: list[Any], attributes: dict[str, Any], tensors: dict[str, Any]) -> tuple[list[Any], list[Any], int]:
    sides = shape(sequence[0])
    neurons = {place: Neuron(attributes, tensors, place[0]) for place in product(*map(range, sides))}
    spikes, potentials = [], []
    for x in sequence:
        sent = {place: neuron.step(at(x, place)) for place, neuron in neurons.items()}
        spikes.append(make(sides, lambda place, sent=sent: sent[place][0]))
        potentials.append(make(sides, lambda place, sent=sent: sent[place][1]))
    return spikes, potentials, sum(neuron.clamped for neuron in neurons.values())


def tally(sequence: list[Any], *window: Any) -> list[Any]:
    sides = shape(sequence[0])
    total = make(sides, lambda place: 0)
    sent, found = None, []
    for x in sequence:
        total = make(sides, lambda place, total=total, x=x: clamp(at(total, place) + at(x, place)))
        top = maximum(total, *window)
        before = sent
        found.append(
            make(
                shape(top), lambda place, top=top, before=before: at(top, place) - (at(before, place) if before else 0)
            )
        )
        sent = top
    return found


def flat(x: Any) -> list[int]:
    return [x] if isinstance(x, int) else [item for part in x for item in flat(part)]


def reshaped(x: Any, sides: tuple[int, ...]) -> Any:
    numbers = flat(x)
    return make(sides, lambda place: numbers[sum(i * prod(sides[a + 1 :]) for a, i in enumerate(place))])
