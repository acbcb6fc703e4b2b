"""Levels as bits: the code of a level is its place in its alphabet, codes follow one another, lowest bit first."""

from __future__ import annotations

import numpy as np

from .arithmetic import Array, storage
from .errors import fault
from .spec import Grid

_CODES = 2**20
"""Codes at a time, a multiple of 8."""


def packed_size(count: int, grid: Grid) -> int:
    """Bytes that so many levels take."""
    return -(-count * grid.bits // 8)


def pack(array: Array, grid: Grid) -> Array:
    """Levels of any shape → uint8 [⌈count·bits/8⌉]; the same bytes as `bitspike.pack`.

    >>> pack(np.array([1, -1, 1, 1]), Grid(-1, 1, stride=2))
    array([13], dtype=uint8)
    """
    flat = array.reshape(-1).astype(np.int64)
    if grid.spacing == "power":
        codes = np.searchsorted(np.array(grid.levels), flat)
    else:
        codes = (flat - grid.low) // grid.stride
    bits, parts = grid.bits, []
    for start in range(0, len(codes), _CODES):
        part = codes[start : start + _CODES, None] >> np.arange(bits)
        parts.append(np.packbits((part & 1).astype(np.uint8).reshape(-1), bitorder="little"))
    return np.concatenate(parts)


def unpack(packed: Array, grid: Grid, shape: tuple[int, ...], where: str = "unpack") -> Array:
    """The inverse of `pack`, in the storage type of the grid; raises where a code is no level.

    >>> unpack(np.array([13], np.uint8), Grid(-1, 1, stride=2), (4,)).tolist()
    [1, -1, 1, 1]
    """
    count, bits = int(np.prod(shape, dtype=np.int64)), grid.bits
    levels, kind = grid.levels, storage(grid.low, grid.high)
    out = np.empty(count, kind)
    for start in range(0, count, _CODES):
        size = min(_CODES, count - start)
        chunk = packed[start * bits // 8 : -(-(start + size) * bits // 8)]
        rows = np.unpackbits(chunk, bitorder="little")[: size * bits].reshape(size, bits)
        codes = np.zeros(size, np.int64)
        for place in range(bits):
            codes |= rows[:, place].astype(np.int64) << place
        if int(codes.max()) >= len(levels):
            raise fault(where, f"codes must lie below {len(levels)}", int(codes.max()), "write the file again")
        if grid.spacing == "power":
            out[start : start + size] = np.array(levels, kind)[codes]
        else:
            out[start : start + size] = (codes * grid.stride + grid.low).astype(kind)
    unused = count * bits % 8
    if unused and int(packed[-1]) >> unused:
        raise fault(where, "bits behind the last code must be 0", f"byte {int(packed[-1])}", "write the file again")
    return out.reshape(shape)
