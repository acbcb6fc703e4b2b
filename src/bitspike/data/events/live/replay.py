"""A recording as a live source."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from bitspike.checks import bad_type, in_range, integer
from bitspike.data.events.live.packets import LATEST_US, Packet
from bitspike.data.events.recording import Recording


def replay(
    events: Recording, speed: float | None = 1.0, packet_us: int = 1000, start_us: int | None = None
) -> Iterator[Packet]:
    """Hand over a recording as a camera would: a packet every ``packet_us``, when it is due.

    Packets say up to when they reach, also those without events. Who takes them too slowly gets them late, with the
    times at which they were due, so that what has piled up counts as latency.

    Args:
        events: a recording. speed: seconds of the recording a second, 1e-3 to 1e6; None: as fast as they are taken.
        packet_us: duration of a packet, 1 to 10^9. start_us: where it begins; None: at the first event. Earlier events
            are left out.

    Raises:
        TypeError, ValueError: at once, a number that is not allowed.

    >>> at = np.zeros(2, np.uint16)
    >>> two = Recording(np.array([5, 2100]), at, at, at > 0, (1, 1))
    >>> [(len(packet), packet.end_us) for packet in replay(two, speed=None)]
    [(1, 1005), (0, 2005), (1, 3005)]
    """
    if not isinstance(events, Recording):
        raise bad_type("replay", "events must be a Recording", type(events).__name__, "read one")
    if speed is not None:
        in_range("replay", "speed", speed, 1e-3, 1e6)
    integer("replay", "packet_us", packet_us, 1, 10**9)
    if start_us is not None:
        integer("replay", "start_us", start_us, 0, LATEST_US)
    return _packets(events, speed, packet_us, start_us)


def _packets(events: Recording, speed: float | None, packet_us: int, start_us: int | None) -> Iterator[Packet]:
    if not len(events):
        return
    start = int(events.t[0]) if start_us is None else start_us
    first, end, begin = int(np.searchsorted(events.t, start)), start, time.perf_counter()
    while first < len(events):
        end += packet_us
        last = int(np.searchsorted(events.t, end))
        due = None
        if speed is not None:
            due = begin + (end - start) / (1e6 * speed)
            time.sleep(max(due - time.perf_counter(), 0.0))
        part = slice(first, last)
        yield Packet(events.t[part], events.x[part], events.y[part], events.p[part], end, due)
        first = last
