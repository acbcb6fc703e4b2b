"""The one entry by name. A further set is one more `Entry`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bitspike.checks import bad_value, one_of
from bitspike.data.cifar import load_cifar
from bitspike.data.dataset import Splits
from bitspike.data.digits import load_digits
from bitspike.data.folder import load_folder
from bitspike.data.hub import load_hub
from bitspike.data.mnist import load_mnist_like
from bitspike.data.packed import load_packed_jpeg

WHERE = "data.load"


@dataclass(frozen=True)
class Entry:
    """How one name is loaded.

    Args:
        load: called with root (a folder, or what stands after the colon), validation, seed as keywords, and the
            options given.
        validation: images carved from the training part, or their fraction, where none is asked for.
        root: whether it needs a folder.
        options: keywords of ``load`` that a caller may pass on.
    """

    load: Callable[..., Splits]
    validation: int | float
    root: bool = True
    options: tuple[str, ...] = ()


def _digits(root: object, validation: int | float, seed: int) -> Splits:
    """The digits need no folder."""
    return load_digits(seed, validation)


def _hub(root: str, validation: int | float, seed: int, **options: object) -> Splits:
    """What is a folder for others is a name here."""
    return load_hub(root, validation, seed, **options)  # type: ignore[arg-type]


SETS = {
    "digits": Entry(_digits, 0.1, root=False),
    "mnist": Entry(partial(load_mnist_like, name="mnist"), 5000),
    "fashion_mnist": Entry(partial(load_mnist_like, name="fashion_mnist"), 5000),
    "cifar10": Entry(partial(load_cifar, name="cifar10"), 5000),
    "cifar100": Entry(partial(load_cifar, name="cifar100"), 5000),
    "tiny_imagenet10": Entry(partial(load_packed_jpeg, name="tiny_imagenet10"), 500, options=("size", "channels")),
}
"""Sets by name."""

PLACES = {
    "folder:PATH": Entry(load_folder, 0.1, options=("size", "channels", "test")),
    "hub:NAME": Entry(_hub, 0.1, options=("config", "revision", "image", "label", "size", "channels", "test")),
}
"""Sets that are named by where they are: what stands after the colon."""

NAMES = (*SETS, *PLACES)


def find(name: str) -> tuple[Entry, str]:
    """How a set is loaded, and what stands after the colon of its name ("" where there is none).

    Raises:
        ValueError: an unknown name, or nothing after the colon.

    >>> find("folder:pets")[0].options, find("folder:pets")[1]
    (('size', 'channels', 'test'), 'pets')
    """
    kind, colon, place = name.partition(":")
    by_place = {key.partition(":")[0]: entry for key, entry in PLACES.items()}
    if not colon or kind not in by_place:
        return SETS[one_of(WHERE, "name", name, NAMES)], ""
    if not place:
        raise bad_value(WHERE, f"{kind}: must be followed by a place", repr(name), f"write {kind}:PLACE")
    return by_place[kind], place


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    validation: int | float | None = None,
    seed: int = 0,
    **options: object,
) -> Splits:
    """Load a data set by name.

    Args:
        name: "digits" (needs scikit-learn and no file), "mnist", "fashion_mnist", "cifar10", "cifar100",
            "tiny_imagenet10" (needs Pillow), "folder:PATH" (`load_folder`) or "hub:NAME" (`load_hub`; NAME may be a
            folder of parquet files).
        root: folder of the data; where left out, the environment variable BITSPIKE_DATA. "digits" needs none. PATH
            and NAME are looked for below ``root`` where it is given, and never below BITSPIKE_DATA.
        validation: images carved from the training part, or their fraction in (0, 1). Default: 0.1 for "digits",
            "folder:" and "hub:", 500 for "tiny_imagenet10", 5000 for the others.
        seed: of the validation split, 0 to 2^63 - 1.
        options: further keywords of the set's own loader, such as ``size``.

    Returns:
        The three parts, with mean and std of the train part.

    Raises:
        ImportError: an optional package that the set needs is not installed.
        TypeError, ValueError: an unknown name or option, no root, or what the set's own loader refuses.

    >>> load("digits", validation=38).train
    ImageSet('digits/train': 1400 images 1x8x8, 10 classes)
    """
    entry, place = find(name)
    if place:
        folder = os.fspath(Path(root) / place) if root else place
    else:
        folder = os.fspath(root or os.environ.get("BITSPIKE_DATA") or "")
        if entry.root and not folder:
            must = f"{name} must have a folder with its files"
            got = "no root, and BITSPIKE_DATA is not set"
            raise bad_value(WHERE, must, got, "pass data.root or set BITSPIKE_DATA")
    for option in options:
        if not entry.options:
            raise bad_value(WHERE, f"an option of {name} must not be given", repr(option), "leave it out")
        one_of(WHERE, f"an option of {name}", option, entry.options)
    amount = entry.validation if validation is None else validation
    return entry.load(root=folder, validation=amount, seed=seed, **options)
