"""The native library: found, checked and loaded once, at its first use; importing bitspike loads nothing.

It is built by ``pip install`` or ``make native`` where a C++ compiler works. Everything it does has a plain PyTorch
path beside it, so a missing library costs speed only; `why_missing` gives the reason. Two environment variables are
read at the first use: ``BITSPIKE_NATIVE=off`` leaves the library out, ``BITSPIKE_ISA=scalar|avx2|avx512`` caps the
instruction set (names of the engine's, `bitspike.runtime.engine`, mean the next lower one). Its loops run on the OpenMP
runtime that torch has loaded, never on a second one.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from bitspike.checks import bad_value, message, one_of

ABI = 6
ISAS = ("scalar", "avx2", "avx512")
_ENGINE_ISAS = {
    "amx": "avx512",
    "avx512vnni": "avx512",
    "avx512popcnt": "avx512",
    "neon": "scalar",
    "neondot": "scalar",
}
"""What the names of `bitspike.runtime.engine`, which reads the same variable, mean here."""
_LOCK = threading.Lock()
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


@dataclass(frozen=True)
class Native:
    """What loading came to.

    Args:
        library: the loaded library, or None.
        missing: why there is none, or None.
        isas: instruction sets that may be used here, the lowest first; empty without a library.
        openmp: file of the OpenMP runtime that runs the loops, or None where they run on one thread.
    """

    library: ctypes.CDLL | None
    missing: str | None
    isas: tuple[str, ...] = ()
    openmp: str | None = None


class _Symbol(ctypes.Structure):
    """``Dl_info`` of dladdr(3)."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def library() -> ctypes.CDLL | None:
    """The loaded library, or None where there is none or it is switched off.

    Raises:
        ValueError: an environment variable has an unknown value.
    """
    return loaded().library


def required() -> ctypes.CDLL:
    """The loaded library, for code that runs only where there is one.

    Raises:
        RuntimeError: there is none, with the reason.
    """
    found = library()
    if found is None:
        raise RuntimeError(why_missing())
    return found


def why_missing() -> str | None:
    """Why `library` is None, or None where it is loaded."""
    return loaded().missing


def loaded() -> Native:
    """The library with all that is known about it; a constant while torch traces."""
    with _LOCK:
        return _load()


def warn_if_missing() -> None:
    """Say once a process, as a `UserWarning`, that plain PyTorch serves because the library is missing.

    Nothing is said where ``BITSPIKE_NATIVE=off`` asked for it.
    """
    if loaded().library is None and not _off():
        _warn_once()


# What torch.compiler.assume_constant_result sets; calling that would import the compiler, a second of start-up.
for _function in (loaded, warn_if_missing):
    _function.__dict__["_dynamo_marked_constant"] = True


def threads_note() -> str:
    """On how many threads the library's loops run, and on whose."""
    found = loaded()
    if found.library is None:
        return f"no native library: {found.missing}"
    if found.openmp is None:
        return "one thread: torch's OpenMP runtime was not found or has no GOMP_parallel"
    return f"the threads of torch: {found.openmp}"


def available_isas() -> tuple[str, ...]:
    """Instruction sets that this library, this CPU and ``BITSPIKE_ISA`` allow, the lowest first; empty without one."""
    return loaded().isas


def isa_in_use() -> str | None:
    """The instruction set that the next native call takes, or None without a library."""
    native = library()
    return None if native is None else str(native.bitspike_isa().decode())


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Within the block every thread of the process uses at most this instruction set. For tests and benchmarks.

    Raises:
        ValueError: the library is missing, or the instruction set is not in `available_isas`.
    """
    native = library()
    if native is None:
        raise bad_value("native.isa", "the native library must be loaded", "none", "ask native.why_missing() why")
    one_of("native.isa", "the instruction set", name, available_isas())
    before = str(native.bitspike_isa().decode())
    native.bitspike_set_isa(ISAS.index(name))
    try:
        yield
    finally:
        native.bitspike_set_isa(ISAS.index(before))


def _off() -> bool:
    switch = os.environ.get("BITSPIKE_NATIVE") or "on"
    return one_of("native", "BITSPIKE_NATIVE", switch, ("on", "off")) == "off"


@cache
def _warn_once() -> None:
    warnings.warn(f"{why_missing()} Until then plain PyTorch serves; it is only slower.", stacklevel=3)


@cache
def _load() -> Native:
    asked = os.environ.get("BITSPIKE_ISA") or ISAS[-1]
    cap = one_of("native", "BITSPIKE_ISA", _ENGINE_ISAS.get(asked, asked), ISAS)
    if _off():
        todo = "unset BITSPIKE_NATIVE to use it"
        return Native(None, message("native", "the library must be on", "BITSPIKE_NATIVE=off", todo))
    package = sys.modules[__name__.rpartition(".")[0]]
    folders = [Path(entry) / "_native" for entry in package.__path__]
    files = [folder / f"libbitspike{_SUFFIX}" for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        must = f"libbitspike{_SUFFIX} must be in {' or '.join(map(str, folders))}"
        todo = "install a C++ compiler, then reinstall bitspike or run `make native`"
        return Native(None, message("native", must, "no such file", todo))
    native = _open(file)
    if isinstance(native, str):
        return Native(None, native)
    allowed = native.bitspike_set_isa(ISAS.index(cap))
    found = _torch_openmp()
    if found is not None:
        native.bitspike_set_parallel(found[0])
    return Native(native, None, ISAS[: allowed + 1], found[1] if found else None)


def _open(file: Path) -> ctypes.CDLL | str:
    """The library with its own functions declared, or why it is refused."""
    todo = "reinstall bitspike or run `make native`"
    try:
        native = ctypes.CDLL(str(file))
    except OSError as error:
        return message("native", f"{file} must load", error, todo)
    version = getattr(native, "bitspike_abi", None)
    got = None if version is None else int(version())
    if got != ABI:
        return message("native", f"the ABI of {file} must be {ABI}", got, todo)
    native.bitspike_set_parallel.argtypes, native.bitspike_set_parallel.restype = [ctypes.c_void_p], None
    native.bitspike_set_isa.argtypes, native.bitspike_set_isa.restype = [ctypes.c_int], ctypes.c_int
    native.bitspike_isa.argtypes, native.bitspike_isa.restype = [], ctypes.c_char_p
    return native


def _torch_openmp() -> tuple[int, str] | None:
    """Address and file of the ``GOMP_parallel`` that torch itself calls, looked up in the linker's own order.

    First the global scope (a preloaded runtime serves torch too), then libtorch_cpu and what it links. libgomp, libomp
    and libiomp5 all have the function. Nothing is loaded: RTLD_NOLOAD opens only what is there.
    """
    if sys.platform == "win32":  # torch's runtime there has no GOMP_parallel
        return None
    name = f"libtorch_cpu{_SUFFIX}"
    scopes: list[ctypes.CDLL] = [ctypes.CDLL(None)]
    for place in (str(Path(torch.__file__).parent / "lib" / name), name):
        try:
            scopes.append(ctypes.CDLL(place, mode=os.RTLD_NOLOAD | os.RTLD_NOW))
        except OSError:
            continue
    for scope in scopes:
        function = getattr(scope, "GOMP_parallel", None)
        address = None if function is None else ctypes.cast(function, ctypes.c_void_p).value
        if address is not None:
            return address, _file_of(address)
    return None


def _file_of(address: int) -> str:
    symbol = _Symbol()
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is None or not dladdr(ctypes.c_void_p(address), ctypes.byref(symbol)) or not symbol.file:
        return "an unnamed file"
    return os.path.realpath(os.fsdecode(symbol.file))
