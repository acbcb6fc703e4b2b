"""Files that are either whole or absent: atomic text and JSON, strict JSON and TOML readers, a small TOML writer."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bitspike.checks import bad_type, bad_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEEPEST = 64
"""Tables and lists of a file are nested no deeper."""


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the whole new one; see `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode())


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write bytes so that a reader sees the old file or the whole new one, never a part.

    A temporary file in the same folder is written, synced and renamed over ``path``; on any failure
    or interrupt it is removed and ``path`` keeps its old content.

    Args:
        path: file to write; its folder must exist.
        data: the content.

    Raises:
        OSError: the folder is missing or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json_atomic(path: str | Path, obj: object) -> None:
    """Write ``obj`` as strict JSON (no NaN, no inf), atomically.

    Raises:
        ValueError: a number is NaN or inf, or a container holds itself.
        TypeError: a value is no JSON value.
    """
    try:
        text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        make = bad_type if isinstance(error, TypeError) else bad_value
        raise make(str(path), "the content must be JSON values and finite numbers", error, "convert it first") from None
    write_text_atomic(path, text + "\n")


def read_json(path: str | Path) -> object:
    """Read a strict JSON file.

    Returns:
        The decoded value.

    Raises:
        ValueError: the file is empty, truncated, not UTF-8, or not JSON (NaN and Infinity are not JSON).
        OSError: the file cannot be opened.
    """

    def refuse(word: str) -> object:
        raise ValueError(f"the non-finite number {word}")

    try:
        return json.loads(Path(path).read_bytes().decode(), parse_constant=refuse)
    except RecursionError:
        raise too_deep(str(path)) from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise bad_value(str(path), "the file must be whole, valid JSON", error, "delete it or write it again") from None


def parse_toml(text: str, where: str) -> dict[str, object]:
    """Parse TOML text; a syntax error, or tables and lists deeper than `DEEPEST`, become a `ValueError`.

    >>> parse_toml("a = 1", "text")
    {'a': 1}
    """
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise bad_value(where, "the text must be valid TOML", error, "correct that line") from None
    except RecursionError:
        raise too_deep(where) from None
    level: list[object] = [read]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return read
    raise too_deep(where)


def too_deep(where: str) -> ValueError:
    """What is said of a file whose parts hold parts without end."""
    must = f"tables and lists must be nested at most {DEEPEST} deep"
    return bad_value(where, must, "more", "flatten it")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_toml(path: str | Path) -> dict[str, object]:
    """Read a TOML file as nested dicts.

    Raises:
        ValueError: the file is not UTF-8 or not TOML.
        OSError: the file cannot be opened.
    """
    try:
        text = Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise bad_value(str(path), "the file must be UTF-8", error, "save it as UTF-8") from None
    return parse_toml(text, str(path))


def toml_text(table: Mapping[str, object], path: tuple[str, ...] = ()) -> str:
    """Write nested mappings of scalars and lists as TOML; keys whose value is None are left out.

    >>> print(toml_text({"name": "a", "train": {"lr": 0.1, "a.b": [1, 2]}}), end="")
    name = "a"
    <BLANKLINE>
    [train]
    lr = 0.1
    "a.b" = [1, 2]
    """
    plain = {k: v for k, v in table.items() if v is not None and not isinstance(v, Mapping)}
    text = "".join(f"{_key(k)} = {_value(v)}\n" for k, v in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = (*path, key)
            gap = "\n" if text else ""
            text += f"{gap}[{'.'.join(map(_key, inner))}]\n{toml_text(value, inner)}"
    return text


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, str):  # a JSON string is a TOML basic string but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return (int if isinstance(value, int) else float).__repr__(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + "}"
    raise bad_type("toml_text", "a value must be a scalar, list or table", type(value).__name__, "convert it first")
