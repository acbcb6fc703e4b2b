"""The one entry by name."""

from __future__ import annotations

import os

from bitspike.checks import bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.digits import load_digits
from bitspike.data.mnist import load_mnist_like

NAMES = ("digits", "mnist", "fashion_mnist")


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    validation: int | float | None = None,
    seed: int = 0,
) -> Splits:
    """Load a data set by name.

    Args:
        name: "digits" (needs scikit-learn and no file), "mnist" or "fashion_mnist".
        root: folder of the data; where left out, the environment variable BITSPIKE_DATA. "digits" needs none.
        validation: images carved from the training part, or their fraction in (0, 1). Default: 0.1 for "digits",
            5000 for the others.
        seed: of the validation split, 0 to 2^63 - 1.

    Returns:
        The three parts, with mean and std of the train part.

    Raises:
        ImportError: "digits" without scikit-learn.
        ValueError: an unknown name, no root, or what the set's own loader refuses.

    >>> load("digits", validation=38).train
    ImageSet('digits/train': 1400 images 1x8x8, 10 classes)
    """
    one_of("data.load", "name", name, NAMES)
    if name == "digits":
        return load_digits(seed, 0.1 if validation is None else validation)
    folder = root or os.environ.get("BITSPIKE_DATA")
    if not folder:
        must = f"{name} must have a folder with its files"
        got = "no root, and BITSPIKE_DATA is not set"
        raise bad_value("data.load", must, got, "pass data.root or set BITSPIKE_DATA")
    return load_mnist_like(folder, name, 5000 if validation is None else validation, seed)
