"""AEDAT 3.1: recordings of cAER, among them DVS128 Gesture, with its table of labels."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bitspike.checks import bad_value, one_of
from bitspike.data.events.raw import AGAIN, SKIP, header, opened, version
from bitspike.data.events.recording import POLICIES, Recording, added, recording

POLARITY = 1
_HEAD = struct.Struct("<hhiiiiii")
_EVENT_BYTES = 8
_LARGEST_PACKET = 1 << 30


class Packet(NamedTuple):
    """The header of a packet of events."""

    type: int
    source: int
    size: int
    offset: int
    overflow: int
    capacity: int
    number: int
    valid: int


def read_aedat3(
    path: str | os.PathLike[str],
    size: tuple[int, int] = (128, 128),
    faults: str = "error",
    *,
    source: int | None = None,
) -> Recording:
    """Read the polarity events of an ``.aedat`` file of version 3.1; packets of other kinds are passed over.

    Packets are little-endian: a header of 28 bytes (type, source: 16 bits each; bytes an event, place of the time in
    it, overflow, capacity, number, number of valid ones: 32 bits each), then the events. A polarity event is 8 bytes:
    valid (bit 0), polarity (bit 1, 1 for ON), row (bits 2 to 16), column (bits 17 to 31), then 31 bits of microseconds,
    above which the overflow of the packet stands. Events marked as invalid are left out and counted as "invalid".

    Source: iniVation, "AEDAT 3.1".

    Args:
        path: the file. size: (H, W) of the sensor.
        faults: "error", or "skip" as in `recording`; "truncated" are events that the last packet promises and that are
            not there.
        source: number of the sensor; None: the only one, of several none is taken.

    Raises:
        ValueError: no such file, another version, a format that is not raw, a damaged packet, several sources, or a
            fault.
    """
    where = f"read_aedat3 {os.fspath(path)}"
    one_of(where, "faults", faults, POLICIES)
    parts: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int64), np.zeros(0, np.uint32))]
    skipped: dict[str, int] = {}
    with opened(where, path) as file:
        lines = header(where, file, "#!END-HEADER")
        version(where, lines, "#!AER-DAT3.1")
        if lines[-1] != "#!END-HEADER":
            raise bad_value(where, "the header must end in #!END-HEADER", repr(lines[-1][:40]), AGAIN)
        form = next((line.partition(":")[2].strip() for line in lines if line.startswith("#Format:")), "RAW")
        if form != "RAW":
            raise bad_value(where, "the format must be RAW", form, "write it again without compression")
        chosen = source
        for packet, data in _packets(where, file, faults, skipped):
            if packet.type != POLARITY or packet.source != (packet.source if source is None else source):
                continue
            if chosen not in (None, packet.source):
                got = f"{chosen} and {packet.source}"
                raise bad_value(where, "the events must come from one source", got, "name it: source=...")
            chosen = packet.source
            words = np.frombuffer(data, "<u4", len(data) // 4).reshape(-1, 2)
            valid = words[:, 0] & 1 == 1
            skipped.update(added(skipped, {"invalid": int(np.count_nonzero(~valid))}))
            word, time = words[valid, 0], words[valid, 1].astype(np.int64)
            parts.append((np.where(time >> 31, -1, time + (packet.overflow << 31)), word))
    t, word = (np.concatenate(column) for column in zip(*parts, strict=True))
    x, y, p = word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1
    return recording(where, t, x, y, p, size, faults, skipped=skipped)


def _packets(where: str, file: IO[bytes], faults: str, skipped: dict[str, int]) -> Iterator[tuple[Packet, bytes]]:
    """(header, events) of each packet; what the last one lacks is counted in ``skipped``."""
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            _cut(where, f"{len(head)} bytes of a packet's header", faults)
            skipped.update(added(skipped, {"truncated": 1}))
            return
        packet = Packet(*_HEAD.unpack(head))
        wanted = packet.size * packet.number
        sound = min(packet) >= 0 and packet.capacity == packet.number >= packet.valid and wanted <= _LARGEST_PACKET
        if not sound or (packet.type == POLARITY and (packet.size, packet.offset) != (_EVENT_BYTES, 4)):
            must = "a packet must hold as many events as it has room for, polarity events of 8 bytes, below 1 GiB"
            raise bad_value(where, must, packet, AGAIN)
        data = file.read(wanted)
        if len(data) < wanted:
            _cut(where, f"{len(data)} of {wanted} bytes of the last packet", faults)
            there = len(data) // packet.size
            skipped.update(added(skipped, {"truncated": packet.number - there}))
            data = data[: there * packet.size]
        yield packet, data


def _cut(where: str, got: str, faults: str) -> None:
    if faults == "error":
        raise bad_value(where, "the last packet must be whole", got, SKIP)


class Trial(NamedTuple):
    """One row of a table of labels: class, and [start, end) in microseconds."""

    label: int
    start_us: int
    end_us: int


def read_trials(path: str | os.PathLike[str], classes: int = 11) -> list[Trial]:
    """Read the table of labels beside a recording of DVS128 Gesture.

    A CSV file with the header ``class,startTime_usec,endTime_usec``; classes count from 1.

    Args:
        path: the file. classes: K, the greatest class.

    Raises:
        ValueError: no such file, another header, a row that is no three integers, or numbers out of range or order.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("class,startTime_usec,endTime_usec\\n2,10,90"); file.flush()
    ...     read_trials(file.name)
    [Trial(label=2, start_us=10, end_us=90)]
    """
    where = f"read_trials {os.fspath(path)}"
    with opened(where, path):
        lines = Path(path).read_bytes().decode("utf-8", "replace").split("\n")
    if [cell.strip() for cell in lines[0].split(",")] != ["class", "startTime_usec", "endTime_usec"]:
        raise bad_value(where, "the header must be class,startTime_usec,endTime_usec", repr(lines[0][:80]), AGAIN)
    trials = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3 or not all(cell.isascii() and cell.isdigit() and len(cell) < 19 for cell in cells):
            raise bad_value(where, f"line {number} must be three whole numbers", repr(line[:80]), AGAIN)
        trial = Trial(*map(int, cells))
        if not 1 <= trial.label <= classes or trial.start_us >= trial.end_us:
            must = f"line {number} must be a class of 1 to {classes} and a start before its end"
            raise bad_value(where, must, tuple(trial), AGAIN)
        trials.append(trial)
    if not trials:
        raise bad_value(where, "the table must hold a trial", "none", AGAIN)
    return trials
