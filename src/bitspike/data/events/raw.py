"""What readers of files share: bytes that must be there, and header lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from bitspike.checks import bad_value, one_of
from bitspike.data.events.recording import POLICIES

AGAIN = "copy the file again from its source"
SKIP = f"{AGAIN}, or pass faults='skip'"
LONGEST_LINE = 4096
_TEXT = frozenset(range(0x20, 0x7F)) | {0x09}


@contextmanager
def opened(where: str, path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to read bytes from; `ValueError` in the house form where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error


def whole(where: str, count: int, size: int, faults: str) -> dict[str, int]:
    """What is skipped of ``count`` bytes in records of ``size``: a last record that is cut is a fault."""
    one_of(where, "faults", faults, POLICIES)
    rest = count % size
    if rest and faults == "error":
        must = f"the file must hold whole events of {size} bytes"
        raise bad_value(where, must, f"{rest} bytes of the last one", SKIP)
    return {"truncated": 1} if rest else {}


def header(where: str, file: IO[bytes], end: str | None = None) -> list[str]:
    """Lines of text that begin with ``#``, up to the first that does not, or up to and with the line ``end``.

    A "line" that is too long or holds other bytes than text is an event that happens to begin with that byte.
    Afterwards the file stands at the first event. A file that ends within a line of text is refused.
    """
    lines: list[str] = []
    while True:
        start = file.tell()
        line = file.readline(LONGEST_LINE)
        text = line.rstrip(b"\r\n")
        if line.startswith(b"#") and not line.endswith(b"\n") and _TEXT.issuperset(text) and not file.read(1):
            raise bad_value(where, "the header must be whole", "the end of the file within it", AGAIN)
        file.seek(start + len(line))
        if not line.startswith(b"#") or not line.endswith(b"\n") or not _TEXT.issuperset(text):
            file.seek(start)
            return lines
        lines.append(text.decode("ascii"))
        if lines[-1] == end:
            return lines


def version(where: str, lines: list[str], wanted: str) -> None:
    """Raise unless the first line says ``wanted``, such as "#!AER-DAT2.0"."""
    if not lines or lines[0].rstrip() != wanted:
        got = repr(lines[0][:40]) if lines else "no header"
        raise bad_value(where, f"the first line must be {wanted}", got, "take the reader of that format")
