"""Arrays kept on disk under a key of what they were made of."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value
from bitspike.files import write_bytes_atomic

FORM = "bitspike frames 2"
"""What the arrays of one key are made by: to be raised where a reader or a transformation gives other numbers."""

_DIGEST = 32


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex, read a mebibyte at a time."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def cached(
    folder: Path | None, settings: Mapping[str, object], files: Iterable[Path], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What ``make`` returns, or the same from an earlier call with equal settings and equal files.

    The name of the cached file is the SHA-256 of the settings and of the contents of the files, in order, so that a
    changed file or setting is never answered with old frames. It holds its own SHA-256 and an array without pickles; it
    is written as a whole or not at all, and one that is damaged is made again.

    Args:
        folder: where; made if it is not there. None: nothing is kept. settings: JSON values by name.
        files: what ``make`` reads. make: called where nothing is kept.

    Raises:
        ValueError: a folder that cannot be made.
    """
    if folder is None:
        return make()
    state = hashlib.sha256(json.dumps([FORM, dict(settings)], sort_keys=True).encode())
    for path in files:
        state.update(digest_of(path).encode())
    place = folder / f"{state.hexdigest()}.frames"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_value("cached", f"{folder} must be a folder", error.strerror, "pass another") from error
    found = _read(place)
    if found is None:
        found = make()
        buffer = io.BytesIO()
        np.save(buffer, found, allow_pickle=False)
        data = buffer.getvalue()
        write_bytes_atomic(place, hashlib.sha256(data).digest() + data)
    return found


def _read(path: Path) -> np.ndarray | None:
    """The array of a whole file; else None."""
    try:
        held = path.read_bytes()
    except FileNotFoundError:
        return None
    data = held[_DIGEST:]
    if hashlib.sha256(data).digest() != held[:_DIGEST]:
        return None
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array
