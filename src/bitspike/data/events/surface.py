"""Time surfaces: how long ago every pixel sent its last event."""

from __future__ import annotations

import numpy as np

from bitspike.checks import positive
from bitspike.data.events.recording import Recording
from bitspike.data.events.slices import cells, pooled, steps_of


def time_surface(
    events: Recording,
    T: int,
    tau_us: float,
    by: str = "time",
    *,
    start_us: int | None = None,
    step_us: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Exponential time surface at the end of each step, per polarity.

    The value of a pixel is exp((t_last - t_end) / tau): t_last is the time of its last event in this or an earlier step
    (not before ``start_us``), t_end the end of the step, which is, by count, the time of its last event. A pixel
    without such an event has 0. Steps without events go on decaying; by count, there are none where E >= T.

    Source: Lagorce et al., "HOTS: A Hierarchy of Event-Based Time-Surfaces for Pattern Recognition", TPAMI 39(7), 2017,
    eq. 3; a surface of the whole sensor at a step's end instead of around each event.

    Args:
        events, T, by, start_us, step_us, size: as in `count_frames`. tau_us: > 0.

    Returns:
        float32 ``[T, 2, H', W']`` in [0, 1], OFF and ON.

    Raises:
        TypeError, ValueError: as `count_frames`; a tau that is not positive.

    >>> at = np.zeros(2, np.uint16)
    >>> two = Recording(np.array([0, 10]), at, at, np.array([True, False]), (1, 1))
    >>> time_surface(two, 2, tau_us=10.0, step_us=10).round(3).flatten().tolist()
    [0.0, 0.36800000071525574, 0.36800000071525574, 0.13500000536441803]
    """
    where = "time_surface"
    positive(where, "tau_us", tau_us)
    step, (cell, (height, width)) = steps_of(where, events, T, by, start_us, step_us), pooled(where, events, size)
    place = cell + events.p * (height * width)
    cells(where, T * 2 * height * width)
    last = np.full(2 * height * width, -np.inf)
    out = np.zeros((T, 2 * height * width), np.float32)
    edges = np.searchsorted(step, np.arange(T + 1))  # steps never decrease, as times do not
    for k, end in enumerate(_ends(events, T, edges, by, start_us, step_us)):
        now = slice(edges[k], edges[k + 1])
        last[place[now]] = events.t[now]  # of several events of a pixel the last stays
        out[k] = np.exp((last - end) / tau_us)
    return out.reshape(T, 2, height, width)


def _ends(
    events: Recording, T: int, edges: np.ndarray, by: str, start_us: int | None, step_us: int | None
) -> np.ndarray:
    """When each step ends, float64 ``[T]``."""
    number = np.arange(1, T + 1)
    if step_us is not None:
        return (start_us or 0) + number * float(step_us)
    if not len(events):
        return np.zeros(T)
    if by == "time":
        return events.t[0] + number * ((events.duration_us + 1) / T)
    return events.t[np.maximum(edges[1:] - 1, 0)].astype(np.float64)
