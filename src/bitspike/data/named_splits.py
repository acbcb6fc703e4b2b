"""Which named parts of a set are train, validation and test, and the splits made from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from bitspike.checks import bad_value
from bitspike.data.dataset import ImageSet, Splits
from bitspike.data.split import carve_validation, channel_constants, make_splits

Pair = tuple[torch.Tensor, torch.Tensor]
"""(images uint8 ``[N, C, H, W]``, labels int64 ``[N]``)."""

VALIDATION = ("validation", "valid", "val")
TEST_SEED = 1797
"""Seed of a carved test part: fixed, so that every run is scored on the same images."""

TEST_FRACTION = 0.2


def choose_parts(where: str, names: Collection[str], test: str | None) -> dict[str, str]:
    """Say which named part is what.

    "train" is trained on. ``test``, else "test", else "validation", "valid" or "val" is tested on; of these three,
    one that is not tested on is the validation part.

    Args:
        where: what asks, for messages.
        names: of the parts that are there.
        test: the name of the test part; None: as above.

    Returns:
        "train", "validation" and "test" → name; the last two only where there is such a part.

    Raises:
        ValueError: no part "train", or none called ``test``.

    >>> choose_parts("demo", ["train", "val"], None)
    {'train': 'train', 'test': 'val'}
    """
    if "train" not in names or (test is not None and (test not in names or test == "train")):
        must = "the parts must include 'train'" + (f" and {test!r}, another one" if test is not None else "")
        raise bad_value(where, must, ", ".join(map(repr, names)) or "none", "rename them or pass another test")
    validation = [name for name in VALIDATION if name in names and name != test]
    if test is None and "test" in names:
        test = "test"
    elif test is None and validation:
        test = validation.pop(0)
    found = {"train": "train", "validation": validation[0] if validation else None, "test": test}
    return {part: name for part, name in found.items() if name is not None}


def assemble(
    name: str, classes: tuple[str, ...], parts: Mapping[str, Pair], validation: int | float, seed: int
) -> Splits:
    """Make the splits; what the set does not bring is carved from its training part.

    Args:
        name: name of the data set.
        classes: as in `ImageSet`.
        parts: "train" and, where the set brings them, "validation" and "test". A test part that it lacks is
            `TEST_FRACTION` of the training part, the same for every seed.
        validation: samples carved from the training part, or their fraction in (0, 1); unused where the set brings
            a validation part.
        seed: of the carving, 0 to 2^63 - 1.

    Returns:
        Splits with top 255, mean and std of the train part.

    Raises:
        TypeError, ValueError: as `carve_validation` and `ImageSet`.
    """
    images, labels = parts["train"]
    test = parts.get("test")
    if test is None:
        kept, held = carve_validation(labels, TEST_FRACTION, TEST_SEED)
        test = images[held], labels[held]
        images, labels = images[kept], labels[kept]
    if "validation" not in parts:
        return make_splits(name, classes, 255, (images, labels), test, validation, seed)
    mean, std = channel_constants(images, 255)
    train = ImageSet(images, labels, classes, 255, mean, std, f"{name}/train")
    others = (
        replace(train, images=pixels, labels=marks, name=f"{name}/{part}")
        for part, (pixels, marks) in (("validation", parts["validation"]), ("test", test))
    )
    return Splits(train, *others)


def completed(name: str, sets: Mapping[str, Any], validation: int | float, seed: int) -> Splits:
    """Splits of the sets that are there; a test or validation part that is missing is carved from "train".

    Args:
        name: of the whole. sets: part → a set with ``labels``, ``regression`` and ``subset``. validation: samples or
            their share. seed: of the validation part; the test part has its own, so that every run is scored alike.
    """
    found = dict(sets)
    for part, size, own in (("test", TEST_FRACTION, TEST_SEED), ("validation", validation, seed)):
        if part not in found:
            whole = found["train"]
            alike = whole.regression or whole.labels.dim() > 1
            strata = torch.zeros(len(whole), dtype=torch.int64) if alike else whole.labels
            kept, held = carve_validation(strata, size, own)
            found |= {"train": whole.subset(kept), part: replace(whole.subset(held), name=f"{name}/{part}")}
    return Splits(**found)
