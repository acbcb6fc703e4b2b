"""One recording of an event camera, and the one place where faults of a file are refused, or left out and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bitspike.checks import bad_type, bad_value, integer, one_of

POLICIES = ("error", "skip")
"""What is done about a fault: it raises, or what is faulty is left out and counted in `Recording.skipped`."""

FORMS: dict[str, type[np.generic]] = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.bool_}
LARGEST_SIDE = 2**14


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """Events of one sensor in order of time.

    Args:
        t: microseconds, int64 ``[E]``, >= 0, never decreasing. x, y: column and row, uint16 ``[E]``, inside the sensor.
        p: polarity, bool ``[E]``, True for ON. size: (H, W) of the sensor, 1 to 16,384 each.
        skipped: fault or filter → how many events it cost, empty where all of a file is there.

    Raises:
        TypeError: an array of another dtype, or a size that is no pair.
        ValueError: other lengths, pixels outside the sensor, times below 0 or out of order.

    >>> Recording(np.array([5, 9]), *np.zeros((2, 2), np.uint16), np.array([True, False]), (1, 1))
    Recording(2 events, 1x1, 5 to 9 us)
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    size: tuple[int, int]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sensor("Recording", self.size)
        for name, dtype in FORMS.items():
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype != dtype:
                got = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
                must = f"{name} must be an array of {np.dtype(dtype).name}"
                raise bad_type("Recording", must, got, "convert it, or call `recording`")
            if values.ndim != 1 or len(values) != len(self.t):
                must = "t, x, y and p must have one axis of one length"
                raise bad_value("Recording", must, f"{name} {list(values.shape)}", "pass one value an event")
        for name, found in _faulty(self.t, self.x, self.y, self.size, None).items():
            if found.any():
                must, todo = _WORDS[name]
                raise bad_value("Recording", must, f"event {int(found.argmax())} that is not", todo)

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        times = f", {self.t[0]} to {self.t[-1]} us" if len(self) else ""
        lost = f", skipped {dict(self.skipped)}" if self.skipped else ""
        return f"Recording({len(self)} events, {self.size[0]}x{self.size[1]}{times}{lost})"

    @property
    def duration_us(self) -> int:
        """Time from the first to the last event; 0 of fewer than two."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    def keep(self, which: np.ndarray, why: str | None = None) -> Recording:
        """The events named by a mask or by rising indices; those lost are added to `skipped` under ``why``, if given.

        >>> at = np.zeros(3, np.uint16)
        >>> three = Recording(np.arange(3), at, at, at > 0, (1, 1))
        >>> three.keep(three.t > 0, "early").skipped
        {'early': 1}
        """
        kept = {name: getattr(self, name)[which] for name in FORMS}
        lost = len(self) - len(kept["t"])
        skipped = added(self.skipped, {why: lost}) if why is not None else dict(self.skipped)
        return replace(self, **kept, skipped=skipped)

    def between(self, start_us: int, end_us: int) -> Recording:
        """Events of [start, end), their times counted from ``start_us``; `skipped` stays with the whole recording.

        Raises:
            ValueError: an end before the start.
        """
        integer("Recording.between", "start_us", start_us, 0, 2**62)
        integer("Recording.between", "end_us", end_us, start_us, 2**62)
        first, last = np.searchsorted(self.t, [start_us, end_us])
        part = {name: getattr(self, name)[first:last] for name in FORMS}
        return replace(self, **{**part, "t": part["t"] - start_us}, skipped={})


def recording(
    where: str,
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    size: tuple[int, int],
    faults: str = "error",
    *,
    wraps: int | None = None,
    skipped: Mapping[str, int] | None = None,
) -> Recording:
    """Make a recording of what a file holds, in integers of any kind.

    Faults, in the order in which they are looked for; each is an error, or with ``faults="skip"`` what is faulty is
    left out and counted under its name:

    - "negative": a time below 0.
    - "outside": a pixel that the sensor has not.
    - "wrapped": times fall by more than half of ``wraps``, the range of the file's counter: all events from there on.
    - "unordered": an event that is earlier than one before it.
    - "empty": no event is left; the count is 1.

    Args:
        where: for messages. t, x, y: integers ``[E]``. p: bool or integers 0 and 1 ``[E]``. size: (H, W) of the sensor.
        faults: "error" or "skip". wraps: range of the counter of times in microseconds; None: it has no end.
        skipped: what the reader has left out before.

    Raises:
        TypeError: arrays of another kind. ValueError: a polarity that is neither 0 nor 1, other lengths, or a fault.

    >>> at = np.zeros(3, np.int64)
    >>> recording("toy", np.array([3, 1, 4]), at, at, at, (1, 1), "skip")
    Recording(2 events, 1x1, 3 to 4 us, skipped {'unordered': 1})
    """
    one_of(where, "faults", faults, POLICIES)
    sensor(where, size)
    arrays = {"t": np.asarray(t), "x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
    alike(where, arrays)
    arrays["t"] = int64(where, arrays["t"])
    lost: dict[str, int] = dict(skipped or {})
    for name, find in _CHECKS.items():
        found = find(arrays["t"], arrays["x"], arrays["y"], size, wraps)
        count = int(np.count_nonzero(found))
        if not count:
            continue
        if faults == "error":
            must, todo = _WORDS[name]
            got = f"{count} of {len(found)} that are not, the first is event {int(found.argmax())}"
            raise bad_value(where, must, got, f"{todo}, or pass faults='skip'")
        lost = added(lost, {name: count})
        arrays = {key: values[~found] for key, values in arrays.items()}
    if not len(arrays["t"]):
        if faults == "error":
            got = f"none ({', '.join(f'{n} {name}' for name, n in lost.items()) or 'an empty file'})"
            raise bad_value(where, "a recording must hold at least one event", got, "drop it, or pass faults='skip'")
        lost = added(lost, {"empty": 1})
    made: dict[str, np.ndarray] = {name: arrays[name].astype(dtype, copy=False) for name, dtype in FORMS.items()}
    return Recording(**made, size=size, skipped=lost)


def sensor(where: str, size: object) -> tuple[int, int]:
    """Return ``size`` if it is (H, W), else raise."""
    if not isinstance(size, tuple) or len(size) != 2:
        raise bad_type(where, "size must be (H, W)", repr(size), "pass e.g. (34, 34)")
    height, width = (integer(where, "a side of the sensor", side, 1, LARGEST_SIDE) for side in size)
    return height, width


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Sums of counts by name, without those that are 0.

    >>> added({"outside": 1}, {"outside": 2, "empty": 0})
    {'outside': 3}
    """
    sums = {name: one.get(name, 0) + other.get(name, 0) for name in [*one, *other]}
    return {name: count for name, count in sums.items() if count}


