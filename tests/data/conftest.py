"""Small synthetic sets and IDX files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bitspike.data import ImageSet

WriteIdx = Callable[..., Path]
MakeSet = Callable[..., ImageSet]


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx() -> WriteIdx:
    """Write an array as an IDX file, compressed where the name ends in .gz."""

    def write(path: Path, array: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def write_mnist(write_idx: WriteIdx) -> Callable[..., Path]:
    """Write the four files of a small set: 40 training images and 20 test images of 6×5, four and two a class."""

    def write(folder: Path, suffix: str = "", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for stem, count in (("train", 40), ("t10k", 20)):
            write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (count, 6, 5)))
            write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
        return folder

    return write


@pytest.fixture
def make_set() -> MakeSet:
    """A set of random images with labels 0, 1, 2, 0, …; keywords replace fields."""

    def make(count: int = 12, channels: int = 2, height: int = 6, width: int = 5, **fields: object) -> ImageSet:
        rng = np.random.default_rng(count)
        pixels = rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8)
        given: dict[str, object] = {
            "images": torch.from_numpy(pixels),
            "labels": torch.arange(count) % 3,
            "classes": ("a", "b", "c"),
            "top": 255,
            "mean": (0.5, 0.25)[:channels],
            "std": (0.25, 0.5)[:channels],
            "name": "toy",
        }
        return ImageSet(**{**given, **fields})  # type: ignore[arg-type]

    return make
