"""A plan that was measured: forms of kernels beside the file of a program, and what they hold for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import fault
from ..limits import MAX_OPERATIONS
from ..strict_json import parse
from .library import ABI

FORMAT, VERSION = "bitspike.plan", 1
_KEYS = {"format", "version", "program", "isa", "threads", "abi", "forms", "us"}
_MAX_BYTES = 2**22
_TODO = "delete it, or make it again with `bitspike bench MODEL --autotune`"


@dataclass(frozen=True)
class Tuned:
    """Forms that were fastest.

    Attributes:
        program: digest of the program. isa, threads, abi: of the engine that was measured.
        forms: operation → form. us: operation → form → µs of its group for one sample.
        file: where it lies, "" where it was not read. ignored: why it does not hold, "" where it may.
    """

    program: str
    isa: str
    threads: int
    forms: Mapping[str, str]
    us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    abi: int = ABI
    file: str = ""
    ignored: str = ""

    def held_against(self, isa: str, threads: int) -> Tuned:
        """The same, ignored where it is for another engine than this one."""
        pairs = (
            ("instruction set", self.isa, isa),
            ("limit of threads", self.threads, threads),
            ("ABI", self.abi, ABI),
        )
        for what, its, this in pairs:
            if not self.ignored and its != this:
                return replace(self, ignored=f"its {what} is {its}, and here it is {this}")
        return self

    def __str__(self) -> str:
        return f"plan {self.file or 'given'}" + (f" ignored: {self.ignored}" if self.ignored else "")


def plan_path(model: str | Path) -> Path:
    """Where the plan of a program lies: ``MODEL.bitspike.plan.json`` beside ``MODEL.bitspike``."""
    return Path(model).with_name(f"{Path(model).name}.plan.json")


def write_plan(tuned: Tuned, path: str | Path) -> None:
    """Write a plan, whole or not at all."""
    keys = ("program", "isa", "threads", "abi")
    document = {"format": FORMAT, "version": VERSION, **{key: getattr(tuned, key) for key in keys}}
    document |= {"forms": dict(tuned.forms), "us": {name: dict(row) for name, row in tuned.us.items()}}
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def read_plan(path: Path, program: str) -> Tuned | None:
    """The plan in a file, ignored where it is of another version or for another program; None where there is no file.

    Args:
        path: the file. program: digest of the program that is to run.

    Raises:
        ProgramError: it is malformed. OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    where = path.name
    if len(data) > _MAX_BYTES:
        raise fault(where, f"a plan must have at most {_MAX_BYTES:,} bytes", "more", _TODO)
    raw = parse(data, where)
    version = raw.get("version")
    if raw.get("format") != FORMAT or type(version) is not int:
        raise fault(where, f"it must be a plan, of format {FORMAT}", repr(raw.get("format")), _TODO)
    if version != VERSION:
        return Tuned("", "", 0, {}, file=where, ignored=f"it is of version {version}, and here it is {VERSION}")
    if set(raw) != _KEYS:
        raise fault(where, f"it must have the keys {', '.join(sorted(_KEYS))}", ", ".join(sorted(raw)), _TODO)
    named = (("program", str), ("isa", str), ("threads", int), ("abi", int), ("forms", dict), ("us", dict))
    for key, kind in named:
        if type(raw[key]) is not kind:
            raise fault(where, f"{key} must be of type {kind.__name__}", type(raw[key]).__name__, _TODO)
    forms = _texts(where, "forms", raw["forms"])
    us = {name: _times(where, name, row) for name, row in raw["us"].items()}
    found = Tuned(raw["program"], raw["isa"], raw["threads"], forms, us, raw["abi"], where)
    return found if found.program == program else replace(found, ignored="it is for another program")


def _texts(where: str, key: str, row: dict[str, Any]) -> dict[str, str]:
    if len(row) > MAX_OPERATIONS or not all(isinstance(value, str) for value in row.values()):
        raise fault(where, f"{key} must give a text for each of at most {MAX_OPERATIONS} operations", "other", _TODO)
    return row


def _times(where: str, name: str, row: object) -> dict[str, float]:
    fine = isinstance(row, dict) and all(
        type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in row.values()
    )
    if not fine:
        raise fault(where, f"us of {name[:64]!r} must be times of forms", type(row).__name__, _TODO)
    return row  # type: ignore[return-value]
