"""The entry by name: which set, and where its root comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bitspike.data import load, load_digits, load_mnist_like


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITSPIKE_DATA", raising=False)


def test_digits_needs_no_root() -> None:
    assert load("digits").digest() == load_digits().digest()
    assert load("digits", "unused", 100, 3).digest() == load_digits(3, 100).digest()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_root_comes_from_the_argument_or_the_variable(
    tmp_path: Path, write_mnist: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given, other = write_mnist(tmp_path / "given", seed=1), write_mnist(tmp_path / "other", seed=2)
    expected = [load_mnist_like(root, name, 10, 7).digest() for root in (given, other)]
    monkeypatch.setenv("BITSPIKE_DATA", str(other))
    assert [load(name, root, 10, 7).digest() for root in (given, None)] == expected


def test_the_default_validation_part_is_5000(tmp_path: Path, write_mnist: Any) -> None:
    with pytest.raises(ValueError, match="got 5000"):
        load("mnist", write_mnist(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("value", [None, ""])
def test_no_root(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("BITSPIKE_DATA", value)
    with pytest.raises(ValueError, match=f"data.load: {name} .*; pass data.root or set BITSPIKE_DATA"):
        load(name)


def test_an_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match=r"data.load: name must be one of 'digits', .*did you mean 'digits'"):
        load("digit")
