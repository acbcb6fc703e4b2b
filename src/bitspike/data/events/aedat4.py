"""AEDAT 4: recordings of DV, plain or through LZ4; of their flatbuffers only the fields that are needed are read."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

from bitspike.checks import bad_value, one_of
from bitspike.data.events.raw import AGAIN, SKIP, opened
from bitspike.data.events.recording import POLICIES, Recording, added, recording
from bitspike.data.optional import need

MAGIC = b"#!AER-DAT4.0\r\n"
COMPRESSIONS = ("NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")
_LARGEST = 1 << 30
_EVENT = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "itemsize": 16})


def read_aedat4(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    faults: str = "error",
    *,
    stream: int | None = None,
) -> Recording:
    """Read the events of an ``.aedat4`` file; packets of other streams are passed over.

    After the line ``#!AER-DAT4.0`` stands a flatbuffer, the header (field 0: compression, 1: where the table of packets
    begins or -1, 2: XML about the streams), then packets: stream and number of bytes, 32 bits each, and the bytes,
    which hold (compressed, where the header says so) a flatbuffer with a vector of events of 16 bytes: microseconds
    (int64), column and row (int16), polarity (bool). Times are counted from the first event: they are Unix time.

    Source: iniVation, "AEDAT 4.0", and the schemas there.

    Args:
        path: the file. size: (H, W) of the sensor; None: as the XML says. faults: "error", or "skip" as in
            `recording`; "truncated" is a last packet that is not whole, or a file that ends before the place of its
            table of packets, counted once.
        stream: number of the stream; None: the only one with events, of several none is taken.

    Raises:
        ImportError: LZ4 without its package (``bitspike[events]``).
        ValueError: no such file, another format, Zstandard compression, several streams, no size, a damaged packet, or
            a fault.
    """
    where = f"read_aedat4 {os.fspath(path)}"
    one_of(where, "faults", faults, POLICIES)
    parts: list[np.ndarray] = [np.zeros(0, _EVENT)]
    skipped: dict[str, int] = {}
    with opened(where, path) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise bad_value(
                where, "the first line must be #!AER-DAT4.0", "another one", "take the reader of its format"
            )
        (length,) = struct.unpack("<I", _exactly(where, file, 4))
        head = _Table(where, _exactly(where, file, length))
        compression, end, xml = head.number(0, "<i", 0), head.number(1, "<q", -1), head.text(2)
        if not 0 <= compression < len(COMPRESSIONS) or COMPRESSIONS[compression].startswith("ZSTD"):
            got = COMPRESSIONS[compression] if 0 <= compression < len(COMPRESSIONS) else compression
            raise bad_value(where, "the compression must be NONE or LZ4", got, "convert the file with DV, to LZ4")
        streams = _streams(xml)
        stream = _chosen(where, streams, stream)
        size = size or streams[stream]
        if size is None:
            raise bad_value(where, "the size must be given where the file does not say it", "none", "pass (H, W)")
        for number, data in _packets(where, file, end, faults, skipped):
            if number == stream:
                flat = _decompress(where, data) if compression else data
                parts.append(_events(where, flat))
    events = np.concatenate(parts)
    t = events["t"].astype(np.int64)
    t -= t[0] if len(t) else 0
    return recording(where, t, events["x"], events["y"], events["p"] & 1, size, faults, skipped=skipped)


class _Table:
    """The root table of a flatbuffer; a place outside its bytes is a `ValueError`."""

    def __init__(self, where: str, data: bytes) -> None:
        self._where, self._data = where, data
        self._start = self._at("<I", 0)
        self._fields = self._start - self._at("<i", self._start)
        self._size = self._at("<H", self._fields)

    def _at(self, form: str, place: int) -> int:
        if not 0 <= place <= len(self._data) - struct.calcsize(form):
            must = f"places must lie within {len(self._data)} bytes"
            raise bad_value(self._where, must, place, AGAIN)
        return int(struct.unpack_from(form, self._data, place)[0])

    def _place(self, field: int) -> int | None:
        """Where a field stands; None where it is left out."""
        entry = 4 + 2 * field
        offset = self._at("<H", self._fields + entry) if entry + 2 <= self._size else 0
        return self._start + offset if offset else None

    def number(self, field: int, form: str, default: int) -> int:
        place = self._place(field)
        return default if place is None else self._at(form, place)

    def vector(self, field: int, item: int) -> bytes:
        """The bytes of a vector of items of ``item`` bytes; of one that is left out, none."""
        place = self._place(field)
        if place is None:
            return b""
        start = place + self._at("<I", place)
        length = self._at("<I", start) * item
        if start + 4 + length > len(self._data):
            must = f"a vector must lie within {len(self._data)} bytes"
            raise bad_value(self._where, must, start + 4 + length, AGAIN)
        return self._data[start + 4 : start + 4 + length]

    def text(self, field: int) -> str:
        return self.vector(field, 1).decode("utf-8", "replace")


def _exactly(where: str, file: IO[bytes], count: int) -> bytes:
    """That many bytes of the header."""
    data = file.read(count) if count <= _LARGEST else b""
    if len(data) < count:
        raise bad_value(where, f"the header must hold {count} bytes", len(data), AGAIN)
    return data


def _streams(xml: str) -> dict[int, tuple[int, int] | None]:
    """Streams of events → (H, W) or None, from nodes named by a number; the XML is only searched, never expanded."""
    found: dict[int, tuple[int, int] | None] = {}
    parts = re.split(r'<node\s+name="(\d+)"', xml)
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        if re.search(r'key="typeIdentifier"[^>]*>\s*EVTS\s*<', text):
            sides = [re.search(rf'key="size{side}"[^>]*>\s*(\d{{1,5}})\s*<', text) for side in "YX"]
            found[int(number)] = (int(sides[0][1]), int(sides[1][1])) if sides[0] and sides[1] else None
    return found


def _chosen(where: str, streams: dict[int, tuple[int, int] | None], stream: int | None) -> int:
    """The stream that is asked for, or the only one."""
    listed = ", ".join(map(str, streams)) or "none"
    if stream is not None and stream in streams:
        return stream
    if stream is None and len(streams) == 1:
        return next(iter(streams))
    must = "there must be one stream of events" if stream is None else f"stream {stream} must hold events"
    raise bad_value(where, must, listed, "name one: stream=...")


def _packets(
    where: str, file: IO[bytes], end: int, faults: str, skipped: dict[str, int]
) -> Iterator[tuple[int, bytes]]:
    """(stream, bytes) of each packet up to the table of packets at ``end``, or to the end of the file for -1."""
    while end < 0 or file.tell() < end:
        head, data, size = file.read(8), b"", 0
        if not head and end < 0:
            return
        if len(head) == 8:
            number, size = struct.unpack("<ii", head)
            if not 0 <= size <= _LARGEST:
                raise bad_value(where, "a packet must hold 0 to 2^30 bytes", size, AGAIN)
            data = file.read(size)
        if len(head) < 8 or len(data) < size:
            if faults == "error":
                raise bad_value(where, "the last packet must be whole", f"{len(head) + len(data)} bytes", SKIP)
            skipped.update(added(skipped, {"truncated": 1}))
            return
        if 0 <= end < file.tell():
            must = f"the table of packets at {end} must stand behind a whole packet"
            raise bad_value(where, must, f"one that ends at {file.tell()}", AGAIN)
        yield number, data


def _decompress(where: str, data: bytes) -> bytes:
    frame = need(where, "lz4.frame", "lz4", "events")
    try:
        reader = frame.LZ4FrameDecompressor()
        flat = reader.decompress(data, max_length=_LARGEST)
    except RuntimeError as error:
        raise bad_value(where, "packets must be LZ4 frames", error, AGAIN) from error
    if reader.unused_data:
        got = f"{len(reader.unused_data)} bytes behind it"
        raise bad_value(where, "a packet must be one LZ4 frame", got, AGAIN)
    return bytes(flat)


def _events(where: str, flat: bytes) -> np.ndarray:
    """Events of one packet, whose flatbuffer begins with its size and bears the mark EVTS."""
    if flat[8:12] != b"EVTS" or struct.unpack("<I", flat[:4])[0] != len(flat) - 4:
        raise bad_value(where, "a packet of events must be one flatbuffer marked EVTS", flat[8:12], AGAIN)
    return np.frombuffer(_Table(where, flat[4:]).vector(0, _EVENT.itemsize), _EVENT)
