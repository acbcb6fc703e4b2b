"""Reader of the pickles in CIFAR's "python" layout that calls nothing the file names.

A pickle is a program: it may name any function and call it. Here the few globals that a stored numpy array needs are
answered with stand-ins that only remember their arguments, every other global is refused by name, and opcodes beyond
those that containers and arrays need are refused before anything is read.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bitspike.checks import bad_value

OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT"
    " BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 BINUNICODE SHORT_BINUNICODE BINUNICODE8"
    " EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS"
    " BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
DTYPES = frozenset("b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split())
UNSOUND = (pickle.UnpicklingError, EOFError, ValueError, AttributeError, LookupError, TypeError, OverflowError)
AXES = 8
MOST_CALLS = 1000
"""A file of CIFAR calls two functions and builds about ten tuples."""

TODO = "pass an original file, or use the binary layout"


class StoredArray:
    """What a pickle says about one numpy array; `array` checks it and makes the array."""

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def array(self, where: str) -> np.ndarray:
        """Return the array, writable.

        Raises:
            ValueError: the state is not (version, shape, dtype, order, bytes) of a numeric array.
        """
        state = self._state
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], _Dtype)):
            raise bad_value(where, "an array must have a shape, a dtype and bytes", type(state).__name__, TODO)
        _, shape, dtype, fortran, raw = state
        kind = dtype.numpy(where)
        if not (isinstance(shape, tuple) and len(shape) <= AXES and all(type(n) is int and n >= 0 for n in shape)):
            raise bad_value(where, f"the shape of an array must be a tuple of up to {AXES} sizes", _brief(shape), TODO)
        data = _bytes(where, raw)
        if len(data) != prod(shape) * kind.itemsize:
            must = f"an array of {kind} {list(shape)} must hold {prod(shape) * kind.itemsize} bytes"
            raise bad_value(where, must, len(data), TODO)
        return np.frombuffer(bytearray(data), dtype=kind).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """What a pickle says about one dtype: its code and byte order."""

    def __init__(self, code: Any) -> None:
        self._code, self._state = code, None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def numpy(self, where: str) -> np.dtype:
        """The dtype, if it is a plain number's."""
        code = self._code.decode("latin1") if isinstance(self._code, bytes) else self._code
        order = self._state[1] if isinstance(self._state, tuple) and len(self._state) > 1 else "|"
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if not (isinstance(code, str) and code in DTYPES and isinstance(order, str) and order in ("|", "<", ">", "=")):
            raise bad_value(where, "the dtype of an array must be a plain number's", _brief(code), TODO)
        return np.dtype(order.replace("|", "=") + code)


class _Global:
    """Stand-in for one allowed global; a fresh one for each time it is named, so that nothing outlives the file."""

    def __init__(self, where: str, name: str) -> None:
        self._where, self._name = where, name

    def __call__(self, *arguments: Any) -> Any:
        if self._name == "_reconstruct":
            return StoredArray()
        if self._name == "dtype" and arguments:
            return _Dtype(arguments[0])
        if self._name == "_frombuffer" and len(arguments) == 4:
            raw, dtype, shape, order = arguments
            stored = StoredArray()
            stored.__setstate__((1, shape, dtype, order == "F", raw))
            return stored
        if self._name == "encode" and len(arguments) == 2 and arguments[1] == "latin1":
            return _bytes(self._where, arguments[0])
        if self._name == "bytes" and not arguments:
            return b""
        raise bad_value(self._where, f"{self._name} must be called as numpy calls it", _brief(arguments), TODO)

    def __setstate__(self, state: Any) -> NoReturn:
        raise bad_value(self._where, f"{self._name} must not be changed", _brief(state), TODO)


ALLOWED = {
    (module, name)
    for modules, name in (
        (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct"),
        (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
        (("numpy",), "ndarray"),
        (("numpy",), "dtype"),
        (("_codecs",), "encode"),
        (("builtins", "__builtin__"), "bytes"),
    )
    for module in modules
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the `ALLOWED` globals only, and those as stand-ins."""

    def __init__(self, where: str, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        _check_global(self._where, module, name)
        return _Global(self._where, name)


def load_restricted(path: str | os.PathLike[str]) -> object:
    """Read a pickle of containers, numbers, strings, bytes and numeric numpy arrays, without running what it names.

    Strings of Python 2 come as bytes, arrays as `StoredArray`. A hostile file can waste time and memory in proportion
    to what it builds; it cannot call anything.

    Args:
        path: the file.

    Returns:
        What the pickle describes.

    Raises:
        ValueError: a missing, truncated or damaged file, or one that names another global or uses another opcode.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(pickle.dumps({"labels": [3, 1]}))
    ...     file.flush()
    ...     load_restricted(file.name)
    {'labels': [3, 1]}
    """
    where = f"load_restricted {os.fspath(path)}"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error
    _scan(where, data)
    try:
        return _Unpickler(where, data).load()
    except UNSOUND as error:
        if str(error).startswith(where):
            raise
        raise bad_value(where, "the pickle must be sound", error, TODO) from error


def _scan(where: str, data: bytes) -> None:
    """Look at every opcode before anything is built; only what `OPCODES` and `ALLOWED` name may follow."""
    calls, end = 0, 0
    for number, (name, argument, place) in enumerate(_opcodes(where, data)):
        if name in ("GLOBAL", "INST"):
            _check_global(where, *str(argument).split(" ", 1))
        if name not in OPCODES:
            raise bad_value(where, "the pickle must hold containers and arrays only", f"the opcode {name}", TODO)
        if name in ("BINPUT", "LONG_BINPUT") and argument > number:  # else a memo of any size is allocated
            raise bad_value(where, "the pickle must number what it keeps in order", argument, TODO)
        calls += name.startswith(("TUPLE", "REDUCE", "BUILD"))
        if calls > MOST_CALLS:  # very deep tuples overflow the stack when they are hashed
            raise bad_value(where, f"the pickle must make at most {MOST_CALLS} tuples and calls", "more", TODO)
        end = place + 1
    if end != len(data):
        raise bad_value(where, "the pickle must end with the file", f"{len(data) - end} bytes more", TODO)


def _opcodes(where: str, data: bytes) -> Iterator[tuple[str, Any, int]]:
    """(name, argument, place) of each opcode; each is complete when it comes."""
    source = pickletools.genops(data)
    while True:
        try:
            opcode, argument, place = next(source)
        except StopIteration:
            return
        except (ValueError, IndexError, OverflowError) as error:
            raise bad_value(where, "the pickle must be complete and sound", error, TODO) from error
        yield opcode.name, argument, place or 0


def _check_global(where: str, module: str, name: str) -> None:
    """Raise unless the global is one that a stored array needs."""
    if (module, name) not in ALLOWED:
        must = "the pickle must name nothing but numpy arrays"
        raise bad_value(where, must, f"the global {module}.{name}", f"do not trust it: {TODO}")


def _bytes(where: str, raw: Any) -> bytes:
    """``raw`` as bytes, from bytes or from text of which each character is a byte."""
    try:
        return raw.encode("latin1") if isinstance(raw, str) else memoryview(raw).tobytes()
    except (TypeError, UnicodeEncodeError) as error:
        raise bad_value(where, "the bytes of an array must be bytes", type(raw).__name__, TODO) from error


def _brief(value: object) -> str:
    """A value in few characters; of containers the kind only, since their text may be endless."""
    return repr(value[:40]) if isinstance(value, str | bytes) else type(value).__name__
