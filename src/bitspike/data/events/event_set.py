"""Recordings of event cameras, and the frames that a network over time reads."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_type, bad_value, integer
from bitspike.data import validate
from bitspike.data.npz import read_npz

WHERE = "load_events"
MEMBERS = ("x", "y", "p_bits", "dt", "offsets", "labels")
_FORMS = {"x": "u1", "y": "u1", "p_bits": "u1", "dt": "u2"}


@dataclass(frozen=True, eq=False)
class EventSet:
    """Events of N recordings, one recording after the other, each in order of time.

    Args:
        x, y: column and row, uint8 [E]. p: polarity, bool [E], True for ON. time_us: since the recording began, int64
            [E]. offsets: of each recording and the end, int64 [N + 1]. labels: int64 [N].
        size: (H, W) of the sensor. classes: number of classes K.

    Raises:
        TypeError: a polarity that is no bool.
        ValueError: other lengths, offsets that do not rise from 0 to E, pixels outside the sensor, or a time below 0.
    """

    x: Tensor
    y: Tensor
    p: Tensor
    time_us: Tensor
    offsets: Tensor
    labels: Tensor
    size: tuple[int, int]
    classes: int

    def __post_init__(self) -> None:
        lengths = [len(member) for member in (self.x, self.y, self.p, self.time_us)]
        if len(set(lengths)) > 1 or len(self.offsets) != len(self.labels) + 1:
            got = f"{lengths}, {len(self.offsets)} and {len(self.labels)}"
            must = "x, y, p and time_us must be [E], offsets [N + 1] and labels [N]"
            raise bad_value("EventSet", must, got, "pass one value an event")
        if self.p.dtype != torch.bool:
            raise bad_type("EventSet", "p must be a torch.bool tensor", self.p.dtype, "write p > 0")
        _rise("EventSet", self.offsets, lengths[0], "correct them")
        if lengths[0]:
            for name, values, side in (("x", self.x, self.size[1]), ("y", self.y, self.size[0])):
                validate.range_of("EventSet", name, values, side - 1, "pass the size of the sensor")
            least = int(self.time_us.min())
            if least < 0:
                raise bad_value("EventSet", "time_us must be >= 0", least, "count from the begin of the recording")

    def __len__(self) -> int:
        return len(self.labels)

    def frames(self, recordings: Iterable[int], T: int = 300, step_us: int = 1000) -> Tensor:
        """Events counted per step, polarity and pixel; later ones than T steps are left out.

        Args:
            recordings: numbers of the B recordings wanted, at least one, in any order.
            T: steps, 1 to 100,000. step_us: duration of a step in microseconds, >= 1.

        Returns:
            uint8 [T, B, 2, H, W], channel 0 OFF and 1 ON: ``.float()`` is the input of a network without encoder.

        Raises:
            TypeError: a number of a recording that is no integer.
            ValueError: a recording that is not there, or more than 255 events of a pixel in one step.

        >>> where = torch.zeros(2, dtype=torch.uint8)
        >>> times, ends = torch.tensor([5, 1999]), torch.tensor([0, 2])
        >>> data = EventSet(where, where, torch.tensor([True, False]), times, ends, torch.tensor([0]), (1, 1), 1)
        >>> data.frames([0], T=2).flatten().tolist()
        [0, 1, 1, 0]
        """
        integer("EventSet.frames", "T", T, 1, 100_000)
        integer("EventSet.frames", "step_us", step_us, 1, 10**9)
        chosen = torch.tensor([operator.index(number) for number in recordings], dtype=torch.int64)
        validate.indices("EventSet.frames", chosen, len(self))
        (height, width), batch = self.size, len(chosen)
        counts = torch.zeros(T * batch * 2 * height * width, dtype=torch.uint8)
        for place, number in enumerate(chosen.tolist()):
            events = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
            step = self.time_us[events] // step_us
            index = (step * batch + place) * 2 + self.p[events]
            index = (index * height + self.y[events]) * width + self.x[events]
            cells, found = torch.unique(index[step < T], return_counts=True)
            if len(found) and int(found.max()) > 255:
                must = f"recording {number} must have at most 255 events of a pixel in a step"
                raise bad_value("EventSet.frames", must, int(found.max()), "take shorter steps")
            counts[cells] = found.to(torch.uint8)
        return counts.reshape(T, batch, 2, height, width)


def load_events(path: str | os.PathLike[str], size: tuple[int, int] = (34, 34), classes: int = 10) -> EventSet:
    """Read recordings from an npz archive, by default the size and classes of N-MNIST.

    Members: ``x``, ``y`` (uint8), ``p_bits`` (uint8: a bit an event, the most significant first, 1 for ON), ``dt``
    (uint16: microseconds since the event before; of a recording's first event, since its begin), ``offsets`` (integers
    [N + 1]) and ``labels`` (integers [N]); others are not read. Nothing is unpickled.

    Source of N-MNIST: Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using
    Saccades", Frontiers in Neuroscience 9:437, 2015.

    Args:
        path: the file. size: (H, W) of the sensor, 1 to 256 each. classes: K; labels are 0 to K - 1.

    Raises:
        ValueError: a missing or damaged file, members of another kind or length, or values out of range.
    """
    height, width = _size(size)
    integer(WHERE, "classes", classes, 1, 2**31)
    where = f"{WHERE} {os.fspath(path)}"
    members = read_npz(path, MEMBERS)
    _check_forms(where, members)
    offsets, labels = (torch.from_numpy(members[name].astype(np.int64)) for name in ("offsets", "labels"))
    count = len(members["x"])
    _rise(where, offsets, count, "copy the file again from its source")
    validate.range_of(where, "labels", labels, classes - 1, "pass the number of classes")
    x, y = (torch.from_numpy(members[name]) for name in ("x", "y"))
    if count:
        validate.range_of(where, "x", x, width - 1, "pass the size of the sensor")
        validate.range_of(where, "y", y, height - 1, "pass the size of the sensor")
    p = torch.from_numpy(np.unpackbits(members["p_bits"], count=count).astype(bool))
    return EventSet(x, y, p, _times(members["dt"], offsets), offsets, labels, (height, width), classes)


def _rise(where: str, offsets: Tensor, count: int, todo: str) -> None:
    """Raise `ValueError` unless offsets rise from 0 to the number of events."""
    edges = offsets.tolist()
    if edges[0] != 0 or edges[-1] != count or any(after < before for before, after in pairwise(edges)):
        must = f"offsets must rise from 0 to {count}, the number of events"
        raise bad_value(where, must, f"{edges[0]} to {edges[-1]}", todo)


def _size(size: object) -> tuple[int, int]:
    if not isinstance(size, tuple) or len(size) != 2:
        raise bad_type(WHERE, "size must be (H, W)", repr(size), "pass e.g. (34, 34)")
    height, width = (integer(WHERE, "a side of the sensor", side, 1, 256) for side in size)
    return height, width


def _check_forms(where: str, members: dict[str, np.ndarray]) -> None:
    """Raise `ValueError` unless the members have the kinds and lengths of `load_events`."""
    x, y, bits, steps, offsets, labels = (members[name] for name in MEMBERS)
    kinds = all(members[name].dtype == np.dtype(form) for name, form in _FORMS.items())
    flat = all(member.ndim == 1 for member in members.values())
    if not flat or not kinds or offsets.dtype.kind not in "iu" or labels.dtype.kind not in "iu":
        got = ", ".join(f"{name} {member.dtype} {list(member.shape)}" for name, member in members.items())
        must = "members must have one axis: x, y, p_bits uint8, dt uint16, offsets and labels integers"
        raise bad_value(where, must, got, "pass a file in this layout")
    if not len(x) == len(y) == len(steps) or len(bits) != (len(x) + 7) // 8:
        got = f"{len(x)}, {len(y)}, {len(steps)} and {len(bits)} bytes of bits"
        raise bad_value(where, "x, y and dt must be of one length, p_bits a bit each", got, "copy the file again")
    if not len(labels) or len(offsets) != len(labels) + 1:
        got = f"{len(offsets)} and {len(labels)}"
        raise bad_value(where, "offsets and labels must be [N + 1] and [N], N >= 1", got, "copy the file again")


def _times(steps: np.ndarray, offsets: Tensor) -> Tensor:
    """Microseconds since the begin of each recording: sums of ``steps`` from its first event on, in int64."""
    total = torch.from_numpy(np.cumsum(steps, dtype=np.int64))
    before = torch.cat([torch.zeros(1, dtype=torch.int64), total])[offsets[:-1]]
    return total - before.repeat_interleave(offsets.diff())
