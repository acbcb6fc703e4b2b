"""Recordings as plain columns of times, pixels and polarities: npz archives, HDF5 files, CSV tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice

import numpy as np

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.data.events.hdf5 import member, open_hdf5
from bitspike.data.events.raw import AGAIN, opened
from bitspike.data.events.recording import Recording, recording
from bitspike.data.events.units import UNITS, micro
from bitspike.data.npz import read_npz
from bitspike.data.optional import need

COLUMNS = ("t", "x", "y", "p")
CHUNK_LINES = 1 << 16


def read_npz_events(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    faults: str = "error",
    *,
    names: Sequence[str] = COLUMNS,
    unit: str = "us",
) -> Recording:
    """Read one recording from an npz archive of four arrays ``[E]``; nothing is unpickled.

    Args:
        path: the file. size: (H, W) of the sensor. faults: as in `recording`.
        names: of the members with times, columns, rows and polarities (bool, 0 and 1, or -1 and 1).
        unit: of the times: "ns", "us", "ms" or "s"; what is no whole microsecond is rounded to the nearest.

    Raises:
        ValueError: a missing or damaged file, a lacking member, arrays of other kinds, or a fault.
    """
    where = f"read_npz_events {os.fspath(path)}"
    wanted = _names(where, names, unit)
    held = read_npz(path, wanted)
    return _made(where, [held[name] for name in wanted], size, faults, unit)


def read_hdf5_events(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    faults: str = "error",
    *,
    names: Sequence[str] = ("events/t", "events/x", "events/y", "events/p"),
    unit: str = "us",
) -> Recording:
    """Read one recording from four data sets of an HDF5 file; arguments as in `read_npz_events`.

    Raises:
        ImportError: h5py is not installed (``bitspike[events]``). ValueError: as `read_npz_events`.
    """
    where = f"read_hdf5_events {os.fspath(path)}"
    wanted = _names(where, names, unit)
    with open_hdf5(where, need(where, "h5py", "h5py", "events"), path) as file:
        columns = [np.asarray(member(where, file, name)[()]) for name in wanted]
    return _made(where, columns, size, faults, unit)


def read_csv_events(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    faults: str = "error",
    *,
    names: Sequence[str] | None = COLUMNS,
    unit: str = "us",
    separator: str = ",",
) -> Recording:
    """Read one recording from a table of text, some thousand lines at a time; others arguments as in `read_npz_events`.

    Args:
        names: of the columns with times, columns, rows and polarities, looked up in the first line; None: the table has
            no first line of names, and four columns in the order t, x, y, p.
        separator: between cells, one character; " " stands for any blank space.

    Raises:
        ValueError: no such file, a lacking column, a line that does not fit, or a fault.
    """
    where = f"read_csv_events {os.fspath(path)}"
    wanted = _names(where, COLUMNS if names is None else names, unit)
    if not isinstance(separator, str) or len(separator) != 1:
        raise bad_type(where, "separator must be one character", repr(separator), "pass e.g. ','")
    cut = None if separator == " " else separator
    with opened(where, path), open(path, encoding="utf-8", errors="replace") as file:
        first = [cell.strip() for cell in next(file, "").split(cut)] if names is not None else list(COLUMNS)
        if not set(wanted) <= set(first):
            must = f"the first line must name {', '.join(wanted)}"
            raise bad_value(where, must, repr(first[:10]), "pass the names of the columns")
        twice = [name for name in wanted if first.count(name) > 1]
        if twice:
            must = f"the first line must name {twice[0]!r} once"
            raise bad_value(where, must, repr(first[:10]), "rename the other columns")
        number = 1 if names is None else 2
        whole = unit == "us"
        kinds = [int if whole else float, int, int, int]
        place = [first.index(name) for name in wanted]
        columns: list[list[np.ndarray]] = [[np.zeros(0, np.int64 if kind is int else np.float64)] for kind in kinds]
        while lines := list(islice(file, CHUNK_LINES)):
            rows = [line.split(cut) for line in lines if line.strip()]
            if any("_" in line for line in lines):  # Python would read 1_0 as 10
                raise bad_value(where, "numbers must be written without _", "one with _", AGAIN)
            if any(len(row) != len(first) for row in rows):
                bad = next(k for k, line in enumerate(lines) if line.strip() and len(line.split(cut)) != len(first))
                must = f"line {number + bad} must have {len(first)} cells"
                raise bad_value(where, must, repr(lines[bad][:80]), AGAIN)
            for column, kind, cell in zip(columns, kinds, place, strict=True):
                try:
                    column.append(np.array([kind(row[cell]) for row in rows], np.int64 if kind is int else np.float64))
                except (ValueError, OverflowError) as error:
                    must = f"cells of {first[cell]!r} in lines {number} to {number + len(lines) - 1} must be "
                    must += "whole numbers of 64 bits" if kind is int else "numbers"
                    raise bad_value(where, must, error, "pass the unit of the times, or correct them") from error
            number += len(lines)
    return _made(where, [np.concatenate(column) for column in columns], size, faults, unit)


def _names(where: str, names: Sequence[str], unit: str) -> list[str]:
    """Four different names, and a known unit."""
    one_of(where, "unit", unit, tuple(UNITS))
    if isinstance(names, str) or len(set(names)) != 4 or len(names) != 4:
        raise bad_value(where, "names must be four: of t, x, y and p", repr(names), "name every column")
    return list(names)


def _made(where: str, columns: Sequence[np.ndarray], size: tuple[int, int], faults: str, unit: str) -> Recording:
    """A recording of four columns; OFF may be -1 where it is never 0."""
    t, x, y, p = columns
    if t.dtype.kind not in "iuf":
        raise bad_type(where, "times must be numbers", t.dtype, "convert them")
    if t.dtype.kind == "f" and unit == "us" and not bool(np.all(t == np.rint(t))):
        raise bad_value(where, "times must be whole microseconds", "fractions", "pass the unit of the times")
    if p.dtype.kind in "if" and len(p) and bool(np.isin(p, (-1, 1)).all()):
        p = p > 0
    if any(values.dtype.kind == "f" for values in (x, y)):
        raise bad_type(where, "columns and rows must be integers", f"{x.dtype} and {y.dtype}", "convert them")
    return recording(where, micro(where, t, unit), x, y, p, size, faults)
