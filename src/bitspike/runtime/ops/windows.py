"""Other numbers of steps: sums over time, held values, and windows in between."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arithmetic import Array
from ..fields import Fields, Int
from ..limits import MAX_STEPS
from ..spec import Value
from .base import Operation, Ran, Slot


class OpenWindow(NamedTuple):
    """The sum of the window that is open, int32 [B, ...], and the place in the sequence of frames."""

    total: Array
    seen: int


def overlaps(frames: int, steps: int) -> list[list[tuple[int, bool]]]:
    """For every frame, in order: (weight, whether a window closes there) of the windows that it meets.

    Window t of ``steps`` shares the time from t·frames/steps to (t + 1)·frames/steps; a weight is the overlap with a
    frame in units of gcd/steps, so that the weights of a window add up to frames/gcd.

    >>> overlaps(3, 2)
    [[(2, False)], [(1, True), (1, False)], [(2, True)]]
    >>> overlaps(1, 3), overlaps(2, 1)
    ([[(1, True), (1, True), (1, True)]], [[(1, False)], [(1, True)]])
    """
    share, place = math.gcd(frames, steps), 0
    found: list[list[tuple[int, bool]]] = [[] for _ in range(frames)]
    while place < frames * steps:
        window, frame = place // frames, place // steps
        end = min((window + 1) * frames, (frame + 1) * steps)
        found[frame].append(((end - place) // share, end == (window + 1) * frames))
        place = end
    return found


class Windows(Operation):
    """``y_t = Σ_i n_ti·x_i``, n the integer overlaps of `overlaps`; the next sequence of frames follows on the last.

    One step: the sum over all frames (squeeze). One frame: it is held for all steps (hold).
    """

    kind = "windows"
    fields: ClassVar[Fields] = {"frames": Int(1, MAX_STEPS), "steps": Int(1, MAX_STEPS)}
    rates = True

    def prove(self) -> tuple[Value, ...]:
        (x,), at = self.read, self.attributes
        if at["frames"] != x.steps:
            raise self.bad(f"frames must be the {x.steps} steps of the input", at["frames"], "correct it")
        total = at["frames"] // math.gcd(at["frames"], at["steps"])
        low, high = (x.low, x.high) if total == 1 else (total * min(x.low, 0), total * max(x.high, 0))
        self.fits(low, high)
        return (Value(x.shape, low, high, x.exponent, at["steps"]),)

    def slots(self) -> tuple[Slot, ...]:
        return (Slot("total", self.read[0].shape),) if self.attributes["frames"] > 1 else ()

    @cached_property
    def _parts(self) -> list[list[tuple[int, bool]]]:
        return overlaps(self.attributes["frames"], self.attributes["steps"])

    @property
    def steady(self) -> bool:
        return False

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,), at = inputs, self.written, self.attributes
        if at["frames"] == 1:
            whole = x[:1] if x.strides[0] == 0 else x
            held = np.repeat(whole, at["steps"], 0) if len(whole) > 1 else whole
            return Ran((np.broadcast_to(held, (len(x) * at["steps"], *x.shape[1:])),))
        parts = self._parts
        total, seen = OpenWindow(np.zeros(x.shape[1:], np.int32), 0) if state is None else state
        closed = []
        for step in x:
            for weight, closes in parts[seen]:
                total = np.add(total, np.multiply(step, weight, dtype=np.int32), dtype=np.int32)
                if closes:
                    closed.append(total.astype(y.dtype))
                    total = np.zeros_like(total)
            seen = (seen + 1) % at["frames"]
        sent = np.stack(closed) if closed else np.zeros((0, *x.shape[1:]), y.dtype)
        return Ran((sent,), OpenWindow(total, seen))
