"""The heap of this process, told to keep what torch frees and to use huge pages.

A training step allocates and frees the same hundreds of MiB over and over. glibc gives the top of the heap back to the
system when 64 MiB or more of it are free, and takes blocks above 32 MiB from the system each time; what comes back
costs a page fault, with the clearing of the page, for every 4 KiB.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading

from bitspike.checks import integer

RESERVE_BYTES = 8 << 30
# malloc.h and sys/mman.h of glibc; mallopt takes an int
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_KEPT, _ALL_MAPPINGS = 1 << 30, 65536
_HUGE_PAGE = 1 << 21
_LOCK = threading.Lock()


def keep_memory(reserve_bytes: int | None = None) -> str | None:
    """Keep freed memory for the next training step, in huge pages where the system has them.

    For a process that trains or runs networks on the CPU. Every `bitspike` command calls it; `fit` does not, because it
    is for the whole process. It changes no result. Memory that was used once stays with the process until it ends;
    blocks of 1 GiB and more do not. Call it before the first step; again, it reserves again. The reserve costs address
    space, no memory, until it is used.

    Args:
        reserve_bytes: part of the heap asked for in huge pages, >= 0. Default: half of the free memory, at most 8 GiB.

    Returns:
        None where it is done, else why nothing changed (another system, another allocator).

    Raises:
        TypeError: ``reserve_bytes`` is no int.
        ValueError: it is negative.
    """
    if reserve_bytes is None:
        reserve_bytes = min(RESERVE_BYTES, _free_bytes() // 2)
    reserve_bytes = integer("keep_memory", "reserve_bytes", reserve_bytes, 0, 1 << 62)
    if not sys.platform.startswith("linux"):
        return f"keep_memory is for Linux with glibc, this is {sys.platform}"
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return "keep_memory is for Linux with glibc, this is another C library"
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with _LOCK:
        libc.mallopt(_MMAP_MAX, 0)  # the reserve has to come from the heap
        try:
            start = libc.malloc(max(reserve_bytes, 1))
            if not start:
                return f"keep_memory: the system did not give {reserve_bytes} bytes of address space"
            try:
                if start + reserve_bytes > (libc.sbrk(0) or 0):
                    return "keep_memory is for glibc's allocator, another one is loaded"
                libc.mallopt(_TRIM_THRESHOLD, -1)
                libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
                first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
                last = (start + reserve_bytes) // _HUGE_PAGE * _HUGE_PAGE
                if last > first and hasattr(mmap, "MADV_HUGEPAGE"):
                    libc.madvise(first, last - first, mmap.MADV_HUGEPAGE)  # a hint: without such pages all goes on
            finally:
                libc.free(start)
        finally:
            libc.mallopt(_MMAP_MAX, _ALL_MAPPINGS)
    return None


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else RESERVE_BYTES
