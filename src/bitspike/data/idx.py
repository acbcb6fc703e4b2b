"""Strict reader of IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import os
import zlib
from math import prod
from typing import BinaryIO

import numpy as np

from bitspike.checks import bad_value

DTYPE_UINT8 = 0x08
CHUNK_BYTES = 1 << 20
DEFLATE_RATIO = 1032
"""Deflate expands no more than this, so a longer promise of a gzip header is false."""

AGAIN = "copy the file again from its source"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file of unsigned bytes, plain or gzip-compressed (told by content, not by name).

    The header is big-endian: two zero bytes, the type code (0x08), the number of axes (1 to 4), then one uint32 an
    axis. It is believed only as far as the file's length allows: nothing is allocated on its word.

    Args:
        path: the file.

    Returns:
        uint8 array with the axes of the header, writable.

    Raises:
        ValueError: a missing or unreadable file, a wrong magic number or type code, a truncated or damaged file,
            or bytes after the payload.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    ...     file.flush()
    ...     read_idx(file.name).tolist()
    [7, 9]
    """
    where = f"read_idx {os.fspath(path)}"
    try:
        with open(path, "rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _parse(where, raw, size)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(where, stream, size * DEFLATE_RATIO)
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except EOFError as error:
        raise bad_value(where, "the gzip stream must be complete", "a truncated one", AGAIN) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise bad_value(where, "the gzip stream must be sound", error, AGAIN) from error
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error


def _parse(where: str, stream: BinaryIO | gzip.GzipFile, longest: int) -> np.ndarray:
    """Read header and payload of a stream that can hold at most ``longest`` bytes."""
    head = _read(stream, 4)
    if len(head) < 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
        must = "an IDX file must begin with two zero bytes, a type code and 1 to 4 axes"
        raise bad_value(where, must, f"magic {head.hex() or 'nothing'}", "pass an IDX file")
    if head[2] != DTYPE_UINT8:
        must = "the IDX type code must be 0x08 (unsigned byte)"
        raise bad_value(where, must, f"0x{head[2]:02x}", "pass an image or label file of uint8")
    sizes = _read(stream, 4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise bad_value(where, f"the header must hold {head[3]} sizes", f"{len(sizes)} of {4 * head[3]} bytes", AGAIN)
    shape = [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4)]
    wanted = prod(shape)
    must = f"the payload must be {wanted} bytes for the shape {shape}"
    if 4 + len(sizes) + wanted > longest:
        raise bad_value(where, must, f"a file with room for {max(0, longest - 4 - len(sizes))} at most", AGAIN)
    payload = _read(stream, wanted + 1)
    if len(payload) != wanted:
        got = "trailing bytes after it" if len(payload) > wanted else f"{len(payload)} bytes"
        raise bad_value(where, must, got, AGAIN)
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape)


def _read(stream: BinaryIO | gzip.GzipFile, count: int) -> bytearray:
    """Read up to ``count`` bytes, growing with what arrives and never with what is promised."""
    data = bytearray()
    while len(data) < count and (chunk := stream.read(min(CHUNK_BYTES, count - len(data)))):
        data += chunk
    return data
