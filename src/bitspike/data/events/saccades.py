"""The 40-bit events of N-MNIST and N-Caltech101."""

from __future__ import annotations

import os

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.events.raw import opened, whole
from bitspike.data.events.recording import Recording, recording, sensor

OVERFLOW_ROW = 240
OVERFLOW_US = 2**13
RANGE_US = 2**23


def read_bin(path: str | os.PathLike[str], size: tuple[int, int] = (34, 34), faults: str = "error") -> Recording:
    """Read one ``.bin`` file of N-MNIST or N-Caltech101.

    An event is 5 bytes: column, row, then from the most significant bit on the polarity (1 for ON) and 23 bits of
    microseconds. Row 240 marks no event: from there on 2^13 us are added to all times.

    Source: Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
    Frontiers in Neuroscience 9:437, 2015, and the authors' own reader.

    Args:
        path: the file. size: (H, W) of the sensor, H at most 240: (34, 34) of N-MNIST, (180, 240) of N-Caltech101.
        faults: "error", or "skip" as in `recording`; "truncated" is a last event that is not whole.

    Raises:
        ValueError: no such file, or a fault.
    """
    where = f"read_bin {os.fspath(path)}"
    if sensor(where, size)[0] > OVERFLOW_ROW:
        raise bad_value(where, f"the sensor must have at most {OVERFLOW_ROW} rows", size[0], "pass the true size")
    with opened(where, path) as file:
        data = file.read()
    skipped = whole(where, len(data), 5, faults)
    rows = np.frombuffer(data, np.uint8, len(data) // 5 * 5).reshape(-1, 5)
    third, fourth, fifth = (rows[:, k].astype(np.int64) for k in (2, 3, 4))
    mark = rows[:, 1] == OVERFLOW_ROW
    t = ((third & 127) << 16 | fourth << 8 | fifth) + np.cumsum(mark) * OVERFLOW_US
    x, y, p = rows[:, 0], rows[:, 1], third >> 7
    at = ~mark
    return recording(where, t[at], x[at], y[at], p[at], size, faults, wraps=RANGE_US, skipped=skipped)
