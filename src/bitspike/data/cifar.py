"""CIFAR-10 and CIFAR-100 from their binary files, from npz of residuals, or from their Python files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bitspike.checks import bad_value, one_of
from bitspike.data.cifar_files import READERS, Part
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.split import make_splits
from bitspike.registry import Registry

Layouts = dict[str, tuple[str, list[str], str]]
"""Layout → (its usual folder, training files, test file), in the order in which they are looked for."""


@dataclass(frozen=True)
class Cifar:
    """What tells CIFAR-10 from CIFAR-100: files, classes in order, and whether labels are fine beside coarse ones."""

    layouts: Layouts
    classes: tuple[str, ...]
    fine: bool


CIFARS: Registry[Cifar] = Registry("CIFAR set")


def register(name: str, layouts: Layouts, classes: tuple[str, ...], fine: bool) -> Entry:
    """Make a set of this form known by its name; arguments as in `Cifar`."""
    CIFARS.register(name)(Cifar(layouts, classes, fine))
    return DATASETS.register(name)(Entry(partial(load_cifar, name=name), 5000))


def load_cifar(root: str | os.PathLike[str], name: str, validation: int | float = 5000, seed: int = 0) -> Splits:
    """Load CIFAR-10 or CIFAR-100, with a validation part carved from the 50,000 training images.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", University of Toronto, 2009.
    The layout is told by the names of the files: binary (``data_batch_1.bin`` …, ``train.bin``), npz of residuals
    (``cifar10_data_batch_1.npz`` …) or Python (``data_batch_1`` …, ``train``), the first of these that is complete.
    Python files are pickles; they are read by `load_restricted`, which runs nothing in them. All three give the same
    images in the same order. CIFAR-100 is labelled with its 100 fine classes.

    Args:
        root: the folder with the files, or its parent, where the folder has its usual name.
        name: "cifar10" or "cifar100".
        validation: images carved from the training images, or their fraction in (0, 1).
        seed: of the validation split, 0 to 2^63 - 1.

    Returns:
        Splits of uint8 ``[N, 3, 32, 32]`` (red, green, blue), top 255, mean and std of the train part.

    Raises:
        ValueError: an unknown name, a folder without the files, a damaged file, training files of unequal length, or
            a validation part that leaves a side empty.
    """
    where = "load_cifar"
    one_of(where, "name", name, tuple(CIFARS))
    folder, layout = _find(where, Path(root), name)
    known = CIFARS[name]
    _, train, test = known.layouts[layout]
    parts = [READERS[layout](folder / file, known.fine) for file in (*train, test)]
    counts = [len(labels) for _, labels in parts[:-1]]
    if len(set(counts)) != 1:
        must = f"the training files in {folder} must hold equally many images"
        raise bad_value(where, must, counts, "copy the shorter ones again from their source")
    return make_splits(name, known.classes, 255, _join(parts[:-1]), _join(parts[-1:]), validation, seed)


def _find(where: str, root: Path, name: str) -> tuple[Path, str]:
    """The first folder and layout of which all files are there."""
    if not root.is_dir():
        raise bad_value(where, "root must be a folder", str(root), "pass the folder with the data files")
    begun = []
    layouts = CIFARS[name].layouts
    for layout, (usual, train, test) in layouts.items():
        for folder in (root / usual, root / name / usual, root / name, root):
            lacking = [file for file in (*train, test) if not (folder / file).is_file()]
            if not lacking:
                return folder, layout
            if len(lacking) <= len(train):
                begun.append(f"{folder} without {', '.join(lacking)}")
    usual_names = ", ".join(usual for usual, _, _ in layouts.values())
    must = f"{root}, or one of {usual_names} in it, must hold all files of {name} in one layout"
    raise bad_value(where, must, "; ".join(begun) or "none of them", "copy them there or pass another root")


def _join(parts: list[Part]) -> tuple[torch.Tensor, torch.Tensor]:
    """The parts one after the other, as tensors."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return torch.from_numpy(images), torch.from_numpy(labels)
