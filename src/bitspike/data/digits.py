"""scikit-learn's embedded 8×8 digits: 1797 real images that need no file."""

from __future__ import annotations

import torch

from bitspike.checks import message
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.split import carve_validation, make_splits

TEST_SEED = 1797
"""Seed of the train/test split: fixed, so that every run is scored on the same 359 images."""

TEST_FRACTION = 0.2


def load_digits(seed: int = 0, validation: int | float = 0.1) -> Splits:
    """Load the digits: 1438 images to train on, less the validation part, and 359 to test on.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI; the part in scikit-learn.
    The set has no official split; this one is stratified with the constant `TEST_SEED`, and only the validation
    part depends on ``seed``. Mean and std come from the train part.

    Args:
        seed: of the validation split, 0 to 2^63 - 1.
        validation: images carved from the 1438, or their fraction in (0, 1).

    Returns:
        Splits of uint8 ``[N, 1, 8, 8]`` with values 0 to 16 = top.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a validation part that leaves a side empty.

    >>> splits = load_digits()
    >>> len(splits.train), len(splits.validation), len(splits.test)
    (1294, 144, 359)
    """
    try:
        from sklearn.datasets import load_digits as embedded
    except ImportError as error:
        text = message("load_digits", "scikit-learn must be installed", error, "run `pip install bitspike[demo]`")
        raise ImportError(text) from error
    bunch = embedded()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    pool, test = carve_validation(labels, TEST_FRACTION, TEST_SEED)
    classes = tuple(str(digit) for digit in range(10))
    return make_splits(
        "digits", classes, 16, (images[pool], labels[pool]), (images[test], labels[test]), validation, seed
    )


def _without_root(root: object, validation: int | float, seed: int) -> Splits:
    """The digits need no folder."""
    return load_digits(seed, validation)


DIGITS = DATASETS.register("digits")(Entry(_without_root, 0.1, root=False))
