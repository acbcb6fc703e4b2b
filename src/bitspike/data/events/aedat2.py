"""AEDAT 2.0: recordings of jAER, in the addresses of a DVS128 or of a DAVIS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.data.events.raw import header, opened, version, whole
from bitspike.data.events.recording import Recording, added, recording, unwrap

RANGE_US = 2**32
CHUNK_EVENTS = 1 << 20


@dataclass(frozen=True)
class Layout:
    """Where an address keeps what: (lowest bit, number of bits) of column and row, the bit of the polarity and its
    value for ON, the bits that say that a record is no event of a pixel, and those that an event of one has not."""

    x: tuple[int, int]
    y: tuple[int, int]
    p: int
    on: int
    other: int
    never: int
    size: tuple[int, int] | None


LAYOUTS = {
    "dvs128": Layout(x=(1, 7), y=(8, 7), p=0, on=0, other=1 << 15, never=0xFFFF << 16, size=(128, 128)),
    "davis": Layout(x=(12, 10), y=(22, 9), p=11, on=1, other=1 << 31 | 1 << 10, never=0, size=None),
}
"""Layout → its bits. A DAVIS may be 180x240 or 260x346, so its size must be given."""


def read_aedat2(
    path: str | os.PathLike[str],
    layout: str = "dvs128",
    size: tuple[int, int] | None = None,
    faults: str = "error",
    *,
    on: int | None = None,
    unwrapped: bool = False,
) -> Recording:
    """Read an ``.aedat`` file of version 2.0: header lines, then big-endian pairs of address and microseconds, 32 bits
    each.

    ====== ======================= ====================== ============ ==================================
    layout row                     column                 polarity     no event of a pixel
    ====== ======================= ====================== ============ ==================================
    dvs128 bits 14 to 8            bits 7 to 1            bit 0        bit 15 (external)
    davis  bits 30 to 22           bits 21 to 12          bit 11       bits 31 (APS) and 10 (external)
    ====== ======================= ====================== ============ ==================================

    Rows and columns are given as they are stored; (0, 0) is the sensor's, which may be a lower corner. Records that are
    no events of pixels are left out and counted as "other".

    Source: iniVation, "AEDAT 2.0", and the address layouts there. Differs: of a DVS128 that page says that bit 0 is 1
    for ON; jAER and the readers of CIFAR10-DVS take 0 for ON, which is the default here.

    Args:
        path: the file. layout: "dvs128" or "davis". size: (H, W); needed for "davis", (128, 128) for "dvs128".
        faults: "error", or "skip" as in `recording`; "truncated" is a last record that is not whole.
        on: value of the polarity bit that is ON, 0 or 1; None: 0 for "dvs128", 1 for "davis".
        unwrapped: take times on where the counter begins again after 2^32 us (71.6 minutes), instead of refusing.
            An event that rises by more than half of that afterwards is a late one of before.

    Raises:
        ValueError: no such file, another version, an unknown layout, addresses of another one, or a fault.
    """
    where = f"read_aedat2 {os.fspath(path)}"
    one_of(where, "layout", layout, tuple(LAYOUTS))
    bits = LAYOUTS[layout]
    size = size or bits.size
    if size is None:
        raise bad_type(where, "size must be given for a DAVIS", "None", "pass e.g. (180, 240) or (260, 346)")
    if on is not None:
        one_of(where, "on", on, (0, 1))
    parts: list[tuple[np.ndarray, ...]] = [tuple(np.zeros(0, kind) for kind in (np.int64, np.uint16, np.uint16, bool))]
    with opened(where, path) as file:
        version(where, header(where, file, "#End Of ASCII Header"), "#!AER-DAT2.0")
        begin = file.tell()
        skipped = whole(where, file.seek(0, os.SEEK_END) - begin, 8, faults)
        file.seek(begin)
        for address, times in _chunks(file):
            pixel = address & bits.other == 0
            skipped = added(skipped, {"other": int(np.count_nonzero(~pixel))})
            address = address[pixel]
            if (address & bits.never).any():
                must = f"addresses of {layout!r} must have no bits above 15"
                raise bad_value(
                    where, must, hex(address[address & bits.never > 0][0]), "pass the layout of the camera: 'davis'"
                )
            x, y = (address >> low & (1 << wide) - 1 for low, wide in (bits.x, bits.y))
            p = (address >> bits.p & 1) == (bits.on if on is None else on)
            parts.append((times[pixel].astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p))
    t, x, y, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    if unwrapped:
        t = unwrap(t, RANGE_US)
    return recording(where, t, x, y, p, size, faults, wraps=RANGE_US, skipped=skipped)


def _chunks(file: IO[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(addresses, times), uint32, of a million whole records at a time."""
    while data := file.read(8 * CHUNK_EVENTS):
        records = np.frombuffer(data, ">u4", len(data) // 8 * 2).astype(np.uint32).reshape(-1, 2)
        yield records[:, 0], records[:, 1]