def unwrap(t: np.ndarray, wraps: int) -> np.ndarray:
    """Times of a counter that begins again at 0: ``wraps`` is added wherever they fall by more than half of it.

    Where they rise by more than half afterwards, an event has come late, from before the new beginning.

    >>> unwrap(np.array([6, 7, 0, 7, 1]), 8)
    array([6, 7, 8, 7, 9])
    """
    t = np.asarray(t, dtype=np.int64)
    moved = np.diff(t, prepend=t[:1])
    begun = np.cumsum(moved < -(wraps // 2))
    late = np.cumsum((moved > wraps // 2) & (begun > 0))
    return t + (begun - late) * wraps


def int64(where: str, t: np.ndarray) -> np.ndarray:
    """Times as int64, unless they do not fit."""
    if t.dtype.kind == "u" and t.dtype.itemsize == 8 and len(t) and int(t.max()) >= 2**63:
        raise bad_value(where, "times must be below 2^63 us", int(t.max()), "count from the begin of the recording")
    return t.astype(np.int64, copy=False)


def alike(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise unless all are integers of one axis and one length, and the polarities are 0 and 1."""
    shapes = ", ".join(f"{name} {values.dtype} {list(values.shape)}" for name, values in arrays.items())
    if any(values.dtype.kind not in ("iub" if name == "p" else "iu") for name, values in arrays.items()):
        raise bad_type(where, "t, x and y must be integers, p integers or bool", shapes, "convert them")
    if any(values.shape != (len(arrays["t"]),) for values in arrays.values()):
        raise bad_value(where, "t, x, y and p must have one axis of one length", shapes, "pass one value an event")
    p = arrays["p"]
    if p.dtype.kind != "b" and len(p) and not np.isin(p, (0, 1)).all():
        got = f"{int(p.min())} to {int(p.max())}"
        raise bad_value(where, "p must be 0 (OFF) or 1 (ON)", got, "write p > 0 where OFF is -1")


Find = Callable[[np.ndarray, np.ndarray, np.ndarray, "tuple[int, int]", "int | None"], np.ndarray]


def _negative(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], wraps: int | None) -> np.ndarray:
    return t < 0


def _outside(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], wraps: int | None) -> np.ndarray:
    return (x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0])


def _wrapped(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], wraps: int | None) -> np.ndarray:
    if wraps is None:
        return np.zeros(len(t), dtype=bool)
    return np.cumsum(np.diff(t, prepend=t[:1]) < -(wraps // 2)) > 0


def _unordered(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], wraps: int | None) -> np.ndarray:
    return t < np.maximum.accumulate(t) if len(t) else np.zeros(0, dtype=bool)


_CHECKS: dict[str, Find] = {
    "negative": _negative,
    "outside": _outside,
    "wrapped": _wrapped,
    "unordered": _unordered,
}
_WORDS = {
    "negative": ("times must be >= 0", "count from the begin of the recording"),
    "outside": ("pixels must lie in the sensor", "pass the size of the sensor"),
    "wrapped": ("times must not begin again", "unwrap them"),
    "unordered": ("times must not decrease", "sort the events"),
}


def _faulty(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], wraps: int | None
) -> dict[str, np.ndarray]:
    return {name: find(t, x, y, size, wraps) for name, find in _CHECKS.items()}
