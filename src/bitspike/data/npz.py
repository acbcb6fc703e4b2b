"""Strict reader of npz archives: numeric members only, nothing unpickled, nothing allocated on a header's word."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bitspike.checks import bad_value

CHUNK_BYTES = 1 << 20
MEMBER_BYTES = 1 << 32
"""No member may promise more: a small archive can hold a very long one."""

AGAIN = "copy the file again from its source"


def read_npz(path: str | os.PathLike[str], members: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the named members of an npz archive; others are not looked at.

    Args:
        path: the file.
        members: names without ``.npy``.

    Returns:
        name → array of booleans, integers or floats, writable.

    Raises:
        ValueError: a missing or damaged file, a lacking member, or one of another kind (objects are pickles).

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez(file, labels=np.arange(3))
    ...     _ = file.seek(0)
    ...     read_npz(file.name, ["labels"])["labels"].tolist()
    [0, 1, 2]
    """
    where = f"read_npz {os.fspath(path)}"
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _member(where, archive, name) for name in members}
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise bad_value(where, "the archive must be sound", str(error) or type(error).__name__, AGAIN) from error
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error


def _member(where: str, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read one member, whose bytes must be as many as its header says."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        held = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:10]) or "none"
        raise bad_value(where, f"the archive must hold {name!r}", held, "pass the right file") from error
    with archive.open(entry) as stream:
        return _array(where, name, stream, entry.file_size)


def _array(where: str, name: str, stream: IO[bytes], size: int) -> np.ndarray:
    """The array of an npy stream of so many bytes."""
    shape, fortran, dtype = _header(f"{where} ({name})", stream)
    wanted = prod(shape) * dtype.itemsize
    promised = size - stream.tell()
    if wanted != promised or wanted > MEMBER_BYTES:
        must = f"{name} must hold the {wanted} bytes of {dtype} {list(shape)}, {MEMBER_BYTES} at most"
        raise bad_value(where, must, f"{promised} bytes", AGAIN)
    payload = bytearray()
    while len(payload) < wanted and (chunk := stream.read(min(CHUNK_BYTES, wanted - len(payload)))):
        payload += chunk
    if len(payload) != wanted or stream.read(1):
        raise bad_value(where, f"{name} must hold {wanted} bytes", len(payload), AGAIN)
    return np.frombuffer(payload, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def read_folder(path: str | os.PathLike[str], members: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the named members of a folder, each a file NAME.npy, as strictly as those of an archive.

    Args:
        path: the folder. members: names without ``.npy``.

    Raises:
        ValueError: as `read_npz`.
    """
    found = {}
    for name in members:
        where, file = f"read_folder {os.fspath(path)}", Path(path) / f"{name}.npy"
        try:
            with file.open("rb") as stream:
                found[name] = _array(where, name, stream, file.stat().st_size)
        except FileNotFoundError as error:
            held = ", ".join(sorted(entry.name for entry in Path(path).glob("*.npy"))[:10]) or "none"
            raise bad_value(where, f"the folder must hold {name}.npy", held, "pass the right folder") from error
        except OSError as error:
            raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error
    return found


def _header(where: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the order is Fortran's, dtype) of an npy file, for the two formats that numpy writes."""
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError) as error:
        raise bad_value(where, "the member must be an npy file of format 1 or 2", error, AGAIN) from error
    if dtype.kind not in "biuf" or not all(size >= 0 for size in shape):
        must = "the member must be an array of booleans, integers or floats"
        raise bad_value(where, must, f"{dtype} {list(shape)}", "pass a file without pickled objects")
    return shape, fortran, dtype
