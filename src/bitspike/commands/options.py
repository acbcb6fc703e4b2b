"""What the commands share: option types, output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from bitspike.files import write_json_atomic

LARGE = 2**31 - 1
"""No count on the command line is larger."""

Json = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a command's result where ``--json`` asks for it."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, document)
