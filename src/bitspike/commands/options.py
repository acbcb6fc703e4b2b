"""What the commands share: option types, built-in recipes, output."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tyro

from bitspike.checks import bad_value, suggestion
from bitspike.training.files import write_json_atomic

Json = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def builtin(kind: str, name: str, queues: bool) -> Path:
    """A file named on the command line, or a built-in recipe or queue of that name.

    Args:
        kind: what error messages call it. name: path or built-in name. queues: whether a queue is wanted.

    Raises:
        ValueError: neither; suggests the nearest built-in name.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(str(resources.files("bitspike") / "recipes"))
    known = {path.stem: path for path in sorted(folder.glob("*.toml")) if ("[[arms]]" in path.read_text()) == queues}
    if name not in known:
        must = f"it must be a file or one of {', '.join(known)}"
        raise bad_value(kind, must, repr(name), suggestion(name, known))
    return known[name]


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a command's result where ``--json`` asks for it."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, document)
