"""Recipes and queues that come with the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from bitspike.checks import bad_value, suggestion


def builtin(kind: str, name: str, queues: bool) -> Path:
    """The file of that name, or a built-in recipe or queue.

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
