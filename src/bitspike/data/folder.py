"""Folders of images: one sub-folder a class."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.decode import SUFFIXES, check_form, decode_images
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.named_splits import VALIDATION, Pair, assemble, choose_parts

WHERE = "load_folder"


def load_folder(
    root: str | os.PathLike[str],
    validation: int | float = 0.1,
    seed: int = 0,
    *,
    size: int | None = None,
    channels: int = 3,
    test: str | None = None,
) -> Splits:
    """Load a folder of images into memory, as raw values of one size.

    ``root`` holds ``train/`` and, beside it, ``test/`` or ``val/`` (``valid/``, ``validation/``); where both are
    there, the second is the validation part. Each holds one sub-folder a class, the same ones in all. Or ``root``
    holds the classes itself; then a fifth is carved from it to test on, the same fifth for every seed. Images are
    found at any depth below their class, in the order of their paths; other files and hidden ones are passed over.

    Args:
        root: the folder.
        validation: images carved from the training part, or their fraction in (0, 1); unused where the folder
            brings a validation part.
        seed: of the validation split, 0 to 2^63 - 1.
        size: side in pixels to which the largest centred square of each image is scaled; None keeps the images as
            they are, which must then be alike. All images together take ``count * channels * size**2`` bytes.
        channels: 3, or 1 for grey.
        test: the sub-folder to test on, where it is none of those above.

    Returns:
        Splits of uint8 ``[N, channels, H, W]``, top 255, mean and std of the train part.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: no such folder, an empty class, parts with other classes, or an image that cannot be decoded.
    """
    check_form(WHERE, size, channels)
    folder = Path(root)
    if not folder.is_dir():
        raise bad_value(WHERE, "root must be a folder", str(folder), "pass the folder with the images")
    below = _folders(folder)
    if "train" in below:
        held = [name for name in below if name in ("train", "test", *VALIDATION, test)]
        places = {part: folder / name for part, name in choose_parts(WHERE, held, test).items()}
    else:
        choose_parts(WHERE, ["train"], test)
        places = {"train": folder}
    classes = tuple(_folders(places["train"]))
    if not classes:
        must = f"{places['train']} must hold one sub-folder a class"
        raise bad_value(WHERE, must, "none", "sort the images into folders named after their classes")
    parts = {part: _read(place, classes, size, channels) for part, place in places.items()}
    return assemble(folder.resolve().name, classes, parts, validation, seed)


def _read(place: Path, classes: tuple[str, ...], size: int | None, channels: int) -> Pair:
    """All images of one part."""
    if _folders(place) != list(classes):
        odd = sorted({*_folders(place)} ^ {*classes})
        must = f"{place} must hold the classes of the training part"
        raise bad_value(WHERE, must, f"a difference in {', '.join(odd[:5])}", "add or remove these folders")
    files, labels = [], []
    for label, name in enumerate(classes):
        found = _images(place / name)
        if not found:
            must = f"{place / name} must hold images ({', '.join(SUFFIXES)})"
            raise bad_value(WHERE, must, "none", "add some or remove the folder")
        files += found
        labels += [label] * len(found)
    encoded = ((str(file), file.read_bytes()) for file in files)
    return decode_images(WHERE, encoded, len(files), size, channels), torch.tensor(labels)


def _folders(place: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted."""
    return sorted(entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(place: Path) -> list[Path]:
    """The visible images below a folder, in the order of their paths."""
    found = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    below = [(path.relative_to(place).as_posix(), path) for path in found]
    return [path for name, path in sorted(below) if not any(part.startswith(".") for part in name.split("/"))]


FOLDER = DATASETS.register("folder")(Entry(load_folder, 0.1, options=("size", "channels", "test"), place="PATH"))
