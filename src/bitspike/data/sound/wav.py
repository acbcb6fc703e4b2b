"""Sound files: WAV with 16-bit PCM of one channel."""

from __future__ import annotations

import os
import struct
from typing import IO

import numpy as np

from bitspike.checks import bad_value

AGAIN = "copy the file again from its source"
PCM = "convert it, e.g. `ffmpeg -i IN -ac 1 -c:a pcm_s16le OUT.wav`"
_PLAIN, _EXTENSIBLE = 1, 0xFFFE
_FORM = struct.Struct("<HHIIHH")
_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
"""Of PCM, as an extensible format names it."""


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a WAV file of 16-bit PCM with one channel.

    Chunks other than ``fmt `` and ``data`` are passed over. The format may be plain or extensible.

    Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0"; of the extensible format,
    Microsoft, "Multiple Channel Audio Data and WAVE Files".

    Args:
        path: the file.

    Returns:
        (samples int16 ``[n]``, samples a second).

    Raises:
        ValueError: no such file, another format, chunks that do not add up, a file that ends early, or no sample.
    """
    where = f"read_wav {os.fspath(path)}"
    try:
        with open(path, "rb") as file:
            chunks = _chunks(where, file)
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error
    rate, data = _rate(where, chunks[b"fmt "]), chunks[b"data"]
    if len(data) % 2 or not data:
        raise bad_value(where, "the file must hold samples of 2 bytes, at least one", f"{len(data)} bytes", AGAIN)
    return np.frombuffer(data, "<i2").astype(np.int16), rate


def _chunks(where: str, file: IO[bytes]) -> dict[bytes, bytes]:
    """The chunks of format and sound, each of which stands in the file once, the format first."""
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise bad_value(where, "the file must be WAV of 16-bit PCM", f"a file that begins with {head[:4]!r}", PCM)
    end = 8 + int(struct.unpack_from("<I", head, 4)[0])
    found: dict[bytes, bytes] = {}
    while file.tell() < end and (head := file.read(8)):
        name, size = head[:4], int(struct.unpack("<I", head[4:])[0]) if len(head) == 8 else 0
        begin = file.tell()
        data = file.read(size)
        if len(head) < 8 or len(data) < size or begin + size > end:
            got = f"{name!r} of {size} bytes, {min(len(data), end - begin)} of which are there"
            raise bad_value(where, "chunks must be whole", got, AGAIN)
        if name in found or (name == b"data" and b"fmt " not in found):
            must = "the file must hold one chunk of format, and behind it one of sound"
            raise bad_value(where, must, f"{name!r} at byte {begin - 8}", AGAIN)
        if name in (b"fmt ", b"data"):
            found[name] = data
        file.seek(begin + size + size % 2)
    lacking = [name for name in (b"fmt ", b"data") if name not in found]
    if lacking:
        raise bad_value(where, "the file must hold chunks of format and sound", f"none called {lacking[0]!r}", AGAIN)
    return found


def _rate(where: str, form: bytes) -> int:
    """Samples a second, if the format is the one that is read here."""
    if len(form) < _FORM.size:
        raise bad_value(where, f"the chunk of format must hold {_FORM.size} bytes", len(form), AGAIN)
    kind, channels, rate, _, align, bits = _FORM.unpack_from(form)
    extended = kind == _EXTENSIBLE and form[24:40] == _GUID and struct.unpack_from("<H", form, 18)[0] == bits
    if (kind, channels, bits) != (_PLAIN, 1, 16) and not (extended and (channels, bits) == (1, 16)):
        got = f"{channels} channels of {bits} bits, format {kind:#x}"
        raise bad_value(where, "the file must hold one channel of 16-bit PCM", got, PCM)
    if align != 2 or not rate:
        must = "a sample of one channel must take 2 bytes, at some samples a second"
        raise bad_value(where, must, f"{align} bytes, {rate} a second", AGAIN)
    return int(rate)
