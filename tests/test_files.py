"""Atomic writes, strict readers and the small TOML writer."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.training import files

SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
TABLES = st.recursive(
    st.dictionaries(st.text(), SCALARS | st.lists(SCALARS)),
    lambda inner: st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text_atomic(path, "old\r\n")
    files.write_text_atomic(str(path), "new µ\r\n")
    assert path.read_bytes() == "new µ\r\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "a.json"
    files.write_json_atomic(path, {"old": 1})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(type(error)):
        files.write_json_atomic(path, {"new": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(("obj", "kind"), [({"a": float("nan")}, ValueError), ([{1, 2}], TypeError)])
def test_what_is_no_json_is_refused_before_anything_is_written(tmp_path: Path, obj: object, kind: type) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(kind, match=r"a\.json: the content must be JSON"):
        files.write_json_atomic(path, obj)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b'{"a": NaN}', b"[-Infinity]", b'"\xff"', b"{} {}"])
def test_broken_json_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"broken\.json: the file must be whole, valid JSON, got .*; delete it"):
        files.read_json(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        files.read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(("data", "words"), [(b"a = ", "valid TOML"), (b"a = '\xff'", "UTF-8")])
def test_broken_toml_names_the_file(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"broken\.toml: .*{words}"):
        files.read_toml(path)


@given(TABLES)
def test_toml_text_reads_back(table: dict[str, object]) -> None:
    assert files.parse_toml(files.toml_text(table), "text") == table


def test_toml_text_of_none_and_inline_tables() -> None:
    text = files.toml_text({"a": None, "b": [{"c.d": 1, "e": None}]})
    assert files.parse_toml(text, "text") == {"b": [{"c.d": 1}]}
    with pytest.raises(TypeError, match="toml_text: a value must be"):
        files.toml_text({"a": [None]})


@given(st.recursive(SCALARS.filter(lambda v: v not in (float("inf"), -float("inf"))), st.lists, max_leaves=5))
def test_json_reads_back(obj: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        files.write_json_atomic(path, obj)
        assert files.read_json(path) == obj
