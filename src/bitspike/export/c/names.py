"""Texts that stand in C: identifiers, comments, strings, numbers."""

from __future__ import annotations

import re

import numpy as np

from bitspike.runtime.arithmetic import Array, storage

INT32_MIN = -(2**31)


def prefix(name: str) -> str:
    """An identifier that begins what a network defines.

    >>> prefix("digits"), prefix("3 bits!"), prefix("")
    ('digits', 'n3_bits_', 'network')
    """
    found = re.sub(r"[^A-Za-z0-9_]", "_", name) or "network"
    return found if found[0].isalpha() else f"n{found}"


def comment(text: str) -> str:
    """A text that can stand in a comment, whatever it holds.

    >>> comment("a*/b")
    'a__b'
    """
    return re.sub(r"[^A-Za-z0-9_. ,()+-]", "_", text)


def string(text: str) -> str:
    r"""A literal of the UTF-8 bytes of a text.

    >>> string('a"b'), string("??/"), string("é1")
    ('"a\\042b"', '"\\077\\077/"', '"\\303\\2511"')
    """
    plain = re.compile(rb"[A-Za-z0-9_. ,()+/:-]")
    bytes_ = (bytes([byte]) for byte in text.encode("utf-8", "surrogatepass"))
    return '"' + "".join(b.decode() if plain.match(b) else f"\\{b[0]:03o}" for b in bytes_) + '"'


def literal(k: int) -> str:
    """An integer constant of a type that holds it.

    >>> literal(-5), literal(-2**31), literal(2**31)
    ('-5', '(-2147483647 - 1)', 'INT64_C(2147483648)')
    """
    k = int(k)
    if INT32_MIN < k < 2**31:
        return str(k)
    if k == INT32_MIN:
        return "(-2147483647 - 1)"
    if k == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    return f"INT64_C({k})" if k > 0 else f"(-INT64_C({-k}))"


def ctype(dtype: object) -> str:
    """int8 → int8_t."""
    return f"{np.dtype(dtype).name}_t"  # type: ignore[call-overload]


def scalar(low: int, high: int) -> str:
    """Type of one number in a calculation."""
    return "int32_t" if low >= INT32_MIN and high < 2**31 else "int64_t"


class Constants:
    """Tables in flash, each once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size_bytes: int = 0
        self._known: dict[tuple[str, bytes], str] = {}

    def table(self, array: Array, dtype: object | None = None) -> str:
        """Name of a table with these numbers, by default in the smallest type."""
        flat = np.ascontiguousarray(array).reshape(-1)
        kind = storage(int(flat.min()), int(flat.max())) if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]
        flat = flat.astype(kind)
        key = kind.name, flat.tobytes()
        if key not in self._known:
            name = self._known[key] = f"k{len(self._known)}"
            self.size_bytes += flat.nbytes
            unsigned = "u" if kind.name == "uint32" else ""
            words = [f"{k}u" if unsigned else literal(k) for k in flat.tolist()]
            self.lines.append(f"static const {ctype(kind)} {name}[{len(words)}] = {{")
            self.lines.extend(_filled(words))
            self.lines.append("};")
        return self._known[key]


def _filled(words: list[str]) -> list[str]:
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) > 108:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return [*lines, line]
