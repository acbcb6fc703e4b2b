"""Frames that count events, by steps of time or of equally many events."""

from __future__ import annotations

import numpy as np

from bitspike.checks import bad_value, one_of
from bitspike.data.events.recording import Recording
from bitspike.data.events.slices import cells, pooled, steps_of


def count_frames(
    events: Recording,
    T: int,
    by: str = "time",
    *,
    start_us: int | None = None,
    step_us: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int = 2,
) -> np.ndarray:
    """Count events per step, polarity and pixel.

    Args:
        events: a recording. T: steps, 1 to 100,000. by, start_us, step_us: as in `steps_of`.
        size: (H', W') of the frames, not larger than the sensor; pixels are added up (`pooled`). None: the sensor's.
        channels: 2: OFF, ON; 1: ON minus OFF.

    Returns:
        int32 ``[T, channels, H', W']``.

    Raises:
        TypeError, ValueError: a number or name that is not allowed, or more than 2^31 numbers.

    >>> at = np.zeros(3, np.uint16)
    >>> three = Recording(np.array([5, 7, 1999]), at, at, np.array([True, True, False]), (1, 1))
    >>> count_frames(three, 2, step_us=1000).flatten().tolist(), count_frames(three, 1, channels=1).flatten().tolist()
    ([0, 2, 1, 0], [1])
    """
    where = "count_frames"
    one_of(where, "channels", channels, (1, 2))
    step, (cell, (height, width)) = steps_of(where, events, T, by, start_us, step_us), pooled(where, events, size)
    inside = (step >= 0) & (step < T)
    p = events.p
    if not bool(inside.all()):
        step, cell, p = step[inside], cell[inside], p[inside]
    plane = height * width
    total = cells(where, T * channels * plane)
    counts = np.zeros(total, np.int32)
    if channels == 2:
        np.add.at(counts, (step * 2 + p) * plane + cell, np.int32(1))  # int32 to int32: numpy's fast way
    else:
        np.add.at(counts, step * plane + cell, np.where(p, np.int32(1), np.int32(-1)))
    return counts.reshape(T, channels, height, width)


def smallest(frames: np.ndarray) -> np.ndarray:
    """Integers as uint8, int16 or int32, the first that holds them all.

    >>> smallest(np.array([0, 255])).dtype, smallest(np.array([-1, 1])).dtype
    (dtype('uint8'), dtype('int16'))
    """
    low, high = (int(frames.min()), int(frames.max())) if frames.size else (0, 0)
    for kind in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return frames.astype(kind, copy=False)
    raise bad_value("smallest", "counts must fit into 32 bits", f"{low} to {high}", "take more steps")
