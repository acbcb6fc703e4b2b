"""What a live source hands over: some events, and up to when there will be no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitspike.checks import bad_type, bad_value, integer
from bitspike.data.events.recording import Recording, alike, int64

LATEST_US = 2**62


@dataclass(frozen=True, eq=False)
class Packet:
    """Events that came together, in any order.

    Args:
        t: microseconds, integers ``[E]``. x, y: column and row, integers ``[E]``. p: polarity, bool or 0 and 1 ``[E]``.
        end_us: the source's word that all events before this time have been sent, so that steps without events end in
            time, too; None: it says nothing, and a step ends with the first event behind it.
        sent_s: when the packet was due, by ``time.perf_counter``; None: when it is taken. Latency counts from there.

    Raises:
        TypeError: arrays of other kinds. ValueError: other lengths, a polarity that is neither 0 nor 1, or a time that
            64 bits do not hold.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    end_us: int | None = None
    sent_s: float | None = None

    def __post_init__(self) -> None:
        arrays = {name: np.asarray(getattr(self, name)) for name in ("t", "x", "y", "p")}
        alike("Packet", arrays)
        arrays["t"] = int64("Packet", arrays["t"])
        for name, values in arrays.items():
            object.__setattr__(self, name, values)
        if self.end_us is not None:
            integer("Packet", "end_us", self.end_us, 0, LATEST_US)

    def __len__(self) -> int:
        return len(self.t)


def as_packet(where: str, item: object) -> Packet:
    """A packet of what a source hands over: a packet, a recording, or (t, x, y, p).

    >>> len(as_packet("toy", ([5], [0], [0], [True])))
    1
    """
    if isinstance(item, Packet):
        return item
    if isinstance(item, Recording):
        return Packet(item.t, item.x, item.y, item.p)
    if not isinstance(item, Sequence) or isinstance(item, (str, bytes)):
        must = "a source must give packets, recordings or (t, x, y, p)"
        raise bad_type(where, must, type(item).__name__, "wrap it in a Packet")
    if len(item) != 4:
        raise bad_value(where, "a packet must be (t, x, y, p)", f"{len(item)} parts", "pass four arrays")
    t, x, y, p = map(np.asarray, item)
    return Packet(t, x, y, p)
