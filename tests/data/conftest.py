"""Small synthetic sets and IDX files."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable, Mapping
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


class Python2Pickle:
    """Writes what cPickle of Python 2 wrote (protocol 2), byte for byte: the originals of CIFAR are such files.

    It numbers only what is referred to more than once, so what an array's ``__reduce__`` makes up has no number.
    """

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.kept = 0

    def keep(self) -> None:
        self.kept += 1
        self.out += bytes([ord("q"), self.kept]) if self.kept < 256 else b"r" + struct.pack("<I", self.kept)

    def text(self, value: bytes, keep: bool = True) -> None:
        short = len(value) < 256
        self.out += (bytes([ord("U"), len(value)]) if short else b"T" + struct.pack("<I", len(value))) + value
        if keep:
            self.keep()

    def number(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += bytes([ord("K"), value])
        else:
            self.out += b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)

    def named(self, module: str, name: str) -> None:
        self.out += f"c{module}\n{name}\n".encode()
        self.keep()

    def items(self, values: list[int] | list[bytes]) -> None:
        self.out += b"]"
        self.keep()
        for start in range(0, len(values), 1000):
            self.out += b"("
            for value in values[start : start + 1000]:
                self.number(value) if isinstance(value, int) else self.text(value)
            self.out += b"e"

    def array(self, values: np.ndarray) -> None:
        self.named("numpy.core.multiarray", "_reconstruct")
        self.named("numpy", "ndarray")
        self.out += b"K\0\x85U\x01b\x87R"
        self.keep()
        self.out += b"(K\x01"
        for size in values.shape:
            self.number(size)
        self.out += b"\x86"
        self.named("numpy", "dtype")
        self.text(b"u1", keep=False)
        self.out += b"K\0K\x01\x87R"
        self.keep()
        self.out += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        self.text(values.tobytes(), keep=False)
        self.out += b"tb"


def python2_pickle(content: Mapping[str, bytes | list[int] | list[bytes] | np.ndarray]) -> bytes:
    """A dict of strings, lists and two-dimensional uint8 arrays as Python 2 pickled it."""
    writer = Python2Pickle()
    writer.out += b"}"
    writer.keep()
    writer.out += b"("
    for key, value in content.items():
        writer.text(key.encode())
        {bytes: writer.text, list: writer.items, np.ndarray: writer.array}[type(value)](value)  # type: ignore[operator]
    return bytes(writer.out + b"u.")


def residuals_of(images: np.ndarray) -> np.ndarray:
    """The residual layout, plane by plane and in plain arithmetic; images are uint8 [N, 3, H, W], red first."""
    red, green, blue = images.astype(np.int64).transpose(1, 0, 2, 3)
    planes = np.stack([green, red - green, blue - green])
    for axis in (-2, -1):
        planes = np.diff(planes, axis=axis, prepend=0)
    return (planes % 256).astype(np.uint8)


def cifar_parts(name: str, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Small random parts, by the names of the Python files: (images, labels, coarse labels)."""
    rng = np.random.default_rng(seed)
    stems = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if name == "cifar10" else ["train", "test"]
    classes = 10 if name == "cifar10" else 100
    return {
        stem: (
            rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8),
            rng.permutation(np.arange(20) * 7 % classes).astype(np.uint8),
            rng.integers(0, 20, 20).astype(np.uint8),
        )
        for stem in stems
    }


@pytest.fixture
def write_cifar() -> Callable[..., Path]:
    """Write a small set of five times 20 (or 20) training and 20 test images in one of the layouts."""

    def write(folder: Path, name: str = "cifar10", layout: str = "binary", seed: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        fine = name == "cifar100"
        for stem, (images, labels, coarse) in cifar_parts(name, seed).items():
            rows = images.reshape(len(images), -1)
            if layout == "binary":
                marks = [coarse, labels] if fine else [labels]
                (folder / f"{stem}.bin").write_bytes(np.column_stack([*marks, rows]).tobytes())
            elif layout == "npz":
                np.savez(folder / f"{name}_{stem}.npz", residuals=residuals_of(images), labels=labels)
            else:
                keys = {"fine_labels": labels, "coarse_labels": coarse} if fine else {"labels": labels}
                content = {"data": rows, **{key: values.tolist() for key, values in keys.items()}}
                (folder / stem).write_bytes(python2_pickle({"batch_label": b"a batch", **content}))
        return folder

    return write


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """An image file: uint8 [H, W] or [H, W, C]."""
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def python2() -> Callable[..., bytes]:
    return python2_pickle


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
