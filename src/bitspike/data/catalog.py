"""The one entry by name."""

from __future__ import annotations

import os
from pathlib import Path

from bitspike.checks import bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry, listed

WHERE = "data.load"


def find(name: str) -> tuple[Entry, str]:
    """How a set is loaded, and what stands after the colon of its name ("" where there is none).

    Raises:
        ValueError: an unknown name, or nothing after the colon.

    >>> find("folder:pets")[0].options, find("folder:pets")[1]
    (('size', 'channels', 'test'), 'pets')
    """
    kind, colon, place = name.partition(":")
    if kind not in DATASETS or bool(DATASETS[kind].place) != bool(colon):
        one_of(WHERE, "name", name, listed())  # it is none of them
    entry = DATASETS[kind]
    if colon and not place:
        raise bad_value(WHERE, f"{kind}: must be followed by a place", repr(name), f"write {kind}:PLACE")
    return entry, place


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
            "tiny_imagenet10" (needs Pillow), the recordings "nmnist", "dvs_gesture", "cifar10_dvs", "ncaltech101" and
            "shd" (needs h5py; frames as `bitspike.data.events.FrameOptions` says), the spoken digits "fsdd" (spectra as
            `bitspike.data.sound.SoundOptions` says), "folder:PATH" (`load_folder`), "hub:NAME" (`load_hub`; NAME may be
            a folder of parquet files), "npz:FILE" (`load_arrays`; FILE may be a folder of npy files) or
            "python:MODULE:FUNCTION" (a function of your own, `source`).
        root: folder of the data; where left out, the environment variable BITSPIKE_DATA. "digits" needs none. PATH,
            NAME and FILE are looked for below ``root`` where it is given, and never below BITSPIKE_DATA; FUNCTION
            gets ``root``.
        validation: images carved from the training part, or their fraction in (0, 1). Default: 0.1 for "digits",
            recordings, "fsdd", "folder:", "hub:", "npz:" and "python:", 500 for "tiny_imagenet10", 5000 for the
            others.
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
    where: str | None
    own: dict[str, object] = {}
    if place and not entry.joined:
        where, own = None if root is None else os.fspath(root), {"place": place}
    elif place:
        where = os.fspath(Path(root) / place) if root else place
    else:
        where = os.fspath(root or os.environ.get("BITSPIKE_DATA") or "")
        if entry.root and not where:
            must = f"{name} must have a folder with its files"
            got = "no root, and BITSPIKE_DATA is not set"
            raise bad_value(WHERE, must, got, "pass data.root or set BITSPIKE_DATA")
    for option in options:
        if not entry.options:
            raise bad_value(WHERE, f"an option of {name} must not be given", repr(option), "leave it out")
        one_of(WHERE, f"an option of {name}", option, entry.options)
    amount = entry.validation if validation is None else validation
    return entry.load(root=where, validation=amount, seed=seed, **own, **options)
