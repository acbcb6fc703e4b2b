"""The three layouts in which CIFAR comes: binary records, npz of residuals, and pickles of Python 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.npz import read_npz
from bitspike.data.restricted_pickle import StoredArray, load_restricted

Part = tuple[np.ndarray, np.ndarray]
"""(images uint8 ``[N, 3, 32, 32]``, labels int64 ``[N]``)."""

IMAGE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
COARSE = 20
AGAIN = "copy the file again from its source"


def read_binary(path: Path, coarse: bool) -> Part:
    """Read records of label bytes and then 3072 pixel bytes, red, green and blue planes one after the other.

    Args:
        path: the file.
        coarse: whether a coarse label stands before the label proper, as in CIFAR-100.

    Raises:
        ValueError: a size that is no whole number of records, or a coarse label that CIFAR-100 does not have.
    """
    where, marks = f"read_binary {path}", 2 if coarse else 1
    size = path.stat().st_size
    if not size or size % (marks + IMAGE_BYTES):
        must = f"the file must hold records of {marks} + {IMAGE_BYTES} bytes"
        raise bad_value(where, must, f"{size} bytes", AGAIN)
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, marks + IMAGE_BYTES)
    if coarse:
        _check_coarse(where, records[:, 0])
    return records[:, marks:].reshape(-1, *IMAGE), records[:, marks - 1].astype(np.int64)


def read_residuals(path: Path, coarse: bool = False) -> Part:
    """Read an npz with ``residuals`` (uint8 ``[3, N, 32, 32]``) and ``labels`` (uint8 ``[N]``).

    Plane 0 is green, planes 1 and 2 are red and blue minus green, each stored as second differences; all modulo 256.

    Raises:
        ValueError: a damaged archive, or members of another shape or dtype.
    """
    where, members = f"read_residuals {path}", read_npz(path, ("residuals", "labels"))
    residuals, labels = members["residuals"], members["labels"]
    count = len(labels) if labels.ndim == 1 else 0
    good = residuals.shape == (3, count, 32, 32) and residuals.dtype == labels.dtype == np.uint8
    if not good or not count:
        must = "residuals and labels must be uint8 [3, N, 32, 32] and [N] with N >= 1"
        got = f"{residuals.dtype} {list(residuals.shape)} and {labels.dtype} {list(labels.shape)}"
        raise bad_value(where, must, got, "pass a file in the residual layout")
    planes = decode_residuals(residuals)
    return np.stack([planes[1], planes[0], planes[2]], axis=1), labels.astype(np.int64)


def decode_residuals(residuals: np.ndarray) -> np.ndarray:
    """Undo the differences, wrapping modulo 256.

    Args:
        residuals: uint8 ``[3, N, H, W]``.

    Returns:
        uint8 ``[3, N, H, W]``: green, red, blue.

    >>> decode_residuals(np.array([250, 10, 0, 1, 0, 0], dtype=np.uint8).reshape(3, 1, 1, 2)).flatten().tolist()
    [250, 4, 250, 5, 250, 4]
    """
    planes = np.cumsum(residuals, axis=-1, dtype=np.uint8)
    np.cumsum(planes, axis=-2, dtype=np.uint8, out=planes)
    planes[1:] += planes[0]
    return planes


def read_python(path: Path, coarse: bool) -> Part:
    """Read a pickle with ``data`` (uint8 ``[N, 3072]``) and ``labels``, or ``fine_labels`` and ``coarse_labels``.

    Raises:
        ValueError: what `load_restricted` refuses, or other contents.
    """
    where, content = f"read_python {path}", load_restricted(path)
    if not isinstance(content, dict):
        raise bad_value(where, "the pickle must be a dict", type(content).__name__, AGAIN)
    members = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    wanted = ("data", "fine_labels", "coarse_labels") if coarse else ("data", "labels")
    lacking = [name for name in wanted if name not in members]
    if lacking:
        raise bad_value(
            where, f"the pickle must hold {', '.join(wanted)}", f"no {', '.join(lacking)}", "pass the set's own"
        )
    data, labels = members["data"], _labels(where, members[wanted[1]])
    pixels = data.array(where) if isinstance(data, StoredArray) else np.empty(0)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), IMAGE_BYTES) or not len(labels):
        must = f"data must be a uint8 array [N, {IMAGE_BYTES}] with a label for each of N >= 1 rows"
        raise bad_value(where, must, f"{pixels.dtype} {list(pixels.shape)} and {len(labels)} labels", AGAIN)
    if coarse:
        _check_coarse(where, _labels(where, members["coarse_labels"]))
    return pixels.reshape(-1, *IMAGE), labels


READERS: dict[str, Callable[[Path, bool], Part]] = {
    "binary": read_binary,
    "npz": read_residuals,
    "python": read_python,
}


def _labels(where: str, values: object) -> np.ndarray:
    """A list of small ints as an array."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 256 for value in values):
        raise bad_value(where, "labels must be a list of ints from 0 to 255", type(values).__name__, AGAIN)
    return np.array(values, dtype=np.int64)


def _check_coarse(where: str, labels: np.ndarray) -> None:
    """Raise unless all coarse labels are ones of CIFAR-100; else the records are not its own."""
    if labels.max(initial=0) >= COARSE:
        raise bad_value(where, f"coarse labels must lie in [0, {COARSE - 1}]", labels.max(), "pass a file of CIFAR-100")
