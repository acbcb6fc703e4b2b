"""A recording from a file of any known form, by the end of its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bitspike.checks import bad_value, one_of
from bitspike.data.events.aedat2 import read_aedat2
from bitspike.data.events.aedat3 import read_aedat3
from bitspike.data.events.aedat4 import read_aedat4
from bitspike.data.events.generic import read_csv_events, read_hdf5_events, read_npz_events
from bitspike.data.events.raw import opened
from bitspike.data.events.recording import Recording
from bitspike.data.events.saccades import read_bin

PLAIN: dict[str, Callable[..., Recording]] = {
    ".npz": read_npz_events,
    ".csv": read_csv_events,
    ".h5": read_hdf5_events,
    ".hdf5": read_hdf5_events,
}
SUFFIXES = (".bin", ".aedat", ".aedat4", *PLAIN)


def read_events(path: str | os.PathLike[str], size: tuple[int, int] | None = None, faults: str = "error") -> Recording:
    """Read a recording with the reader of its form, which the end of the name says (of ``.aedat`` the first line, too).

    Args:
        path: a file that ends in .bin, .aedat, .aedat4, .npz, .csv, .h5 or .hdf5.
        size: (H, W) of the sensor; None: what the file says, (34, 34) of .bin and (128, 128) of AEDAT 3.1; plain
            columns (.npz, .csv, .h5, .hdf5) need it. faults: as in `recording`.

    Raises:
        ValueError: another ending, a size that is missing, or what the reader refuses. ImportError: as the reader.

    >>> read_events("film.mp4")
    Traceback (most recent call last):
        ...
    ValueError: read_events film.mp4: the end of the name must be one of '.bin', '.aedat', '.aedat4', '.npz', '.csv',
    '.h5', '.hdf5', got '.mp4'; choose one of these.
    """
    where = f"read_events {os.fspath(path)}"
    suffix = one_of(where, "the end of the name", Path(path).suffix.lower(), SUFFIXES)
    if suffix in PLAIN:
        if size is None:
            must = "the size of the sensor must be given for plain columns"
            raise bad_value(where, must, "none", "pass (H, W) of the sensor (bitspike view: --sensor H W)")
        return PLAIN[suffix](path, size, faults)
    if suffix == ".bin":
        return read_bin(path, faults=faults) if size is None else read_bin(path, size, faults)
    if suffix == ".aedat4":
        return read_aedat4(path, size, faults)
    with opened(where, path) as file:
        third = file.read(12) == b"#!AER-DAT3.1"
    if third:
        return read_aedat3(path, faults=faults) if size is None else read_aedat3(path, size, faults)
    return read_aedat2(path, size=size, faults=faults)
