"""MODEL.bitspike: one safetensors file whose metadata hold the program; `docs/program-format.md` is its page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .arithmetic import Array
from .digest import NOTHING, digest
from .document import read_document, write_document
from .engine.tuned import plan_path, read_plan
from .errors import fault
from .limits import MAX_FILE_BYTES, MAX_HEADER_BYTES
from .packing import pack, packed_size, unpack
from .program import Program
from .spec import Constant, Spec
from .strict_json import parse

KEY = "bitspike.program"
"""The only entry of the metadata."""
_TYPES = {"U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4"}
_NAMES = {"uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32"}


def save(program: Program, path: str | Path) -> int:
    """Write a program, whole or not at all; returns the bytes. The same program gives the same bytes everywhere."""
    data = to_bytes(program.spec)
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return len(data)


def load(path: str | Path, engine: str = "auto", threads: int | None = None, plan: bool = True) -> Program:
    """Read and verify a program.

    Args:
        path: the file. engine, threads: as `Program` says.
        plan: take the plan that `autotune` has left beside the file, if there is one; ``program.engine.line`` names it,
            and says why where it does not hold here.

    Raises:
        ProgramError: the file is malformed, truncated, of another version, or not a legal program, or the engine cannot
            be had, or the plan is malformed. OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise fault("file", f"it must have at most {MAX_FILE_BYTES:,} bytes", f"{size:,}", "check what it is")
        data = file.read(size)
    spec, sha256 = _read(data)
    tuned = read_plan(plan_path(path), sha256) if plan and engine != "interpreter" else None
    return Program(spec, engine, threads, forms=tuned)


def to_bytes(spec: Spec) -> bytes:
    """The file of a program, as safetensors lays it out: wide types first, then by name, without holes."""
    return _written(spec)[0]


def digest_of(spec: Spec) -> str:
    """The digest that the file of a program names."""
    return _written(spec)[1]


def _written(spec: Spec) -> tuple[bytes, str]:
    """(the file, its digest)."""
    stored = {name: _stored(constant) for name, constant in spec.constants.items()}
    order = sorted(stored, key=lambda name: (-stored[name].dtype.itemsize, name))
    parts = [stored[name].astype(stored[name].dtype.newbyteorder("<"), copy=False).tobytes() for name in order]
    body = b"".join(parts)
    document = write_document(spec, NOTHING)
    header: dict[str, Any] = {"__metadata__": {KEY: json.dumps(document, ensure_ascii=True, separators=(",", ":"))}}
    place = 0
    for name, part in zip(order, parts, strict=True):
        array = stored[name]
        ends = [place, place + len(part)]
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": ends}
        place += len(part)
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sha256 = digest(text, body)
    text = text.replace(NOTHING.encode(), sha256.encode(), 1)
    return len(text).to_bytes(8, "little") + text + body, sha256


def from_bytes(data: bytes) -> Spec:
    """The spec in a file, not yet verified."""
    return _read(data)[0]


def _read(data: bytes) -> tuple[Spec, str]:
    """(the spec, its digest)."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= size <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise fault("file", "it must be a safetensors file with its header", f"{len(data)} bytes", "fetch it again")
    raw, body = data[8 : 8 + size], memoryview(data)[8 + size :]
    header = parse(raw, "header")
    metadata = header.pop("__metadata__", None)
    text = metadata.get(KEY) if isinstance(metadata, dict) and len(metadata) == 1 else None
    if not isinstance(text, str):
        raise fault("file", f"its metadata must hold {KEY} alone", type(metadata).__name__, "is it a bitspike program?")
    tensors = _tensors(header, body)
    document = read_document(parse(text.encode("utf-8", "surrogatepass"), "program"))
    if digest(raw, body, document.sha256) != document.sha256:
        raise fault("file", "it must have the digest that it names", "another", "fetch it again")
    if set(tensors) != set(document.constants):
        raise fault(
            "file", "its tensors must be the constants", sorted(set(tensors) ^ set(document.constants)), "save it again"
        )
    constants = {}
    for name, (shape, grid) in document.constants.items():
        where, array = f"constant {name}", tensors[name]
        if grid is None:
            if array.dtype.name == "uint8" or array.shape != shape:
                raise fault(
                    where,
                    f"it must be a signed tensor {list(shape)}",
                    f"{array.dtype} {list(array.shape)}",
                    "save it again",
                )
            constants[name] = Constant(array)
            continue
        count = int(np.prod(shape, dtype=object))
        if array.dtype.name != "uint8" or array.shape != (packed_size(count, grid),):
            must = f"{list(shape)} at {grid.bits} bits takes {packed_size(count, grid)} bytes of U8"
            raise fault(where, must, f"{array.dtype} {list(array.shape)}", "save it again")
        constants[name] = Constant(unpack(array, grid, shape, where), grid)
    return document.spec(constants), document.sha256


def _stored(constant: Constant) -> Array:
    return constant.array if constant.grid is None else pack(constant.array, constant.grid)


def _tensors(header: dict[str, Any], body: memoryview) -> dict[str, Array]:
    """Name → view of the tensors; they must fill the file without holes or overlaps."""
    found, spans = {}, []
    for name, entry in header.items():
        where = f"tensor {name}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise fault(where, "it must have dtype, shape and data_offsets", entry, "fetch the file again")
        kind, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in _TYPES:
            raise fault(where, f"its dtype must be one of {', '.join(_TYPES)}", kind, "fetch the file again")
        if not _naturals(shape, 1) or not _naturals(ends, 0) or len(shape) > 8 or len(ends) != 2:
            must = "shape must be lengths >= 1, data_offsets two integers >= 0"
            raise fault(where, must, entry, "fetch the file again")
        dtype, count = np.dtype(_TYPES[kind]), int(np.prod(shape, dtype=object))
        if not ends[0] <= ends[1] <= len(body) or ends[1] - ends[0] != count * dtype.itemsize:
            raise fault(where, f"its {count} numbers must lie inside the file", ends, "fetch the file again")
        spans.append((ends[0], ends[1]))
        flat = np.frombuffer(body[ends[0] : ends[1]], dtype)
        found[name] = flat.reshape(shape).astype(dtype.newbyteorder("="), copy=kind != "U8")
    place = 0
    for start, end in sorted(spans):
        if start != place:
            raise fault("file", f"a tensor must begin at byte {place}", start, "fetch the file again")
        place = end
    if place != len(body):
        raise fault("file", f"its tensors must end at byte {len(body)}", place, "fetch the file again")
    return found


def _naturals(items: object, least: int) -> bool:
    return isinstance(items, list) and all(type(item) is int and item >= least for item in items)
