"""Events as they come → frames, one a step of time, in memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from bitspike.checks import bad_value, integer, one_of
from bitspike.data.events.live.packets import LATEST_US, Packet, as_packet
from bitspike.data.events.recording import POLICIES, Recording, added, sensor
from bitspike.data.events.slices import MOST_STEPS, cells, pooled

WHERE = "LiveFrames"
LONGEST_WAIT = 1000
_WORDS = {
    "negative": ("times must be >= 0", "count from the begin of the recording"),
    "outside": ("pixels must lie in the sensor", "pass the size of the sensor"),
    "late": ("events must not come after their step was sent", "set wait to as many steps as they may be late"),
    "ahead": (
        f"a packet must begin at most {MOST_STEPS:,} steps behind the last event or end",
        "pass start_us (None: the first event), or look at the clock",
    ),
}


class LiveStep(NamedTuple):
    """One step: its number from 0, where it ends in the source's time, int32 counts ``[channels, H', W']``, and when
    it was known to be over, by ``time.perf_counter``."""

    number: int
    end_us: int
    frame: np.ndarray
    closed_s: float


class LiveFrames(Iterator[LiveStep]):
    """Count the events of a live source per step, polarity and pixel: the frames of `count_frames`, one by one.

    Step k holds the events of [start_us + k·step_us, start_us + (k + 1)·step_us). It is sent when an event comes that
    lies ``wait`` + 1 steps behind it or later, when a packet says that it is over, or when the source ends; steps
    without events are sent, too, up to the last one that has an event or was said to be over. Kept are ``wait`` + 1
    frames and one packet, whatever has gone by.

    Faults are errors, or with ``faults="skip"`` the events are left out and counted in `skipped`: "negative" (a time
    below 0), "outside" (a pixel that the sensor has not), "late" (the step of the event was sent before), "ahead" (more
    than 100,000 steps after all before it, as of a damaged clock). Events before ``start_us`` are left out and counted
    as "before". Order within a packet does not matter.

    Args:
        source: packets, recordings or (t, x, y, p), as they come. size: (H, W) of the sensor.
        step_us: duration of a step, 1 to 10^9. start_us: where step 0 begins; None: at the first event.
        frames, channels: as ``size`` and ``channels`` of `count_frames`. wait: steps that stay open for late events, 0
            to 1000. faults: "error" or "skip".

    Raises:
        TypeError, ValueError: a number or name that is not allowed; while it runs, a packet that is malformed or a
            fault. After an error there are no more steps.

    >>> packets = [([5, 7], [0, 0], [0, 0], [1, 1]), ([2500], [0], [0], [0])]
    >>> [step.frame.flatten().tolist() for step in LiveFrames(packets, (1, 1), 1000)]
    [[0, 2], [0, 0], [1, 0]]
    """

    def __init__(
        self,
        source: Iterable[object],
        size: tuple[int, int],
        step_us: int,
        *,
        start_us: int | None = 0,
        frames: tuple[int, int] | None = None,
        channels: int = 2,
        wait: int = 0,
        faults: str = "error",
    ) -> None:
        self.size: tuple[int, int] = sensor(WHERE, size)
        self.channels: int = one_of(WHERE, "channels", channels, (1, 2))
        self.step_us: int = integer(WHERE, "step_us", step_us, 1, 10**9)
        self.wait: int = integer(WHERE, "wait", wait, 0, LONGEST_WAIT)
        self.faults: str = one_of(WHERE, "faults", faults, POLICIES)
        self.start_us = None if start_us is None else integer(WHERE, "start_us", start_us, 0, LATEST_US)
        none = np.zeros(0, np.uint16)
        nothing = Recording(none.astype(np.int64), none, none, none > 0, self.size)
        self.frames: tuple[int, int] = pooled(WHERE, nothing, frames)[1]
        cells(WHERE, channels * self.frames[0] * self.frames[1] * (wait + 1))
        self.skipped: dict[str, int] = {}
        self._open: dict[int, np.ndarray] = {}
        self._held: dict[int, int] = {}
        self._next = 0  # the first step that was not sent
        self._newest = -1  # the last step of which something is known
        self._said_us = 0
        self._steps = self._run(source)

    def __iter__(self) -> Iterator[LiveStep]:
        return self

    def __next__(self) -> LiveStep:
        return next(self._steps)

    def _run(self, source: Iterable[object]) -> Iterator[LiveStep]:
        for item in source:
            packet = as_packet(WHERE, item)
            known = time.perf_counter() if packet.sent_s is None else packet.sent_s
            yield from self._take(packet, known)
        if self._open:
            yield from self._until(max(self._open) + 1, time.perf_counter())

    def _take(self, packet: Packet, known: float) -> Iterator[LiveStep]:
        events = self._sound(packet)
        if self.start_us is not None:
            events = self._stepped(events, self.start_us)
            step = (events.t - self.start_us) // self.step_us
            cell, (height, width) = pooled(WHERE, events, self.frames)
            plane = height * width
            if self.channels == 2:
                place, one = events.p * plane + cell, np.ones(len(cell), np.int32)
            else:
                place, one = cell, np.where(events.p, np.int32(1), np.int32(-1))
            edges = np.flatnonzero(np.diff(step, prepend=step[:1] - 1, append=step[-1:] + 1))
            for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                number = int(step[first])
                yield from self._until(number - self.wait, known)
                self._add(number, place[first:last], one[first:last])
        if packet.end_us is not None:
            yield from self._said(packet.end_us, known)

    def _add(self, number: int, place: np.ndarray, one: np.ndarray) -> None:
        """Count some events of an open step."""
        self._newest = max(self._newest, number)
        held = self._held.get(number, 0) + len(place)
        if held >= 2**31:
            raise bad_value(WHERE, "a step must hold fewer than 2^31 events", held, "take shorter steps")
        if number not in self._open:
            self._open[number] = np.zeros(self.channels * self.frames[0] * self.frames[1], np.int32)
        self._held[number] = held
        np.add.at(self._open[number], place, one)

    def _said(self, end_us: int, known: float) -> Iterator[LiveStep]:
        """The source says that all before ``end_us`` has come."""
        if end_us < self._said_us:
            must = f"ends of packets must not fall below {self._said_us} us"
            raise bad_value(WHERE, must, end_us, "look at the clock of the source")
        self._said_us = end_us
        if self.start_us is None:
            return
        over = (end_us - self.start_us) // self.step_us
        if over - 1 > self._newest + MOST_STEPS:
            must, todo = _WORDS["ahead"]
            raise bad_value(WHERE, must, f"an end at {end_us} us", todo)
        self._newest = max(self._newest, over - 1)
        yield from self._until(over, known)

    def _until(self, number: int, known: float) -> Iterator[LiveStep]:
        """Send all steps before ``number``."""
        shape = (self.channels, *self.frames)
        while self._next < number:
            at, self._next = self._next, self._next + 1
            counts = self._open.pop(at, None)
            self._held.pop(at, None)
            frame = np.zeros(shape, np.int32) if counts is None else counts.reshape(shape)
            yield LiveStep(at, (self.start_us or 0) + self._next * self.step_us, frame, known)

    def _sound(self, packet: Packet) -> Recording:
        """The events of a packet in order of time, without those that no sensor sends."""
        order = np.argsort(packet.t, kind="stable")
        t, x, y, p = (getattr(packet, name)[order] for name in ("t", "x", "y", "p"))
        height, width = self.size
        keep = self._left("negative", t < 0)
        outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
        keep &= self._left("outside", outside & keep)
        whole = t[keep], x[keep].astype(np.uint16), y[keep].astype(np.uint16), p[keep].astype(bool)
        events = Recording(*whole, size=self.size)
        if self.start_us is None and len(events):
            self.start_us = int(events.t[0])
        return events

    def _stepped(self, events: Recording, start_us: int) -> Recording:
        """Those of steps that are still to be sent."""
        early = events.t < start_us
        if early.any():
            self.skipped = added(self.skipped, {"before": int(early.sum())})
            events = events.keep(~early)
        step = (events.t - start_us) // self.step_us
        events = events.keep(self._left("late", step < self._next))
        step = (events.t - start_us) // self.step_us
        gaps = np.diff(step, prepend=self._newest)
        return events.keep(self._left("ahead", np.cumsum(gaps > MOST_STEPS) > 0))

    def _left(self, name: str, found: np.ndarray) -> np.ndarray:
        """Which events are left when those found are refused or counted."""
        count = int(np.count_nonzero(found))
        if count and self.faults == "error":
            must, todo = _WORDS[name]
            got = f"{count} of {len(found)} events of a packet that are not"
            raise bad_value(WHERE, must, got, f"{todo}, or pass faults='skip'")
        self.skipped = added(self.skipped, {name: count})
        left: np.ndarray = ~found
        return left
