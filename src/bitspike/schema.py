"""Strict reader: nested frozen dataclasses from plain mappings and back; unknown keys and wrong types raise.

Field types: int, float (an int is accepted, NaN and inf are not), bool, str, ``Literal`` strings, ``X | None`` (with
default None), ``tuple[X, ...]``, ``tuple[X, Y]``, dataclasses, ``dict[str, X]``, and ``object``: a scalar or list.
A field with ``metadata={"flat": True}`` (a dict) takes all keys of its table that are no other field.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bitspike.checks import bad_type, bad_value, choice, one_of, suggestion
from bitspike.files import DEEPEST, parse_toml, toml_text, too_deep

D = TypeVar("D")
_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string in quotes"}


def from_mapping(cls: type[D], mapping: object, where: str, path: tuple[str, ...] = ()) -> D:
    """Build the dataclass ``cls`` from a mapping; lists become tuples and ints in float fields floats.

    Args:
        cls: a dataclass whose fields have the supported types.
        mapping: keys and values, as read from TOML or JSON.
        where: the file or option the mapping came from; opens every message.
        path: the enclosing tables, for messages such as ``file.toml [model.options]: ...``.

    Raises:
        ValueError: a key is unknown or missing, or a value is out of range.
        TypeError: a value has the wrong type.

    >>> Point = dataclasses.make_dataclass("Point", [("x", float), ("label", str, "none")], frozen=True)
    >>> from_mapping(Point, {"x": 1}, "p.toml")
    Point(x=1.0, label='none')
    >>> from_mapping(Point, {"x": 1, "lable": "a"}, "p.toml")
    Traceback (most recent call last):
        ...
    ValueError: p.toml: every key must be one of 'x', 'label', got 'lable'; did you mean 'label'?
    """
    place = f"{where} [{'.'.join(path)}]" if path else where
    if not isinstance(mapping, Mapping):
        raise bad_type(place, "it must be a table", _got(mapping), "write one key = value a line")
    fields = {f.name: f for f in dataclasses.fields(cls) if not f.metadata.get("flat")}  # type: ignore[arg-type]
    flat = [f.name for f in dataclasses.fields(cls) if f.metadata.get("flat")]  # type: ignore[arg-type]
    hints, unknown = get_type_hints(cls), [key for key in mapping if key not in fields]
    if unknown and not flat:
        raise bad_value(place, choice("every key", fields), repr(unknown[0]), suggestion(unknown[0], fields))
    for name, f in fields.items():
        if name not in mapping and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise bad_value(place, f"the key {name!r} must be given", f"only {sorted(mapping)}", f"add {name} = ...")
    values = {key: _convert(hints[key], mapping[key], where, (*path, key)) for key in fields if key in mapping}
    if flat:
        rest = {key: mapping[key] for key in unknown}
        values[flat[0]] = _convert(hints[flat[0]], rest, where, path)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:  # the class's own checks: name the file in place of the class
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{place}: {str(error).removeprefix(cls.__name__ + ': ')}") from None


def conform(obj: object) -> None:
    """Check and normalise the fields of a frozen dataclass, from its ``__post_init__``: Python meets the same rules."""
    where, hints = type(obj).__name__, get_type_hints(type(obj))
    for f in dataclasses.fields(obj):  # type: ignore[arg-type]
        object.__setattr__(obj, f.name, _convert(hints[f.name], getattr(obj, f.name), where, (f.name,)))


def to_mapping(obj: Any) -> Any:
    """Turn dataclasses into nested dicts, tuples into lists; scalars and None pass. Inverse of `from_mapping`."""
    if isinstance(obj, Mapping):
        return {key: to_mapping(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [to_mapping(value) for value in obj]
    if not dataclasses.is_dataclass(obj):
        return obj
    out: dict[str, object] = {}
    for f in dataclasses.fields(obj):
        value = to_mapping(getattr(obj, f.name))
        out.update(value if f.metadata.get("flat") else {f.name: value})
    return out


def differing(obj: Any) -> dict[str, object]:
    """The fields of a dataclass that differ from their defaults, by name."""
    values = {f.name: (getattr(obj, f.name), f.default) for f in dataclasses.fields(obj)}
    return {name: value for name, (value, default) in values.items() if value != default}


def to_toml(obj: object) -> str:
    """Write a dataclass as TOML text that reads back equal (checked here); None is written by leaving the key out."""
    text, name = toml_text(to_mapping(obj)), type(obj).__name__
    if from_mapping(type(obj), parse_toml(text, name), name) != obj:
        raise bad_value("to_toml", "the text must read back equal", name, "let optional fields default to None")
    return text


def with_values(mapping: Mapping[str, object], values: Mapping[str, object], where: str) -> dict[str, object]:
    """A deep copy of nested tables with dotted keys set; missing tables are made, a table as value replaces one.

    >>> with_values({"train": {"lr": 0.1}}, {"train.lr": 0.2, "model.T": 4}, "arm")
    {'train': {'lr': 0.2}, 'model': {'T': 4}}
    """
    result = copy.deepcopy(dict(mapping))
    for dotted, value in values.items():
        *tables, last = dotted.split(".")
        if len(tables) >= DEEPEST:
            raise too_deep(where)
        if not all((*tables, last)):
            raise bad_value(where, "a key must be words joined by dots", repr(dotted), "write table.key")
        inner: Any = result
        for name in tables:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise bad_value(where, f"{name!r} in {dotted!r} must be a table", _got(inner), "correct the key")
        inner[last] = copy.deepcopy(value)
    return result


def override(mapping: Mapping[str, object], sets: Iterable[str], where: str = "--set") -> dict[str, object]:
    """Apply ``key=value`` texts: dotted keys, TOML values; what is no TOML value is a plain string.

    >>> override({}, ["train.lr=0.05", "model.norm=per_step", "data.root=my/files"])
    {'train': {'lr': 0.05}, 'model': {'norm': 'per_step'}, 'data': {'root': 'my/files'}}
    """
    result = dict(mapping)
    for text in sets:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise bad_value(where, "it must read key=value", repr(text), "write for example train.lr=0.05")
        result = with_values(result, {key: _parse(value, f"{where} {key}")}, where)
    return result


def canonical_key(obj: object, *extra: object) -> str:
    """sha256 (hex) of the canonical JSON of dataclasses or plain values: sorted keys, floats by repr.

    >>> canonical_key({"a": 1, "b": (2.0,)}) == canonical_key({"b": [2.0], "a": 1}) != canonical_key({"a": 1})
    True
    """
    text = json.dumps(to_mapping([obj, *extra]), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _got(value: object) -> str:
    return f"{type(value).__name__} {value!r:.80}" if not isinstance(value, Mapping) else "a table"


def _parse(text: str, where: str) -> object:
    """One value on a command line; text that opens a string, list or table must be whole TOML."""
    try:
        value = parse_toml(f"value = {text}", where)
    except ValueError:
        if text[0] in "\"'[{":
            raise
        return text
    scalar = len(value) == 1 and isinstance(value["value"], (bool, int, float, str, list, dict))
    return value["value"] if scalar else text  # a date, or several lines: plain text


def _convert(hint: Any, value: Any, where: str, path: tuple[str, ...]) -> Any:
    """``value`` as the type ``hint``, or an error naming file, table and key."""
    place = f"{where} [{'.'.join(path[:-1])}]" if path[1:] else where
    key, origin, args = (path[-1] if path else "it"), get_origin(hint), get_args(hint)
    if origin is Literal:
        return one_of(place, key, value, args)
    if origin in (Union, types.UnionType) and len(args) == 2 and args[1] is type(None):
        return None if value is None else _convert(args[0], value, where, path)
    if origin is tuple:
        every = args[-1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (every or len(value) == len(args)):
            raise bad_type(
                place, f"{key} must be a list of {'any length' if every else len(args)}", _got(value), "write [...]"
            )
        pairs = zip([args[0]] * len(value) if every else args, value, strict=True)
        return tuple(_convert(k, v, where, (*path[:-1], f"{key}[{i}]")) for i, (k, v) in enumerate(pairs))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise bad_type(place, f"{key} must be a table", _got(value), "write one key = value a line")
        return {str(name): _convert(args[1], item, where, (*path, name)) for name, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where, path)  # type: ignore[arg-type]
    if hint is object:
        if isinstance(value, (list, tuple)):
            return tuple(_convert(object, v, where, (*path[:-1], f"{key}[{i}]")) for i, v in enumerate(value))
        hint = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
        if hint is None:
            todo = 'write a value; put a dotted key in quotes: "a.b" = 1'
            raise bad_type(place, f"{key} must be a scalar or a list of them", _got(value), todo)
    if hint not in _WORDS:
        raise bad_type(place, f"the field {key} must have a supported type", hint, "see bitspike.schema")
    kind = (int, float) if hint is float else hint
    if not isinstance(value, kind) or (isinstance(value, bool) and hint is not bool):
        raise bad_type(place, f"{key} must be {_WORDS[hint]}", _got(value), f"write {_WORDS[hint]}")
    if hint is float and not -sys.float_info.max <= value <= sys.float_info.max:
        raise bad_value(place, f"{key} must be finite", value, "write a finite number")
    return hint(value)
