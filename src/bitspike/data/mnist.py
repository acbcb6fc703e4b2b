"""MNIST and Fashion-MNIST from the four files their authors publish."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bitspike.checks import bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.idx import read_idx
from bitspike.data.split import make_splits

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FOLDERS = {"mnist": ("mnist", "MNIST/raw"), "fashion_mnist": ("fashion_mnist", "FashionMNIST/raw")}
CLASSES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}


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
    one_of(where, "name", name, tuple(FOLDERS))
    folder = _folder(Path(root), name)
    found = [_file(folder, stem) for stem in FILES]
    if None in found:
        lacking = ", ".join(stem for stem, file in zip(FILES, found, strict=True) if file is None)
        raise bad_value(where, f"{folder} must hold {', '.join(FILES)} (or .gz)", f"none of {lacking}", "add them")
    files = [file for file in found if file is not None]
    return make_splits(name, CLASSES[name], 255, _pair(*files[:2]), _pair(*files[2:]), validation, seed)


def _folder(root: Path, name: str) -> Path:
    """Find the folder with the files of ``name`` in or at ``root``."""
    where = "load_mnist_like"
    if not root.is_dir():
        raise bad_value(where, "root must be a folder", str(root), "pass the folder with the data files")
    for folder in (*(root / below for below in FOLDERS[name]), root):
        if any(_file(folder, stem) for stem in FILES):
            break
    else:
        must = f"{root}, or {' or '.join(FOLDERS[name])} in it, must hold {', '.join(FILES)} (or .gz)"
        raise bad_value(where, must, "none of them", "copy the four files there or pass another root")
    parts = Path(os.path.abspath(folder)).parts
    for other in FOLDERS.keys() - {name}:
        if parts[-1] in FOLDERS[other] or "/".join(parts[-2:]) in FOLDERS[other]:
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
