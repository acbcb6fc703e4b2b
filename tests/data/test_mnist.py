"""MNIST-like folders: where the files may lie, and what is said when they do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike.data import load_mnist_like


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("fashion_mnist", "."),
        ("fashion_mnist", "fashion_mnist"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("mnist", "."),
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
    ],
)
def test_it_finds_the_files(tmp_path: Path, write_mnist: Any, name: str, below: str, suffix: str) -> None:
    write_mnist(tmp_path / below, suffix)
    splits = load_mnist_like(tmp_path, name, validation=10)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 10, 20]
    assert splits.train.images.shape == (30, 1, 6, 5) and splits.train.top == 255
    assert torch.bincount(splits.validation.labels).tolist() == [1] * 10
    assert splits.test.labels.tolist() == [k % 10 for k in range(20)]
    assert splits.train.classes[9] == {"mnist": "9", "fashion_mnist": "ankle boot"}[name]
    assert load_mnist_like(str(tmp_path / below), name, 10).digest() == splits.digest()


def test_the_seed_moves_the_validation_part_only(tmp_path: Path, write_mnist: Any) -> None:
    first, other = (load_mnist_like(write_mnist(tmp_path), "mnist", 10, seed) for seed in (0, 1))
    assert torch.equal(first.test.images, other.test.images)
    assert first.digest() != other.digest()


def test_the_named_folder_is_preferred(tmp_path: Path, write_mnist: Any) -> None:
    alone = load_mnist_like(write_mnist(tmp_path / "fashion_mnist", seed=1), "fashion_mnist", 10).digest()
    write_mnist(tmp_path, seed=2)
    assert load_mnist_like(tmp_path, "fashion_mnist", 10).digest() == alone
    assert load_mnist_like(tmp_path, "mnist", 10).digest() != alone


@pytest.mark.parametrize("below", ["fashion_mnist", "FashionMNIST/raw"])
def test_the_folder_of_the_other_set_is_refused(
    tmp_path: Path, write_mnist: Any, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    folder = write_mnist(tmp_path / below)
    with pytest.raises(ValueError, match=r"root must hold mnist, got .*, a folder of fashion_mnist; pass the folder"):
        load_mnist_like(folder, "mnist", 10)
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match="a folder of fashion_mnist"):
        load_mnist_like(".", "mnist", 10)


def test_a_parent_may_be_called_like_the_other_set(tmp_path: Path, write_mnist: Any) -> None:
    write_mnist(tmp_path / "mnist" / "fashion_mnist")
    assert len(load_mnist_like(tmp_path / "mnist", "fashion_mnist", 10).test) == 20


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of them; copy the four files") as caught:
        load_mnist_like(tmp_path, "fashion_mnist")
    text = str(caught.value)
    assert "\n" not in text
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"{stem}-ubyte" in text


def test_a_missing_file_is_named(tmp_path: Path, write_mnist: Any) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="got none of t10k-labels-idx1-ubyte; add them"):
        load_mnist_like(tmp_path, "mnist")


def test_no_folder(tmp_path: Path) -> None:
    for root in (tmp_path / "none", Path(__file__)):
        with pytest.raises(ValueError, match="root must be a folder"):
            load_mnist_like(root, "mnist")


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name must be one of.*did you mean 'fashion_mnist'"):
        load_mnist_like(tmp_path, "fashion-mnist")


@pytest.mark.parametrize(
    ("file", "array", "words"),
    [
        ("train-labels-idx1-ubyte", np.zeros(39), r"got \[40, 6, 5\] and \[39\]"),
        ("train-labels-idx1-ubyte", np.zeros((40, 6, 5)), r"got \[40, 6, 5\] and \[40, 6, 5\]"),
        ("t10k-images-idx3-ubyte", np.zeros(20), r"got \[20\] and \[20\]"),
        ("t10k-images-idx3-ubyte", np.zeros((20, 0, 5)), r"got \[20, 0, 5\] and \[20\]"),
        ("t10k-images-idx3-ubyte", np.zeros((20, 7, 5)), "all parts must share image shape"),
        ("train-labels-idx1-ubyte", np.full(40, 10), r"labels must lie in \[0, 9\]"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, write_mnist: Any, write_idx: Any, file: str, array: Any, words: str
) -> None:
    write_idx(write_mnist(tmp_path) / file, array)
    with pytest.raises(ValueError, match=words):
        load_mnist_like(tmp_path, "mnist", 10)


def test_a_damaged_file_is_named(tmp_path: Path, write_mnist: Any) -> None:
    file = write_mnist(tmp_path, ".gz") / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"read_idx .*train-images-idx3-ubyte\.gz: .*truncated"):
        load_mnist_like(tmp_path, "mnist", 10)


def test_the_validation_part_must_fit(tmp_path: Path, write_mnist: Any) -> None:
    with pytest.raises(ValueError, match=r"mnist: validation .*of 40, got 5000"):
        load_mnist_like(write_mnist(tmp_path), "mnist")


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("BITSPIKE_DATA"), reason="BITSPIKE_DATA is not set")
def test_the_real_fashion_mnist() -> None:
    splits = load_mnist_like(os.environ["BITSPIKE_DATA"], "fashion_mnist")
    train, validation, test = splits.train, splits.validation, splits.test
    assert (len(train) + len(validation), len(test)) == (60_000, 10_000)
    assert train.images.shape[1:] == (1, 28, 28)
    assert torch.bincount(train.labels).tolist() == [5500] * 10
    assert torch.bincount(validation.labels).tolist() == [500] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert abs(train.mean[0] - 0.2860) < 5e-4 and abs(train.std[0] - 0.3530) < 5e-4
    assert splits.digest() == "98163e6d5f33aa9dd682ab20fc768d6c37b05945cfa570d0185e8b10c47ee62e"
