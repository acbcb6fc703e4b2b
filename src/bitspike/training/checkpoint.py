"""Checkpoints: two files that take turns, each whole, hashed, and free of pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.files import write_bytes_atomic

_NAMES = ("a.safetensors", "b.safetensors")


@dataclass
class Checkpoint:
    """What a checkpoint holds: named tensors, and facts as plain JSON values (``order`` numbers the checkpoints)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run in one folder.

    A new checkpoint is written over the older of two files, atomically, so that a kill at any moment leaves at least
    one whole file. Each file carries a hash of everything in it; a damaged one is reported and the other one is used.

    Args:
        folder: created if missing. key: identity of the run (recipe and data); another run's files are refused.
        earlier: identities that the run had before its recipe was changed; their files are read too.
    """

    def __init__(self, folder: Path, key: str, earlier: Collection[str] = ()) -> None:
        self.folder: Path = folder
        self.key: str = key
        self.earlier: Collection[str] = earlier
        self.notes: list[str] = []
        self._orders: list[int] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint over the older file; returns its path."""
        if self._orders is None:
            self._orders = [self._order(self.folder / name) for name in _NAMES]
        orders = self._orders
        older = orders.index(min(orders))
        place = self.folder / _NAMES[older]
        facts = json.dumps({**checkpoint.facts, "key": self.key, "order": max(orders) + 1}, allow_nan=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        metadata = {"facts": facts, "sha256": content_hash(tensors, facts)}
        write_bytes_atomic(place, save(tensors, metadata))
        orders[older] = max(orders) + 1
        return place

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None where there is none; damaged files are named in ``notes``.

        Raises:
            ValueError: the checkpoints are of another recipe or other data, or every file there is is damaged.
        """
        found: list[Checkpoint] = []
        damaged = []
        for path in (self.folder / name for name in _NAMES):
            if not path.exists():
                continue
            try:
                found.append(read_checkpoint(path))
            except ValueError as error:
                damaged.append(str(error))
        self.notes = damaged
        if damaged and not found:
            raise bad_value("resume", "one whole checkpoint must be left", "; ".join(damaged), "start the run afresh")
        for checkpoint in found:
            if checkpoint.facts["key"] not in (self.key, *self.earlier):
                must = "the checkpoints must be of this recipe and data"
                raise bad_value("resume", must, f"key {checkpoint.facts['key'][:12]}", "take another folder")
        return max(found, key=lambda c: int(c.facts["order"]), default=None)

    @staticmethod
    def _order(path: Path) -> int:
        """Number of a whole checkpoint; -1 where there is none, so that a damaged file is overwritten first."""
        try:
            return int(read_checkpoint(path).facts["order"])
        except (ValueError, OSError):
            return -1


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one file.

    Raises:
        ValueError: truncated, altered, or not a checkpoint; names the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        facts, digest = metadata["facts"], metadata["sha256"]
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, OSError) as error:
        raise bad_value(str(path), "it must be a whole checkpoint", error, "use the previous one") from error
    if content_hash(tensors, facts) != digest:
        raise bad_value(str(path), "its contents must match their hash", "other bytes", "use the previous one")
    return Checkpoint(tensors, json.loads(facts))


def content_hash(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 (hex) of texts, names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
