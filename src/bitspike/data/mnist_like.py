"""MNIST and sets of its form from the four files their authors publish."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bitspike.checks import bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.idx import read_idx
from bitspike.data.split import make_splits
from bitspike.registry import Registry

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Like:
    """What tells one set of this form from another: the usual names of its folder, and its classes in order."""

    folders: tuple[str, ...]
    classes: tuple[str, ...]


LIKE: Registry[Like] = Registry("MNIST-like set")


def register(name: str, folders: tuple[str, ...], classes: tuple[str, ...]) -> Entry:
    """Make a set of this form known by its name; arguments as in `Like`."""
    LIKE.register(name)(Like(folders, classes))
    return DATASETS.register(name)(Entry(partial(load_mnist_like, name=name), 5000))


def load_mnist_like(root: str | os.PathLike[str], name: str, validation: int | float = 5000, seed: int = 0) -> Splits:
    """Load MNIST or Fashion-MNIST, with a validation part carved from the 60,000 training images.

    Args:
        root: the folder with the four files (plain, or ending in .gz), or its parent: for "fashion_mnist" one that
            holds ``fashion_mnist/`` or ``FashionMNIST/raw/``, for "mnist" ``mnist/`` or ``MNIST/raw/``.
        name: "mnist" or "fashion_mnist".
        validation: images carved from the training images, or their fraction in (0, 1).
        seed: of the validation split, 0 to 2^63 - 1.

    Returns:
        Splits of uint8 ``[N, 1, 28, 28]``, top 255, mean and std of the train part.

    Raises:
        ValueError: an unknown name, a folder without the files or of the other set, a damaged file, images and
            labels that do not pair, or a validation part that leaves a side empty.
    """
    where = "load_mnist_like"
    one_of(where, "name", name, tuple(LIKE))
    folder = _folder(Path(root), name)
    found = [_file(folder, stem) for stem in FILES]
    if None in found:
        lacking = ", ".join(stem for stem, file in zip(FILES, found, strict=True) if file is None)
        raise bad_value(where, f"{folder} must hold {', '.join(FILES)} (or .gz)", f"none of {lacking}", "add them")
    files = [file for file in found if file is not None]
    return make_splits(name, LIKE[name].classes, 255, _pair(*files[:2]), _pair(*files[2:]), validation, seed)


def _folder(root: Path, name: str) -> Path:
    """Find the folder with the files of ``name`` in or at ``root``."""
    where = "load_mnist_like"
    if not root.is_dir():
        raise bad_value(where, "root must be a folder", str(root), "pass the folder with the data files")
    for folder in (*(root / below for below in LIKE[name].folders), root):
        if any(_file(folder, stem) for stem in FILES):
            break
    else:
        must = f"{root}, or {' or '.join(LIKE[name].folders)} in it, must hold {', '.join(FILES)} (or .gz)"
        raise bad_value(where, must, "none of them", "copy the four files there or pass another root")
    parts = Path(os.path.abspath(folder)).parts
    for other, like in LIKE.items():
        if other != name and {parts[-1], "/".join(parts[-2:])} & {*like.folders}:
            todo = f"pass the folder of {name} or its parent"
            raise bad_value(where, f"root must hold {name}", f"{folder}, a folder of {other}", todo)
    return folder


def _file(folder: Path, stem: str) -> Path | None:
    """Return the plain file, else the one ending in .gz, else None."""
    return next((file for file in (folder / stem, folder / f"{stem}.gz") if file.is_file()), None)


def _pair(images: Path, labels: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read an image and a label file and check that they pair."""
    pixels, marks = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or marks.ndim != 1 or len(pixels) != len(marks) or not pixels.size:
        must = f"{images.name} and {labels.name} must be [N, H, W] and [N] with the same N >= 1"
        got = f"{list(pixels.shape)} and {list(marks.shape)}"
        raise bad_value("load_mnist_like", must, got, f"check the files in {images.parent}")
    return torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(marks).to(torch.int64)
