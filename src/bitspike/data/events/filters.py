"""Filters of noise: pixels that never rest, and events without another one near by."""

from __future__ import annotations

import numpy as np

from bitspike.checks import integer, positive
from bitspike.data.events.recording import Recording

NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right)


def drop_hot_pixels(events: Recording, rate_hz: float) -> Recording:
    """Leave out every event of a pixel that sends more than ``rate_hz`` events a second over the whole recording.

    A pixel is hot where its events are more than ``rate_hz · (t_last − t_first) / 10^6``, and more than one.

    Args:
        events: a recording. rate_hz: greatest rate of a pixel that is kept, > 0, both polarities together.

    Returns:
        What is left; ``skipped["hot pixel"]`` counts the rest.

    Raises:
        ValueError: a rate that is not positive.

    >>> t, at = np.array([0, 100, 200, 300, 1000]), np.array([0, 0, 0, 0, 1], np.uint16)
    >>> drop_hot_pixels(Recording(t, at, at, at > 0, (2, 2)), rate_hz=3000)
    Recording(1 events, 2x2, 1000 to 1000 us, skipped {'hot pixel': 4})
    """
    positive("drop_hot_pixels", "rate_hz", rate_hz)
    pixel = events.y.astype(np.int64) * events.size[1] + events.x
    _, inverse, counts = np.unique(pixel, return_inverse=True, return_counts=True)
    hot = (counts > 1) & (counts > rate_hz * events.duration_us / 1e6)
    return events.keep(~hot[inverse], "hot pixel")


def denoise(events: Recording, window_us: int) -> Recording:
    """Background activity filter: keep an event where one of its 8 neighbours sent another shortly before.

    An event at time t stays if an earlier event of the recording (of either polarity, kept or not) lies at most one
    column and one row away, not on the same pixel, and at a time >= t - ``window_us``. "Earlier" is the order of the
    recording, so of two simultaneous neighbours the second stays. What lies outside the sensor sends nothing.

    Source: T. Delbruck, "Frame-free dynamic digital vision", Symposium on Secure-Life Electronics 2008.
    Differs: the support is looked up event by event and exact; the original keeps one time stamp a pixel, written by
    the neighbours, which is the same.

    Args:
        events: a recording. window_us: 1 to 10^9.

    Returns:
        What is left; ``skipped["noise"]`` counts the rest.

    Raises:
        TypeError, ValueError: a window of another kind or size.

    >>> t, x = np.array([0, 5, 50]), np.array([0, 1, 0], np.uint16)
    >>> denoise(Recording(t, x, x * 0, x > 0, (1, 2)), window_us=10)
    Recording(1 events, 1x2, 5 to 5 us, skipped {'noise': 2})
    """
    integer("denoise", "window_us", window_us, 1, 10**9)
    count = len(events)
    wide = events.size[1] + 2  # a border, so that no neighbour of one row lies in the next
    pixel = (events.y.astype(np.int64) + 1) * wide + events.x + 1
    order = np.argsort(pixel, kind="stable")  # by pixel, within it by time
    keys = pixel[order] * count + order
    kept = np.zeros(count, dtype=bool)
    number = np.arange(count)
    for down, right in NEIGHBOURS:
        todo = number[~kept]
        other = pixel[todo] + down * wide + right
        last = np.searchsorted(keys, other * count + todo) - 1  # the last event of that pixel before this one
        before = order[last.clip(0)]
        supports = (last >= 0) & (pixel[before] == other) & (events.t[before] >= events.t[todo] - window_us)
        kept[todo[supports]] = True
    return events.keep(kept, "noise")
