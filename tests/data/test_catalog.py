"""The entry by name: which set, and where its root comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.data import DATASETS, Entry, Splits, load, load_cifar, load_digits, load_folder, load_mnist_like
from bitspike.data.entry import listed


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
    with pytest.raises(ValueError, match=r"data.load: name must be one of .*'digits', .*did you mean 'digits'"):
        load("digit")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path: Path, write_cifar: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = load_cifar(write_cifar(tmp_path, name), name, 10, 3).digest()
    assert load(name, tmp_path, 10, 3).digest() == expected
    monkeypatch.setenv("BITSPIKE_DATA", str(tmp_path))
    assert load(name, validation=10, seed=3).digest() == expected
    with pytest.raises(ValueError, match="got 5000"):
        load(name)


def test_the_packed_sample_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny_imagenet10_train\.npz and tiny_imagenet10_val\.npz"):
        load("tiny_imagenet10", tmp_path, size=32)


def test_a_folder_by_its_place(tmp_path: Path, encode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for k, name in enumerate(("train/a", "train/b", "val/a", "val/b")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for j in range(4):
            (tmp_path / "pets" / name / f"{j}.png").write_bytes(encode(np.full((4, 4), 20 * k + j, np.uint8)))
    expected = load_folder(tmp_path / "pets", 0.25, 1, size=2).digest()
    monkeypatch.setenv("BITSPIKE_DATA", "not looked at")
    assert load(f"folder:{tmp_path}/pets", None, 0.25, 1, size=2).digest() == expected
    assert load("folder:pets", tmp_path, 0.25, 1, size=2).digest() == expected
    monkeypatch.chdir(tmp_path)
    assert load("folder:pets", None, 0.25, 1, size=2).digest() == expected
    assert len(load("folder:pets").validation) == 1


@pytest.mark.parametrize("kind", ["folder", "hub"])
def test_a_place_is_needed(kind: str) -> None:
    with pytest.raises(ValueError, match=f"data.load: {kind}: must be followed by a place"):
        load(f"{kind}:")
    with pytest.raises(ValueError, match=f"name must be one of .*'{kind}:"):
        load(kind)


def test_a_hub_name_reaches_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("bitspike.data.hub.load_hub", lambda *given, **options: seen.append((given, options)))
    load("hub:ylecun/mnist", None, 0.2, 4, revision="abc", channels=1)
    load("hub:mine", "sets")
    assert seen[0] == (("ylecun/mnist", 0.2, 4), {"revision": "abc", "channels": 1})
    assert seen[1] == ((str(Path("sets/mine")), 0.1, 0), {})


def test_an_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an option of folder:x must be one of 'size', .*did you mean 'size'"):
        load("folder:x", sizes=3)
    with pytest.raises(ValueError, match="an option of digits"):
        load("digits", size=3)


def test_names() -> None:
    sets = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet10"}
    own = {*sets, "folder:PATH", "hub:NAME", "npz:FILE"}
    assert set(listed()) >= own and len(listed()) == len(list(DATASETS))
    for name in ("digits:x", "folder", "FOLDER:x", "nothing:x"):
        with pytest.raises(ValueError, match=r"data.load: name must be one of"):
            load(name)


def test_the_docstring_names_every_set() -> None:
    """That of `load`; the documentation's tests look at the pages."""
    text = (load.__doc__ or "").split("root:")[0]
    assert set(re.findall(r'"(\w+)[":]', text)) == set(DATASETS)


def test_a_set_of_ones_own_is_one_entry(monkeypatch: pytest.MonkeyPatch, make_set: Any) -> None:
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    parts = Splits(make_set(9), make_set(8), make_set(7))
    seen: list[Any] = []
    entry = Entry(lambda **given: seen.append(given) or parts, 4, root=False, options=("side",))
    assert DATASETS.register("mine")(entry) is entry
    assert load("mine", seed=2, side=3) is parts
    assert seen == [{"root": "", "validation": 4, "seed": 2, "side": 3}]
    with pytest.raises(ValueError, match="a name is registered once"):
        DATASETS.register("mine")(entry)
