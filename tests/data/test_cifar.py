"""CIFAR: three layouts of the same images, what is refused, and the real files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import load_cifar
from bitspike.data.cifar import CIFARS
from bitspike.data.cifar_files import decode_residuals, read_python, read_residuals

FOLDERS = {
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar10", "npz"): "cifar10",
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar100", "binary"): "cifar-100-binary",
    ("cifar100", "npz"): "cifar100",
    ("cifar100", "python"): "cifar-100-python",
}


@pytest.mark.parametrize(("name", "layout"), FOLDERS)
def test_it_finds_every_layout(tmp_path: Path, write_cifar: Any, name: str, layout: str) -> None:
    usual = FOLDERS[name, layout]
    digests = {
        load_cifar(root, name, 10).digest()
        for root in (
            write_cifar(tmp_path / "a", name, layout),
            write_cifar(tmp_path / "b" / usual, name, layout).parent,
            write_cifar(tmp_path / "c" / name / usual, name, layout).parents[1],
        )
    }
    assert digests == {load_cifar(write_cifar(tmp_path / "d", name, "binary"), name, 10).digest()}


def test_parts_and_pixels(tmp_path: Path, write_cifar: Any) -> None:
    root = write_cifar(tmp_path, "cifar10", "binary")
    splits = load_cifar(root, "cifar10", 10)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [90, 10, 20]
    assert splits.train.images.shape == (90, 3, 32, 32) and splits.train.top == 255
    record = np.frombuffer((root / "test_batch.bin").read_bytes()[:3073], dtype=np.uint8)
    assert splits.test.labels[0] == record[0]
    assert splits.test.images[0].flatten().tolist() == record[1:].tolist()
    assert splits.train.classes[3] == "cat"


def test_cifar100_takes_the_fine_labels(tmp_path: Path, write_cifar: Any) -> None:
    root = write_cifar(tmp_path, "cifar100", "binary")
    records = np.frombuffer((root / "test.bin").read_bytes(), dtype=np.uint8).reshape(20, 3074)
    splits = load_cifar(root, "cifar100", 5)
    assert splits.test.labels.tolist() == records[:, 1].tolist() != records[:, 0].tolist()
    assert len(splits.test.classes) == 100 and max(splits.test.labels.tolist()) > 19


def test_class_names() -> None:
    fine = CIFARS["cifar100"].classes
    assert len(set(fine)) == 100 and list(fine) == sorted(fine)
    assert (fine[0], fine[99], len(CIFARS["cifar10"].classes)) == ("apple", "worm", 10)


def test_the_seed_moves_the_validation_part_only(tmp_path: Path, write_cifar: Any) -> None:
    first, other = (load_cifar(write_cifar(tmp_path), "cifar10", 10, seed) for seed in (0, 1))
    assert torch.equal(first.test.images, other.test.images) and first.digest() != other.digest()


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_residuals_wrap(count: int, height: int, width: int, seed: int) -> None:
    """Undone by loops in plain integers: the definition."""
    residuals = np.random.default_rng(seed).integers(0, 256, (3, count, height, width), dtype=np.uint8)
    expected = residuals.astype(int)
    for column in range(1, width):
        expected[..., column] += expected[..., column - 1]
    for row in range(1, height):
        expected[..., row, :] += expected[..., row - 1, :]
    expected[1:] += expected[0]
    before = residuals.copy()
    assert np.array_equal(decode_residuals(residuals), expected % 256)
    assert np.array_equal(residuals, before)


@pytest.mark.parametrize("layout", ["binary", "npz", "python"])
def test_a_lacking_file_is_named(tmp_path: Path, write_cifar: Any, layout: str) -> None:
    root = write_cifar(tmp_path, "cifar10", layout)
    next(root.glob("*data_batch_3*")).unlink()
    with pytest.raises(ValueError, match=r"load_cifar: .*must hold all files of cifar10 .*without \S*data_batch_3"):
        load_cifar(root, "cifar10", 10)


def test_a_complete_layout_is_preferred(tmp_path: Path, write_cifar: Any) -> None:
    root = write_cifar(tmp_path, "cifar10", "binary", seed=1)
    python = load_cifar(write_cifar(root, "cifar10", "python", seed=2), "cifar10", 10).digest()
    (root / "test_batch.bin").unlink()
    assert load_cifar(root, "cifar10", 10).digest() != python


def test_wrong_roots(tmp_path: Path, write_cifar: Any) -> None:
    with pytest.raises(ValueError, match="must hold all files of cifar10 in one layout, got none of them; copy them"):
        load_cifar(tmp_path, "cifar10")
    with pytest.raises(ValueError, match="root must be a folder"):
        load_cifar(tmp_path / "none", "cifar10")
    with pytest.raises(ValueError, match=r"all files of cifar100 .*got none of them"):
        load_cifar(write_cifar(tmp_path / "x"), "cifar100")
    with pytest.raises(ValueError, match=r"name must be one of.*did you mean 'cifar100'"):
        load_cifar(tmp_path, "cifar1000")


@pytest.mark.parametrize("layout", ["binary", "npz", "python"])
def test_a_damaged_file_is_named(tmp_path: Path, write_cifar: Any, layout: str) -> None:
    root = write_cifar(tmp_path, "cifar10", layout)
    file = next(root.glob("*data_batch_2*"))
    content = file.read_bytes()
    for damaged in (b"", content[:-1], content[:5000]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^\w+ .*data_batch_2"):
            load_cifar(root, "cifar10", 10)


def test_a_file_cut_between_records(tmp_path: Path, write_cifar: Any) -> None:
    file = write_cifar(tmp_path) / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[: 19 * 3073])
    with pytest.raises(ValueError, match=r"must hold equally many images, got \[20, 19, 20, 20, 20\]"):
        load_cifar(tmp_path, "cifar10", 10)


def test_labels_outside_the_set(tmp_path: Path, write_cifar: Any) -> None:
    file = write_cifar(tmp_path) / "test_batch.bin"
    file.write_bytes(b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 9\]"):
        load_cifar(tmp_path, "cifar10", 10)
    file = write_cifar(tmp_path, "cifar100") / "train.bin"
    file.write_bytes(b"\x14" + file.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"coarse labels must lie in \[0, 19\], got 20"):
        load_cifar(tmp_path, "cifar100", 10)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"labels": np.zeros(2, np.uint8)}, "must hold 'residuals'"),
        ({"residuals": np.zeros((3, 2, 32, 32), np.uint8), "labels": np.zeros(3, np.uint8)}, r"\[3\]"),
        ({"residuals": np.zeros((3, 2, 32, 32), np.int16), "labels": np.zeros(2, np.uint8)}, "int16"),
        ({"residuals": np.zeros((2, 3, 32, 32), np.uint8), "labels": np.zeros(2, np.uint8)}, r"\[2, 3, 32, 32\]"),
        ({"residuals": np.zeros((3, 0, 32, 32), np.uint8), "labels": np.zeros(0, np.uint8)}, r"\[0\]"),
        ({"residuals": np.zeros((3, 2, 32, 32), np.uint8), "labels": np.zeros((2, 1), np.uint8)}, r"\[2, 1\]"),
    ],
)
def test_members_that_do_not_fit(tmp_path: Path, members: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "x.npz", **members)
    with pytest.raises(ValueError, match=words):
        read_residuals(tmp_path / "x.npz")


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "coarse", "words"),
    [
        ({"labels": [0, 1]}, False, "must hold data, labels, got no data"),
        ({"data": ROWS, "labels": [0, 1]}, True, "got no fine_labels, coarse_labels"),
        ({"data": ROWS, "labels": [0]}, False, r"got uint8 \[2, 3072\] and 1 labels"),
        ({"data": ROWS[:, :-1], "labels": [0, 1]}, False, r"got uint8 \[2, 3071\]"),
        ({"data": b"raw", "labels": [0, 1]}, False, r"data must be a uint8 array"),
        ({"data": ROWS, "labels": [0, 256]}, False, "labels must be a list of ints from 0 to 255"),
        ({"data": ROWS, "labels": b"01"}, False, "labels must be a list of ints from 0 to 255, got bytes"),
        ({"data": ROWS, "fine_labels": [0, 1], "coarse_labels": [0, 20]}, True, "coarse labels must lie"),
    ],
)
def test_pickles_that_do_not_fit(tmp_path: Path, python2: Any, content: Any, coarse: bool, words: str) -> None:
    (tmp_path / "x").write_bytes(python2(content))
    with pytest.raises(ValueError, match=f"^read_python .*{words}"):
        read_python(tmp_path / "x", coarse)


REAL = {
    "data_batch_1": "fc115a3de050d667b88cbd5b0b9612ebf996c54230fe7758f3a14bb5af9a1c27",
    "data_batch_2": "89e609b642f687bc796fa3bfa4211005582a0e8131d463d996d11ddb297d312e",
    "data_batch_3": "93a365823e61729490a8801d80864ccd0ab1e8c98f19d71af65644d1c5f1486e",
    "data_batch_4": "809eb95ecd057a36516318f5023ea619009dd70dd38193db9da43125a928e6fa",
    "data_batch_5": "d05b7d66d216d6df882cc760cdc0ff2f1f0437abf699ed16005c021ef0add9cb",
    "test_batch": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
}
"""SHA-256 of the decoded arrays, [N, 32, 32, 3], as the data's README gives them."""

