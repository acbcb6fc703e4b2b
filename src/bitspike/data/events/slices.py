"""Which of T steps an event belongs to, and which cell of a coarser sensor."""

from __future__ import annotations

import numpy as np

from bitspike.checks import bad_type, bad_value, integer, one_of
from bitspike.data.events.recording import Recording

BY = ("time", "count")
MOST_STEPS = 100_000
MOST_CELLS = 2**31


def steps_of(
    where: str, events: Recording, T: int, by: str = "time", start_us: int | None = None, step_us: int | None = None
) -> np.ndarray:
    """The step of every event, int64 ``[E]``: 0 to T - 1, or others where it belongs to none.

    - by "time" with ``step_us``: ⌊(t - start_us) / step_us⌋; events outside the T steps belong to none.
    - by "time" without: ⌊(t - t_first) · T / (t_last - t_first + 1)⌋, T equal parts of the recording.
    - by "count": ⌊i · T / E⌋ of the i-th of E events, so that steps hold equally many, up to one.

    Args:
        where: for messages. events: a recording. T: 1 to 100,000. by: "time" or "count".
        start_us: where step 0 begins; None: 0. step_us: duration of a step, 1 to 10^9; both by time only.

    Raises:
        TypeError, ValueError: a number or name that is not allowed.

    >>> at = np.zeros(4, np.uint16)
    >>> four = Recording(np.array([0, 1, 2, 9]), at, at, at > 0, (1, 1))
    >>> steps_of("toy", four, 2).tolist(), steps_of("toy", four, 2, "count").tolist()
    ([0, 0, 0, 1], [0, 0, 1, 1])
    """
    integer(where, "T", T, 1, MOST_STEPS)
    one_of(where, "by", by, BY)
    if (by == "count" or step_us is None) and (start_us, step_us) != (None, None):
        got = f"start_us {start_us}, step_us {step_us}"
        raise bad_value(where, "start_us and step_us must be given for steps of one duration only", got, "drop them")
    if by == "count":
        return np.arange(len(events), dtype=np.int64) * T // max(len(events), 1)
    if step_us is None:
        if not len(events):
            return np.zeros(0, np.int64)
        if events.duration_us >= 2**62 // T:
            raise bad_value(where, f"a recording of {T} steps must be shorter", events.duration_us, "cut it")
        return (events.t - events.t[0]) * T // (events.duration_us + 1)
    integer(where, "step_us", step_us, 1, 10**9)
    return (events.t - integer(where, "start_us", 0 if start_us is None else start_us, 0, 2**62)) // step_us


def pooled(where: str, events: Recording, size: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    """The cell of every event, row · W' + column, int64 ``[E]``, in a sensor of (H', W') cells, and (H', W').

    Pixel (y, x) lies in the cell (⌊y · H' / H⌋, ⌊x · W' / W⌋): cells add up the events of the pixels they cover.

    Raises:
        TypeError, ValueError: a size that is no pair, or larger than the sensor, which would leave empty lines.

    >>> x = np.arange(5, dtype=np.uint16)
    >>> pooled("toy", Recording(x.astype(np.int64), x, x * 0, x > 0, (2, 5)), (1, 2))[0].tolist()
    [0, 0, 0, 1, 1]
    """
    height, width = events.size
    if size is None:
        return events.y.astype(np.int64) * width + events.x, events.size
    if not isinstance(size, tuple) or len(size) != 2:
        raise bad_type(where, "size must be (H, W)", repr(size), "pass e.g. (48, 48)")
    rows = integer(where, "the height of frames", size[0], 1, height)
    columns = integer(where, "the width of frames", size[1], 1, width)
    row, column = events.y.astype(np.int64) * rows // height, events.x.astype(np.int64) * columns // width
    return row * columns + column, (rows, columns)


def cells(where: str, count: int) -> int:
    """``count`` of the numbers in all frames, if memory can hold them."""
    if count > MOST_CELLS:
        raise bad_value(where, "frames must hold at most 2^31 numbers", count, "take fewer steps or a smaller size")
    return count
