"""What all sets of recordings are asked: which frames, which faults, what is kept on disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value, in_range, integer, message, one_of, positive
from bitspike.data.array_cache import cached
from bitspike.data.events.filters import denoise, drop_hot_pixels
from bitspike.data.events.frames import count_frames, smallest
from bitspike.data.events.recording import POLICIES, Recording, added
from bitspike.data.events.slices import BY, MOST_STEPS
from bitspike.data.events.surface import time_surface
from bitspike.data.events.voxels import voxel_grid

NAMES = ("T", "by", "step_us", "size", "form", "tau_us", "hot_hz", "noise_us", "faults", "cache")
"""Options of every set of recordings, for its `Entry`."""

FORMS = ("counts", "surface", "voxels")
"""What frames hold: `count_frames`, `time_surface` or `voxel_grid`."""

FILTERED = ("hot pixel", "noise")


@dataclass(frozen=True)
class FrameOptions:
    """Frames of recordings, after the filters that are asked for.

    Args:
        T: steps. by, step_us: as in `steps_of`; steps of one duration begin at the first event of each recording.
        size: side of the frames in pixels (channels of a sound); None: those of the sensor.
        form: one of `FORMS`; tau_us: of "surface" alone, where it must be given. "voxels" have no by and no step_us.
        hot_hz: rate above which a pixel is left out (`drop_hot_pixels`). noise_us: window of `denoise`, which comes
            second. None: no such filter.
        faults: "error", or "skip": as in `recording`; recordings without events are then dropped, and what is skipped
            is said in a warning. A recording that a filter leaves nothing of is a fault, too.
        cache: folder in which frames are kept, under a key of options and contents of the files; only without "skip".
    """

    T: int = 10
    by: str = "time"
    step_us: int | None = None
    size: int | None = None
    form: str = "counts"
    tau_us: float | None = None
    hot_hz: float | None = None
    noise_us: int | None = None
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
        one_of(where, "form", self.form, FORMS)
        if self.form == "voxels" and (self.by != "time" or self.step_us is not None):
            must = "by and step_us must be left out where form is 'voxels': its moments span the recording"
            raise bad_value(where, must, f"by {self.by!r}, step_us {self.step_us}", "drop them")
        if (self.form == "surface") != (self.tau_us is not None):
            must = f"tau_us must be {'given' if self.tau_us is None else 'left out'} where form is {self.form!r}"
            raise bad_value(where, must, self.tau_us, "set it to microseconds" if self.tau_us is None else "drop it")
        for name in ("tau_us", "hot_hz"):
            if getattr(self, name) is not None:
                positive(where, name, getattr(self, name))
                in_range(where, name, getattr(self, name), 0, 10**9)
        if self.noise_us is not None:
            integer(where, "noise_us", self.noise_us, 1, 10**9)
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

    def filtered(self, where: str, events: Recording) -> Recording:
        """What the filters leave of a recording; nothing only where faults are skipped."""
        if self.hot_hz is not None:
            events = drop_hot_pixels(events, self.hot_hz)
        if self.noise_us is not None:
            events = denoise(events, self.noise_us)
        if not len(events) and self.faults == "error":
            lost = ", ".join(f"{n} {name}" for name, n in events.skipped.items())
            must, todo = "a recording must have events that the filters leave", "weaken them, or set faults='skip'"
            raise bad_value(where, must, f"none, after {lost or 'no fault'}", todo)
        return events

    def frames(self, events: Recording, shape: tuple[int, int], channels: int) -> np.ndarray:
        """Frames ``[T, channels, H', W']`` of a recording that has events; of one channel, all events are ON."""
        start = int(events.t[0]) if self.step_us else None
        if self.form == "voxels":
            return voxel_grid(events, self.T, size=shape, channels=channels)
        if self.form == "surface" and self.tau_us is not None:
            found = time_surface(events, self.T, self.tau_us, self.by, start_us=start, step_us=self.step_us, size=shape)
            return found[:, 2 - channels :]
        made = count_frames(
            events, self.T, self.by, start_us=start, step_us=self.step_us, size=shape, channels=channels
        )
        return smallest(made)


Named = Iterable[tuple[Recording, int] | tuple[Recording, int, int]]
"""Recordings, their labels and the number >= 0 of who was recorded (-1 or left out: not said), one after the other."""


def frames_of(
    where: str,
    options: FrameOptions,
    files: Iterable[Path],
    read: Callable[[], Named],
    size: tuple[int, int],
    channels: int = 2,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(frames ``[N, T, channels, H', W']``, labels int64 ``[N]``, groups int64 ``[N]`` or None if they are not known).

    Counts come in the smallest integers that hold them, other forms as float32.

    Recordings are read and framed one at a time, so that only one is in memory beside the frames.

    Args:
        where: for messages. options: checked ones. files: all that ``read`` opens.
        read: recordings and labels in order.
        size: (H, W) of the sensor. channels: 2: OFF, ON; 1: of recordings whose events are all ON.

    Raises:
        ValueError: no recording at all, or what a reader refuses.
    """
    shape, files = options.shape(size), list(files)

    def make() -> np.ndarray:
        parts, labels, groups, skipped, dropped = [], [], [], dict[str, int](), 0
        for number, one in enumerate(read()):
            events = options.filtered(f"{where}, recording {number}", one[0])
            skipped = added(skipped, events.skipped)
            if not len(events):
                dropped += 1
                continue
            parts.append(options.frames(events, shape, channels))
            labels.append(one[1])
            groups.append(one[2] + 1 if len(one) == 3 else 0)
        if not parts:
            raise bad_value(where, "there must be a recording with events", "none", "pass the right folder")
        if min(groups) < 0 or max(groups) >= 2**28 or (min(groups) == 0) != (max(groups) == 0):
            wrong = groups.index(max(groups) if max(groups) >= 2**28 else min(groups))
            got = f"{groups[wrong] - 1} of recording {wrong}"
            must = f"who was recorded must be said of all recordings, by numbers in [0, {2**28 - 2}], or of none (-1)"
            raise bad_value(where, must, got, "complete the files")
        faults = {name: n for name, n in skipped.items() if name not in ("other", "invalid", "empty", *FILTERED)}
        if faults or dropped:
            counts = [f"{n} {name}" for name, n in faults.items()]
            got = f"{', '.join(counts) or 'no'} events and {dropped} empty recordings that are left out"
            text = message(where, "recordings should be sound", got, "see Recording.skipped")
            warnings.warn(text, UserWarning, stacklevel=2)
        kind = np.result_type(*{part.dtype for part in parts})
        # labels and groups ride along as frames of their own, so that one array is kept
        packed = np.empty((len(parts), parts[0].size + 8), kind)
        for row, part, *numbers in zip(packed, parts, labels, groups, strict=True):
            row[:8] = [number >> shift & 0x7F for number in numbers for shift in (0, 7, 14, 21)]
            row[8:] = part.reshape(-1)
        return packed

    settings = {key: value for key, value in asdict(options).items() if key != "cache"}
    folder = None if options.cache is None else Path(options.cache)
    settings |= {"set": where, "channels": channels, "sensor": list(size)}
    settings["names"] = [f"{path.parent.name}/{path.name}" for path in files]  # labels may stand in them
    packed = cached(folder, settings, files, make)
    labels, groups = (sum(packed[:, at + k].astype(np.int64) << 7 * k for k in range(4)) for at in (0, 4))
    frames = packed[:, 8:].reshape(len(packed), options.T, channels, *shape)
    known = bool(np.all(np.asarray(groups) > 0))  # of all or of none
    return np.ascontiguousarray(frames), np.asarray(labels), np.asarray(groups) - 1 if known else None
