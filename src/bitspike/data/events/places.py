"""Where the files of a set of recordings are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from bitspike.checks import bad_value


def folder_of(
    where: str, root: str | os.PathLike[str], names: tuple[str, ...], holds: Callable[[Path], bool], what: str
) -> Path:
    """The first of ``root/name`` and ``root`` that holds the files.

    Raises:
        ValueError: none does; ``what`` says what must be there.
    """
    base = Path(root)
    for place in (*(base / name for name in names), base):
        if place.is_dir() and holds(place):
            return place
    must = f"{base}, or {' or '.join(names)} in it, must hold {what}"
    raise bad_value(where, must, "no such files", "copy them there or pass another root")


def numbered(where: str, folder: Path, suffixes: tuple[str, ...]) -> list[tuple[int, Path]]:
    """Files of a folder by the last number in their names, in its order: (number, path).

    Raises:
        ValueError: a name without a number, or one number twice.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        digits = re.findall(r"\d+", path.stem)
        if not digits or int(digits[-1]) in found:
            must = f"files of {folder} must be numbered, each with a number of its own"
            raise bad_value(where, must, path.name, "give it its own name back")
        found[int(digits[-1])] = path
    return sorted(found.items())