needs_data = pytest.mark.skipif(not os.environ.get("BITSPIKE_DATA"), reason="BITSPIKE_DATA is not set")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("stem", REAL)
def test_the_real_arrays(stem: str) -> None:
    images, labels = read_residuals(Path(os.environ["BITSPIKE_DATA"]) / "cifar10" / f"cifar10_{stem}.npz")
    assert hashlib.sha256(images.transpose(0, 2, 3, 1).tobytes()).hexdigest() == REAL[stem]
    assert labels.shape == (10_000,)


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    ("stem", "title", "md5"),
    [
        ("data_batch_1", b"training batch 1 of 5", "c99cafc152244af753f735de768cd75f"),
        ("test_batch", b"testing batch 1 of 1", "40351d587109b95175f43aff81a1287e"),
    ],
)
def test_the_original_pickles(tmp_path: Path, python2: Any, stem: str, title: bytes, md5: str) -> None:
    """Rebuilt to the byte, as their published MD5 sums prove, and read back through the restricted unpickler."""
    packed = Path(os.environ["BITSPIKE_DATA"]) / "cifar10" / f"cifar10_{stem}.npz"
    images, labels = read_residuals(packed)
    with np.load(packed) as members:
        names = members["filenames"].tobytes().split(b"\n")
    content = {"batch_label": title, "labels": labels.tolist(), "data": images.reshape(10_000, -1), "filenames": names}
    (tmp_path / stem).write_bytes(python2(content))
    assert hashlib.md5((tmp_path / stem).read_bytes()).hexdigest() == md5
    pixels, marks = read_python(tmp_path / stem, False)
    assert np.array_equal(pixels, images) and np.array_equal(marks, labels)


@pytest.mark.data
@needs_data
def test_the_real_cifar10() -> None:
    splits = load_cifar(os.environ["BITSPIKE_DATA"], "cifar10")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [45_000, 5_000, 10_000]
    assert torch.bincount(splits.validation.labels).tolist() == [500] * 10
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    assert [round(mean, 3) for mean in splits.train.mean] == [0.491, 0.482, 0.446]
    assert splits.digest() == "2f3ec9496bd2d2482b07d409ab66dfd7a3ef7be3aace4c411d16a4b0d49941b0"
