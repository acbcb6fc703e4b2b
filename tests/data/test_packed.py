"""JPEG files packed in npz archives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike.data import load_packed_jpeg

pytest.importorskip("PIL")


def members(encode: Any, count: int, grey: bool = False) -> dict[str, np.ndarray]:
    """Images of one flat colour each, which JPEG keeps to within a step or two: 8 times their number."""
    shape = (8, 8) if grey else (8, 8, 3)
    files = [encode(np.full(shape, 8 * k, dtype=np.uint8), "JPEG") for k in range(count)]
    return {
        "jpeg_bytes": np.frombuffer(b"".join(files), dtype=np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": (np.arange(count) % 2).astype(np.uint8),
        "class_names": np.frombuffer(b"n01\tking penguin\nn02\tlion", dtype=np.uint8),
    }


@pytest.fixture
def packed(tmp_path: Path, encode: Any) -> Path:
    np.savez(tmp_path / "toy_train.npz", **members(encode, 20))
    np.savez(tmp_path / "toy_val.npz", **members(encode, 6, grey=True))
    return tmp_path


def test_it_decodes(packed: Path) -> None:
    splits = load_packed_jpeg(packed, "toy", 4)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [16, 4, 6]
    assert splits.train.classes == ("king penguin", "lion") and splits.test.labels.tolist() == [0, 1] * 3
    assert splits.test.images.shape == (6, 3, 8, 8)  # grey became colour
    level = splits.test.images.flatten(1).float().mean(1)
    assert (level - 8 * torch.arange(6)).abs().max() < 3
    assert load_packed_jpeg(packed, "toy", 4, size=4, channels=1).train.images.shape == (16, 1, 4, 4)


@pytest.mark.parametrize("below", ["toy", "tiny_imagenet"])
def test_folders(tmp_path: Path, encode: Any, below: str) -> None:
    (tmp_path / below).mkdir()
    for part in ("train", "val"):
        np.savez(tmp_path / below / f"toy_{part}.npz", **members(encode, 6))
    assert load_packed_jpeg(tmp_path, "toy", 2).digest() == load_packed_jpeg(tmp_path / below, "toy", 2).digest()


def test_missing_files(packed: Path) -> None:
    (packed / "toy_val.npz").unlink()
    with pytest.raises(ValueError, match=r"must hold toy_train\.npz and toy_val\.npz, got not both"):
        load_packed_jpeg(packed, "toy")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offsets": np.arange(6)}, r"integers \[N \+ 1\] and \[N\], got int64 \[6\]"),
        ({"offsets": np.zeros(7)}, "integers"),
        ({"offsets": np.arange(7)}, "offsets must rise from 0 to"),
        ({"offsets": np.array([0, 3, 2, 3, 4, 5, 6])}, "offsets must rise"),
        ({"offsets": np.arange(7).reshape(7, 1)}, "members must have one axis"),
        ({"jpeg_bytes": np.zeros(6, np.int8)}, "bytes and names uint8"),
        ({"class_names": np.frombuffer(b"\xff\xfe", dtype=np.uint8)}, "class_names must be UTF-8"),
        ({"class_names": np.frombuffer(b"a\nb", dtype=np.uint8)}, "must name the same classes"),
        ({"labels": np.full(6, 2, dtype=np.uint8)}, r"labels must lie in \[0, 1\]"),
        ({"labels": np.zeros(6)}, "integers"),
        (
            {"offsets": np.zeros(1, int), "labels": np.zeros(0, int), "jpeg_bytes": np.zeros(0, np.uint8)},
            "at least one",
        ),
    ],
)
def test_members_that_do_not_fit(packed: Path, encode: Any, change: Any, words: str) -> None:
    np.savez(packed / "toy_val.npz", **{**members(encode, 6), **change})
    with pytest.raises(ValueError, match=words):
        load_packed_jpeg(packed, "toy", 4)


def test_a_damaged_image_is_named(packed: Path, encode: Any) -> None:
    content = members(encode, 6)
    damaged = content["jpeg_bytes"].copy()
    damaged[content["offsets"][3] : content["offsets"][3] + 30] = 0
    np.savez(packed / "toy_val.npz", **{**content, "jpeg_bytes": damaged})
    with pytest.raises(ValueError, match=r"^load_packed_jpeg .*toy_val\.npz image 3: the image must be a sound"):
        load_packed_jpeg(packed, "toy", 4)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("BITSPIKE_DATA"), reason="BITSPIKE_DATA is not set")
def test_the_real_sample() -> None:
    splits = load_packed_jpeg(os.environ["BITSPIKE_DATA"])
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4500, 500, 500]
    assert splits.train.images.shape == (4500, 3, 64, 64)
    assert torch.bincount(splits.validation.labels).tolist() == [50] * 10
    assert torch.bincount(splits.test.labels).tolist() == [50] * 10
    assert splits.train.classes[0] == "goldfish" and splits.train.classes[9] == "banana"
