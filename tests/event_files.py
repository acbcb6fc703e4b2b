"""Event files as their formats are published, written field by field: nothing here comes from the readers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Event(NamedTuple):
    t: int
    x: int
    y: int
    p: int


def draw(count: int, size: tuple[int, int], seed: int = 0, span: int = 300_000) -> list[Event]:
    rng = np.random.default_rng(seed)
    times = sorted(rng.integers(0, span, count).tolist())
    return [Event(t, int(rng.integers(size[1])), int(rng.integers(size[0])), int(rng.integers(2))) for t in times]


def bin40(events: Iterable[Event]) -> bytes:
    """40 bits an event: x (8), y (8), polarity (1), time (23); the number as one, most significant byte first."""
    return b"".join((e.x << 32 | e.y << 24 | e.p << 23 | e.t).to_bytes(5, "big") for e in events)


def aedat2(events: Iterable[Event], layout: str = "dvs128", head: str = "#!AER-DAT2.0\r\n# comment\r\n") -> bytes:
    """Big-endian address and time; ON is bit 0 clear of a DVS128, bit 11 set of a DAVIS."""
    parts = [head.encode()]
    for e in events:
        address = e.y * 2**8 + e.x * 2 + (1 - e.p) if layout == "dvs128" else e.y * 2**22 + e.x * 2**12 + e.p * 2**11
        parts.append(struct.pack(">II", address, e.t % 2**32))
    return b"".join(parts)


def aedat3(
    events: Sequence[Event], each: int = 100, source: int = 1, invalid: Sequence[int] = (), special: bool = True
) -> bytes:
    """Packets of ``each`` events; some are marked as invalid, and a packet of special events stands between."""
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2017-01-01 00:00:00 (TZ+0100)\r\n"]
    parts.append(b"#!END-HEADER\r\n")
    for start in range(0, len(events), each):
        if special:
            parts.append(struct.pack("<hhiiiiii", 0, source, 8, 4, 0, 1, 1, 1) + struct.pack("<Ii", 1, 7))
        group = events[start : start + each]
        for overflow in sorted({e.t >> 31 for e in group}):
            same = [(k, e) for k, e in enumerate(group, start) if e.t >> 31 == overflow]
            valid = sum(k not in invalid for k, _ in same)
            parts.append(struct.pack("<hhiiiiii", 1, source, 8, 4, overflow, len(same), len(same), valid))
            for k, e in same:
                parts.append(struct.pack("<Ii", e.x << 17 | e.y << 2 | e.p << 1 | (k not in invalid), e.t & 0x7FFFFFFF))
    return b"".join(parts)


def flatbuffer(fields: Sequence[bytes | tuple[str, int] | None], mark: bytes) -> bytes:
    """A size-prefixed flatbuffer with one table: a field is None, a scalar (form, value), or a vector's own bytes.

    A vector's bytes begin with its length; it stands behind the table, its elements at a multiple of 8.
    """
    forms = [None if f is None else "<I" if isinstance(f, bytes) else f[0] for f in fields]
    place, offsets = 4, []
    for form in forms:
        if form is None:
            offsets.append(0)
            continue
        width = struct.calcsize(form)
        place = -(-place // width) * width
        offsets.append(place)
        place += width
    table_size = place
    vtable = struct.pack("<HH", 4 + 2 * len(fields), table_size) + b"".join(struct.pack("<H", o) for o in offsets)
    start = -(-(8 + len(vtable)) // 8) * 8  # of the table
    body = bytearray(start + table_size)
    body[start - len(vtable) : start] = vtable
    struct.pack_into("<i", body, start, len(vtable))
    for field, form, offset in zip(fields, forms, offsets, strict=True):
        if isinstance(field, tuple) and form is not None:
            struct.pack_into(form, body, start + offset, field[1])
        elif isinstance(field, bytes):
            while (len(body) + 4) % 8:  # what follows the length is aligned to 8
                body.append(0)
            struct.pack_into("<I", body, start + offset, len(body) - (start + offset))
            body += field
    struct.pack_into("<I", body, 0, start)
    body[4:8] = mark
    return struct.pack("<I", len(body)) + bytes(body)


def xml(size: tuple[int, int] | None, number: int = 0, kind: str = "EVTS") -> str:
    attributes = (
        f'<attr key="compression" type="string">NONE</attr><attr key="typeIdentifier" type="string">{kind}</attr>'
    )
    sides = (
        ""
        if size is None
        else f'<attr key="sizeX" type="int">{size[1]}</attr><attr key="sizeY" type="int">{size[0]}</attr>'
    )
    inner = f'<node name="info" path="/out/{number}/info/">{sides}</node>'
    return f'<node name="{number}" path="/out/{number}/">{attributes}{inner}</node>'


def aedat4(
    events: Sequence[Event],
    size: tuple[int, int] | None = (260, 346),
    each: int = 100,
    compress=None,  # type: ignore[no-untyped-def]
    compression: int = 0,
    streams: str | None = None,
) -> bytes:
    streams = streams or xml(size)
    text = f'<dv version="2.0"><node name="outInfo" path="/out/">{streams}</node></dv>'.encode()
    node = struct.pack("<I", len(text)) + text + b"\0"
    fields: list = [("<i", compression), ("<q", -1), node]
    parts = [b"#!AER-DAT4.0\r\n", flatbuffer(fields, b"IOHE")]
    for start in range(0, len(events), each):
        group = events[start : start + each]
        elements = b"".join(struct.pack("<qhhB3x", e.t, e.x, e.y, e.p) for e in group)
        data = flatbuffer([struct.pack("<I", len(group)) + elements], b"EVTS")
        data = compress(data) if compress else data
        parts.append(struct.pack("<ii", 0, len(data)) + data)
    return b"".join(parts)
