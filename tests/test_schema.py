"""The strict reader: keys, types, round trips, overrides and keys by hash."""

from __future__ import annotations

import hashlib
import string
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.files import parse_toml
from bitspike.training import schema


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int
    mode: Literal["a", "b"] = "a"
    pair: tuple[float, str] = (0.5, "x")

    def __post_init__(self) -> None:
        schema.conform(self)
        if self.size < 1:
            raise ValueError(f"Inner: size must be >= 1, got {self.size}; pass more.")


@dataclass(frozen=True)
class Flat:
    name: str
    options: dict[str, object] = field(default_factory=dict, metadata={"flat": True})


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    flat: Flat
    rate: float = 0.1
    on: bool = False
    text: str = ""
    limit: float | None = None
    sizes: tuple[int, ...] = ()
    parts: tuple[Inner, ...] = ()
    table: dict[str, object] = field(default_factory=dict)


GOOD: dict[str, Any] = {"inner": {"size": 3}, "flat": {"name": "f", "bits": 2}}
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
OPTIONS = st.dictionaries(st.text(), SCALARS | st.lists(SCALARS, max_size=3).map(tuple), max_size=4)
INNERS = st.builds(Inner, size=st.integers(1), mode=st.sampled_from("ab"), pair=st.tuples(NUMBERS, st.text()))
OUTERS = st.builds(
    Outer,
    inner=INNERS,
    flat=st.builds(Flat, st.text(), OPTIONS.map(lambda d: {k: v for k, v in d.items() if k != "name"})),
    rate=NUMBERS,
    on=st.booleans(),
    text=st.text(),
    limit=st.none() | NUMBERS,
    sizes=st.lists(st.integers()).map(tuple),
    parts=st.lists(INNERS, max_size=2).map(tuple),
    table=OPTIONS,
)


def read(**changes: object) -> Outer:
    return schema.from_mapping(Outer, {**GOOD, **changes}, "f.toml")


def test_reads_nested_tables_and_defaults() -> None:
    got = read(rate=1, sizes=[1, 2], table={"a": [1, "b"]})
    assert got.inner == Inner(size=3) and got.flat == Flat("f", {"bits": 2}) and got.limit is None
    assert type(got.rate) is float and got.sizes == (1, 2) and got.table == {"a": (1, "b")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rat": 1}, ["f.toml: ", "got 'rat'", "did you mean 'rate'?"]),
        ({"inner": {"size": 1, "mod": "a"}}, ["f.toml [inner]: ", "got 'mod'", "did you mean 'mode'?"]),
        ({"inner": {"mode": "a"}}, ["f.toml [inner]: ", "'size' must be given", "add size"]),
        ({"flat": {"nam": "f"}}, ["f.toml [flat]: ", "'name' must be given", "['nam']"]),
        ({"inner": {"size": 0}}, ["f.toml [inner]: size must be >= 1"]),
        ({"inner": {"size": 1, "mode": "bb"}}, ["f.toml [inner]: mode must be one of 'a', 'b'", "did you mean 'b'?"]),
        ({"rate": float("nan")}, ["f.toml: rate must be finite"]),
        ({"rate": 10**400}, ["f.toml: rate must be finite"]),
        ({"parts": [{"size": 1}, {"siz": 1}]}, ["f.toml [parts[1]]: ", "did you mean 'size'?"]),
        ({"table": {"a": float("inf")}}, ["f.toml [table]: a must be finite"]),
    ],
)
def test_bad_keys_and_values(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        read(**changes)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inner": 3}, "f.toml [inner]: it must be a table, got int 3"),
        ({"inner": {"size": 1.0}}, "f.toml [inner]: size must be an integer, got float 1.0"),
        ({"inner": {"size": True}}, "f.toml [inner]: size must be an integer, got bool True"),
        ({"inner": {"size": 1, "pair": [1]}}, "f.toml [inner]: pair must be a list of 2"),
        ({"inner": {"size": 1, "pair": [1, 2]}}, "f.toml [inner]: pair[1] must be a string"),
        ({"rate": "0.1"}, "f.toml: rate must be a number, got str '0.1'"),
        ({"rate": True}, "f.toml: rate must be a number"),
        ({"rate": None}, "f.toml: rate must be a number"),
        ({"on": 1}, "f.toml: on must be true or false"),
        ({"text": 1}, "f.toml: text must be a string"),
        ({"limit": "x"}, "f.toml: limit must be a number"),
        ({"sizes": 1}, "f.toml: sizes must be a list"),
        ({"table": 1}, "f.toml: table must be a table"),
        ({"table": {"a": {"b": 1}}}, "f.toml [table]: a must be a scalar"),
        ({"flat": {"name": "f", "options": {"bits": 2}}}, "f.toml [flat]: options must be a scalar"),
    ],
)
def test_wrong_types(changes: dict[str, object], words: str) -> None:
    with pytest.raises(TypeError) as error:
        read(**changes)
    assert words in str(error.value)


