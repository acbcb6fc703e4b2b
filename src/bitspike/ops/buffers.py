"""Large results of native kernels in buffers that are used again.

A general allocator gives a large buffer back to the system when it is freed, and taking it again costs a page fault for
every 4 KiB, a third of the time of a memory-bound kernel. Here a buffer waits for the next result of its size; no more
than `KEPT_BYTES` wait, the longest unused are freed first.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from bitspike import native

LARGE_BYTES = 1 << 18
KEPT_BYTES = 1 << 28
_HUGE_PAGE = 1 << 21


class _Kept:
    """Addresses that wait, by size; the size that was given back last is the last one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the last tensor may die while this thread holds it
        self._waiting: OrderedDict[int, list[int]] = OrderedDict()
        self.total_bytes = 0

    def take(self, size: int) -> int | None:
        with self._lock:
            waiting = self._waiting.get(size)
            if not waiting:
                return None
            self.total_bytes -= size
            return waiting.pop()

    def give(self, size: int, address: int) -> list[int]:
        """Keeps an address; returns those to be freed."""
        surplus = []
        with self._lock:
            self._waiting.setdefault(size, []).append(address)
            self._waiting.move_to_end(size)
            self.total_bytes += size
            for other, waiting in list(self._waiting.items()):
                while waiting and self.total_bytes > KEPT_BYTES:
                    surplus.append(waiting.pop(0))
                    self.total_bytes -= other
                if not waiting and other != size:
                    self._waiting.pop(other, None)
        return surplus

    def clear(self) -> list[int]:
        """Forgets all; returns what is to be freed."""
        with self._lock:
            found = [address for waiting in self._waiting.values() for address in waiting]
            self._waiting.clear()
            self.total_bytes = 0
        return found


_KEPT = _Kept()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous CPU tensor, no view of another, in a kept buffer where it is large."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < LARGE_BYTES:
        return torch.empty(shape, dtype=dtype, device="cpu")
    library = _library()
    align = _HUGE_PAGE if size >= 2 * _HUGE_PAGE else 1 << 16
    size = (size + align - 1) // align * align
    address = _KEPT.take(size) or library.bitspike_buffer_new(size, align)
    if not address:  # let torch say that memory has run out
        return torch.empty(shape, dtype=dtype, device="cpu")
    flat = torch.frombuffer(_owner(size).from_address(address), dtype=dtype, count=count)
    return flat.view(shape).detach()


def release() -> None:
    """Give all waiting buffers back to the system."""
    for address in _KEPT.clear():
        _library().bitspike_buffer_free(address)


@cache
def _owner(size: int) -> type[ctypes.Array[ctypes.c_uint8]]:
    """A type of bytes at an address that goes to the kept ones when the last tensor on it is gone."""
    library, kept = _library(), _KEPT

    def give_back(self: ctypes.Array[ctypes.c_uint8]) -> None:
        for address in kept.give(size, ctypes.addressof(self)):
            library.bitspike_buffer_free(address)

    return type("Buffer", (ctypes.c_uint8 * size,), {"__del__": give_back})


@cache
def _library() -> ctypes.CDLL:
    library = native.required()
    library.bitspike_buffer_new.argtypes = [ctypes.c_int64, ctypes.c_int64]
    library.bitspike_buffer_new.restype = ctypes.c_void_p
    library.bitspike_buffer_free.argtypes, library.bitspike_buffer_free.restype = [ctypes.c_void_p], None
    return library
