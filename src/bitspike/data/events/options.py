"""What all sets of recordings are asked: which frames, which faults, what is kept on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value, integer, message, one_of
from bitspike.data.events.cache import cached
from bitspike.data.events.frames import count_frames, smallest
from bitspike.data.events.recording import POLICIES, Recording, added
from bitspike.data.events.slices import BY, MOST_STEPS

NAMES = ("T", "by", "step_us", "size", "faults", "cache")
"""Options of every set of recordings, for its `Entry`."""


@dataclass(frozen=True)
class FrameOptions:
    """Frames as `count_frames` makes them.

    Args:
        T: steps. by, step_us: as in `steps_of`; steps of one duration begin at the first event of each recording.
        size: side of the frames in pixels (channels of a sound); None: those of the sensor.
        faults: "error", or "skip": as in `recording`; recordings without events are then dropped, and what is skipped
            is said in a warning.
        cache: folder in which frames are kept, under a key of options and contents of the files; only without "skip".
    """

    T: int = 10
    by: str = "time"
    step_us: int | None = None
    size: int | None = None
    faults: str = "error"
    cache: str | os.PathLike[str] | None = None

    def checked(self, where: str, largest: int) -> FrameOptions:
        """These options, if all are allowed for a sensor of ``largest`` pixels a side."""
        integer(where, "T", self.T, 1, MOST_STEPS)
        one_of(where, "by", self.by, BY)
        one_of(where, "faults", self.faults, POLICIES)
        if self.step_us is not None:
            integer(where, "step_us", self.step_us, 1, 10**9)
            if self.by == "count":
                raise bad_value(where, "step_us must be left out by count", self.step_us, "drop it, or set by='time'")
        if self.size is not None:
            integer(where, "size", self.size, 1, largest)
        if self.cache is not None and self.faults == "skip":
            must = "cache must be left out where faults are skipped, so that they are said every time"
            raise bad_value(where, must, repr(os.fspath(self.cache)), "drop it, or set faults='error'")
        return self

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H', W') of the frames of a sensor; of one row, one row."""
        if self.size is None:
            return size
        return (1 if size[0] == 1 else self.size, self.size)


Named = Iterable[tuple[Recording, int]]
"""Recordings and their labels, one after the other."""


def frames_of(
    where: str,
    options: FrameOptions,
    files: Iterable[Path],
    read: Callable[[], Named],
    size: tuple[int, int],
    channels: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """(frames ``[N, T, channels, H', W']`` in the smallest integers, labels int64 ``[N]``).

    Recordings are read and framed one at a time, so that only one is in memory beside the frames.

    Args:
        where: for messages. options: checked ones. files: all that ``read`` opens.
        read: recordings and labels in order.
        size: (H, W) of the sensor. channels: as in `count_frames`.

    Raises:
        ValueError: no recording at all, or what a reader refuses.
    """
    shape, files = options.shape(size), list(files)

    def make() -> np.ndarray:
        parts, labels, skipped, dropped = [], [], dict[str, int](), 0
        for events, label in read():
            skipped = added(skipped, events.skipped)
            if not len(events):
                dropped += 1
                continue
            start = int(events.t[0]) if options.step_us else None
            made = count_frames(
                events, options.T, options.by, start_us=start, step_us=options.step_us, size=shape, channels=channels
            )
            parts.append(smallest(made))
            labels.append(label)
        if not parts:
            raise bad_value(where, "there must be a recording with events", "none", "pass the right folder")
        faults = {name: n for name, n in skipped.items() if name not in ("other", "invalid", "empty")}
        if faults or dropped:
            counts = [f"{n} {name}" for name, n in faults.items()]
            got = f"{', '.join(counts) or 'no'} events and {dropped} empty recordings that are left out"
            text = message(where, "recordings should be sound", got, "see Recording.skipped")
            warnings.warn(text, UserWarning, stacklevel=2)
        kind = np.result_type(*{part.dtype for part in parts})
        # labels ride along as frames of their own, so that one array is kept
        packed = np.empty((len(parts), parts[0].size + 4), kind)
        for row, part, label in zip(packed, parts, labels, strict=True):
            row[:4] = [label >> shift & 0x7F for shift in (0, 7, 14, 21)]
            row[4:] = part.reshape(-1)
        return packed

    settings = {key: value for key, value in asdict(options).items() if key != "cache"}
    folder = None if options.cache is None else Path(options.cache)
    settings |= {"set": where, "channels": channels, "sensor": list(size)}
    settings["names"] = [f"{path.parent.name}/{path.name}" for path in files]  # labels may stand in them
    packed = cached(folder, settings, files, make)
    labels = sum(packed[:, k].astype(np.int64) << 7 * k for k in range(4))
    frames = packed[:, 4:].reshape(len(packed), options.T, channels, *shape)
    return np.ascontiguousarray(frames), np.asarray(labels)