def test_python_callers_meet_the_same_rules() -> None:
    assert type(Inner(size=1, pair=[1, "x"]).pair[0]) is float  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Inner: size must be an integer"):
        Inner(size="1")  # type: ignore[arg-type]


def test_an_unsupported_field_is_named() -> None:
    odd = type("Odd", (), {"__annotations__": {"x": set}})
    with pytest.raises(TypeError, match="x must have a supported type"):
        schema.from_mapping(dataclass(odd), {"x": 1}, "odd")


@given(OUTERS)
def test_round_trips(obj: Outer) -> None:
    assert schema.from_mapping(Outer, schema.to_mapping(obj), "mapping") == obj
    text = schema.to_toml(obj)
    again = schema.from_mapping(Outer, parse_toml(text, "text"), "text")
    assert again == obj and schema.canonical_key(again) == schema.canonical_key(obj)


def test_toml_that_would_lose_none_is_refused() -> None:
    odd = dataclass(frozen=True)(type("Odd", (), {"__annotations__": {"x": "int | None"}, "x": 1}))
    with pytest.raises(ValueError, match="read back equal"):
        schema.to_toml(odd(None))


@given(OUTERS, OUTERS)
def test_keys_differ_exactly_where_objects_do(a: Outer, b: Outer) -> None:
    same = repr(schema.to_mapping(a)) == repr(schema.to_mapping(b))  # repr: 1, 1.0 and True are different options
    assert (schema.canonical_key(a) == schema.canonical_key(b)) or not same
    if schema.canonical_key(a) == schema.canonical_key(b):
        assert a == b
    assert schema.canonical_key(a) != schema.canonical_key(a, "digest")


def test_the_key_is_stable_between_versions() -> None:
    """A changed value makes every finished study stale: change it knowingly."""
    text = r'[{"a":[1,1.0,1e-05,true,null],"b":"\u00b5"},"digest"]'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert schema.canonical_key({"b": "µ", "a": (1, 1.0, 1e-5, True, None)}, "digest") == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (" 1e-3 ", 1e-3),
        ("true", True),
        ("word", "word"),
        ("'1'", "1"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("a b/c=d", "a b/c=d"),
        ("2026-01-02", "2026-01-02"),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_override_values(text: str, value: object) -> None:
    before = {"a": {"x": 0}, "y": [1]}
    assert schema.override(before, [f"a.b.c={text}"]) == {"a": {"x": 0, "b": {"c": value}}, "y": [1]}
    assert before == {"a": {"x": 0}, "y": [1]}


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a..b=1", ".=1", "a=[1", "a='", "x.y=1"])
def test_bad_overrides(text: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        schema.override({"x": 1}, [text])


@given(st.lists(st.text(string.ascii_lowercase, min_size=1), min_size=1, max_size=4), SCALARS)
def test_with_values_sets_one_leaf(path: list[str], value: object) -> None:
    got: Any = schema.with_values({}, {".".join(path): value}, "test")
    for name in path:
        got = got[name]
    assert got == value and type(got) is type(value)


def test_largest_float_is_finite() -> None:
    assert read(rate=sys.float_info.max).rate == sys.float_info.max
