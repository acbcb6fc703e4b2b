"""The engine's shared library: found, checked and loaded once, at its first use; it needs neither torch nor OpenMP.

Two environment variables count. ``BITSPIKE_NATIVE=off``, read at the first use, leaves it out. ``BITSPIKE_ISA`` caps
the instruction set of what is made afterwards (names of `available_isas`; a name of the training kernels means the next
lower one here).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from functools import cache
from pathlib import Path

from ..errors import fault

ABI = 6
ISAS = ("scalar", "avx2", "avx512vnni", "avx512popcnt", "amx", "neon", "neondot")
"""By number, as in csrc/engine/kernels.h."""
_CAPS = {
    "scalar": ("scalar",),
    "avx2": ("scalar", "avx2"),
    "avx512": ("scalar", "avx2", "avx512vnni", "avx512popcnt"),
    "avx512vnni": ("scalar", "avx2", "avx512vnni"),
    "avx512popcnt": ("scalar", "avx2", "avx512vnni", "avx512popcnt"),
    "amx": ("scalar", "avx2", "avx512vnni", "avx512popcnt", "amx"),
    "neon": ("scalar", "neon"),
    "neondot": ("scalar", "neon", "neondot"),
}
"""What is left below a cap."""
_LOCK = threading.Lock()
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_SIGNATURES = {
    "bitspike_engine_isa": ([_INT], ctypes.c_char_p),
    "bitspike_engine_create": ([_POINTER, _LONG, _POINTER, _POINTER, _LONG, _INT, _POINTER], _POINTER),
    "bitspike_engine_free": ([_POINTER], None),
    "bitspike_engine_reset": ([_POINTER, _POINTER, _LONG], None),
    "bitspike_engine_workspace": ([_POINTER, _LONG, _INT], _LONG),
    "bitspike_engine_group": ([_POINTER, _LONG, _POINTER], None),
    "bitspike_engine_run": (
        [
            *(_POINTER, _POINTER, _INT, _LONG, _LONG, _LONG, _INT, _LONG),
            *(_POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER),
        ],
        _INT,
    ),
    "bitspike_engine_scale": ([_POINTER, ctypes.c_double, _INT, _INT], None),
    "bitspike_engine_quantize": ([_POINTER, _POINTER, _POINTER, _LONG], _INT),
    "bitspike_engine_peak": ([_INT, _INT, _INT], ctypes.c_double),
}


def library() -> ctypes.CDLL | None:
    """The loaded library, or None where there is none or it is switched off."""
    found = _loaded()
    return None if isinstance(found, str) else found


def why_missing() -> str | None:
    """Why there is no engine, or None where there is one."""
    found = _loaded()
    return found if isinstance(found, str) else None


def available_isas() -> tuple[str, ...]:
    """Instruction sets that this library, this CPU and ``BITSPIKE_ISA`` allow, the lowest first; empty without one."""
    native = library()
    if native is None:
        return ()
    asked = os.environ.get("BITSPIKE_ISA")
    if asked and asked not in _CAPS:
        raise fault("engine", f"BITSPIKE_ISA must be one of {', '.join(_CAPS)}", asked, "correct it")
    allowed = _CAPS[asked] if asked else ISAS
    return tuple(isa for isa in allowed if native.bitspike_engine_isa(number_of(isa)))


def number_of(isa: str) -> int:
    """Its number in the library."""
    return ISAS.index(isa)


def _loaded() -> ctypes.CDLL | str:
    with _LOCK:
        return _load()


@cache
def _load() -> ctypes.CDLL | str:
    if os.environ.get("BITSPIKE_NATIVE", "on") == "off":
        return "engine: the library must be on, got BITSPIKE_NATIVE=off; unset it to use the engine."
    file = Path(__file__).resolve().parent.parent / "_native" / f"libbitspike_engine{_SUFFIX}"
    todo = "install a C++ compiler and build it again (`make native` in a checkout)"
    if not file.is_file():
        return str(fault("engine", f"{file} must be there", "no such file", todo))
    try:
        native = ctypes.CDLL(str(file))
    except OSError as error:
        return str(fault("engine", f"{file} must load", error, todo))
    version = getattr(native, "bitspike_engine_abi", None)
    got = None if version is None else int(version())
    if got != ABI:
        return str(fault("engine", f"the ABI of {file} must be {ABI}", got, todo))
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(native, name)
        function.argtypes, function.restype = arguments, result
    return native
