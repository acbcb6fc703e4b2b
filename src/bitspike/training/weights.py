"""Files of weights with a hash of everything in them, so that a damaged byte is noticed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.files import write_bytes_atomic
from bitspike.training.checkpoint import content_hash

_HASH = "sha256"


def save_weights(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors atomically, with short facts and the hash of both in the file's metadata, in one order."""
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}  # parts may share one
    metadata = {**facts, _HASH: content_hash(whole, _text(facts))}
    write_bytes_atomic(path, _in_order(save(whole, metadata)))


def read_weights(path: Path, todo: str, hashed: bool = False) -> dict[str, Tensor]:
    """The tensors of a file, checked against its hash where it has one.

    Args:
        path: the file. todo: what to do about a damaged one.
        hashed: whether it is one of those that `save_weights` writes; where it is older and has no hash, a warning says
            so. Other .safetensors files have none.

    Raises:
        ValueError: no whole .safetensors file, or contents that differ from their hash. OSError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise bad_value(str(path), "it must be a whole safetensors file", error, todo) from error
    found = metadata.pop(_HASH, None)
    if found is not None and found != content_hash(tensors, _text(metadata)):
        raise bad_value(str(path), "its contents must match their hash", "other bytes", todo)
    if found is None and hashed:
        warnings.warn(f"{path} has no hash (an older version wrote it): damage would not be noticed.", stacklevel=3)
    return tensors


def read_facts(path: Path) -> dict[str, str]:
    """The facts of a file that has a hash, unchecked; {} of any other one."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, str] = dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}
    return facts if facts.pop(_HASH, None) is not None else {}


def _in_order(data: bytes) -> bytes:
    """The same .safetensors file with its metadata sorted by name; the library writes it in any order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def _text(facts: Mapping[str, str]) -> str:
    return json.dumps(dict(facts), sort_keys=True)
