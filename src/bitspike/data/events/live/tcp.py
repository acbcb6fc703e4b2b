"""Packets of events over a TCP connection within this machine."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from types import TracebackType

import numpy as np

from bitspike.checks import bad_value, in_range, integer, message
from bitspike.data.events.live.packets import LATEST_US, Packet, as_packet

HOST = "127.0.0.1"
MOST_EVENTS = 2**16
"""Events of one message: it has at most 20 + 16 · 65,536 bytes."""
HEAD = struct.Struct("<4sHHIq")
MAGIC, VERSION, LAST = b"BSEV", 1, 1
EVENT = np.dtype({"names": ["t", "x", "y", "p", "zero"], "formats": ["<i8", "<u2", "<u2", "u1", ("u1", 3)]})
_WHERE = "EventListener"


class EventListener:
    """A live source: packets that one other program of this machine sends to a port of the loopback.

    Messages follow one another, little-endian, without anything between them:

    ======== ======= =================================================================
    bytes    type    meaning
    ======== ======= =================================================================
    0 to 3   bytes   ``BSEV``
    4 to 5   uint16  version: 1
    6 to 7   uint16  1: the last message; else 0
    8 to 11  uint32  number of events, at most 65,536
    12 to 19 int64   end_us of `Packet`, below 2^62; -1: none
    20 …     events  16 bytes each: t int64, x uint16, y uint16, p uint8 (0 or 1), 000
    ======== ======= =================================================================

    One connection is taken; the source ends with its last message. Anything else is refused, also a connection that
    ends before: what had not come would look like silence. `LiveFrames` checks times and pixels.

    Args:
        port: 0: any that is free (see `port`), to 65535. timeout_s: how long nothing may come, 1e-3 to 1e6.

    Raises:
        TypeError, ValueError: a number that is not allowed; while it runs, a message that is malformed, a connection
            that breaks off, or nothing in ``timeout_s``. OSError: the port is in use.
    """

    def __init__(self, port: int = 0, timeout_s: float = 10.0) -> None:
        integer(_WHERE, "port", port, 0, 65535)
        in_range(_WHERE, "timeout_s", timeout_s, 1e-3, 1e6)
        self._timeout, self._link = timeout_s, socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._link.bind((HOST, port))
            self._link.listen(1)
        except OSError:
            self._link.close()
            raise
        self.port: int = self._link.getsockname()[1]

    def __enter__(self) -> EventListener:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the port back."""
        self._link.close()

    def __iter__(self) -> Iterator[Packet]:
        self._link.settimeout(self._timeout)
        try:
            link, _ = self._link.accept()
        except TimeoutError:
            raise _silent(self._timeout) from None
        with link:
            link.settimeout(self._timeout)
            last = False
            while not last:
                packet, last = _received(link, self._timeout)
                yield packet


def send_events(port: int, source: Iterable[object], timeout_s: float = 10.0) -> int:
    """Send packets to an `EventListener`, as they come; what is larger than a message is sent as several.

    Args:
        port: 1 to 65535. source: as in `LiveFrames`. timeout_s: how long the other side may take nothing.

    Returns:
        The number of events that were sent.

    Raises:
        TypeError, ValueError: an argument that is not allowed, or an event whose numbers the message cannot hold.
        OSError: nobody listens, or the other side has left.
    """
    where, sent = "send_events", 0
    integer(where, "port", port, 1, 65535)
    in_range(where, "timeout_s", timeout_s, 1e-3, 1e6)
    with socket.create_connection((HOST, port), timeout_s) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for item in source:
            packet = as_packet(where, item)
            for part in messages(where, packet):
                link.sendall(part)
            sent += len(packet)
        link.sendall(HEAD.pack(MAGIC, VERSION, LAST, 0, -1))
    return sent


def messages(where: str, packet: Packet) -> Iterator[bytes]:
    """The bytes of a packet, the end of its time in the last message.

    >>> [len(part) for part in messages("toy", as_packet("toy", ([5], [1], [2], [1])))]
    [36]
    """
    for name, low, high in (("t", 0, LATEST_US), ("x", 0, 2**16 - 1), ("y", 0, 2**16 - 1)):
        values = getattr(packet, name)
        if len(values) and not (low <= int(values.min()) and int(values.max()) <= high):
            got = f"{values.min()} to {values.max()}"
            raise bad_value(where, f"{name} must lie in {low} to {high}", got, "look at the source")
    rows = np.zeros(len(packet), EVENT)
    for name in ("t", "x", "y", "p"):
        rows[name] = getattr(packet, name)
    for first in range(0, max(len(rows), 1), MOST_EVENTS):
        part, whole = rows[first : first + MOST_EVENTS], first + MOST_EVENTS >= len(rows)
        end = packet.end_us if whole and packet.end_us is not None else -1
        yield HEAD.pack(MAGIC, VERSION, 0, len(part), end) + part.tobytes()


def _received(link: socket.socket, timeout: float) -> tuple[Packet, bool]:
    """The next message, and whether it is the last one."""
    magic, version, last, count, end = HEAD.unpack(_read(link, HEAD.size, timeout))
    if magic != MAGIC or version != VERSION or last not in (0, LAST):
        got = f"{bytes(magic)!r}, version {version}, mark {last}"
        raise bad_value(_WHERE, "a message must begin with BSEV, version 1 and 0 or 1", got, "look at the sender")
    if count > MOST_EVENTS:
        raise bad_value(_WHERE, f"a message must hold at most {MOST_EVENTS} events", count, "send several")
    if not -1 <= end <= LATEST_US:
        raise bad_value(_WHERE, "the end of a message must be -1 or a time below 2^62 us", end, "look at the sender")
    rows = np.frombuffer(_read(link, count * EVENT.itemsize, timeout), EVENT)
    if rows["zero"].any():
        raise bad_value(_WHERE, "the last three bytes of an event must be 0", "others", "look at the sender")
    t, x, y, p = (rows[name].astype(rows.dtype[name].newbyteorder("=")) for name in ("t", "x", "y", "p"))
    return Packet(t, x, y, p, None if end < 0 else end), bool(last)


def _read(link: socket.socket, count: int, timeout: float) -> bytearray:
    """So many bytes."""
    data = bytearray(count)
    view, have = memoryview(data), 0
    while have < count:
        try:
            got = link.recv_into(view[have:])
        except TimeoutError:
            raise _silent(timeout) from None
        except ConnectionError as error:
            raise _broken(error) from error
        if not got:
            raise _broken("its end")
        have += got
    return data


def _silent(timeout: float) -> ValueError:
    return ValueError(message(_WHERE, "something must come", f"nothing in {timeout} s", "raise timeout_s"))


def _broken(got: object) -> ValueError:
    return bad_value(_WHERE, "a connection must stay up to its last message", got, "look at the sender")
