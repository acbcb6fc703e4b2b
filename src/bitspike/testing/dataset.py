"""The conformance suite of a data set: what `bitspike.data.load` promises of every name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bitspike.checks import message
from bitspike.data import Batches, ImageSet, Samples, Splits, load
from bitspike.data.catalog import find
from bitspike.data.split import channel_constants
from bitspike.layers import values_of
from bitspike.testing import expectations as tell


def check_dataset(
    name: str,
    root: str | os.PathLike[str] | None = None,
    validation: int | float | None = None,
    *,
    alike: float = 0.01,
    **options: Any,
) -> None:
    """Raise unless a registered set keeps the contract that training and the keys of its jobs rely on.

    It is loaded some six times.

    Args:
        name, root, validation, options: as `bitspike.data.load` takes them.
        alike: greatest share of images that may also occur, with equal values, in another part.

    Raises:
        ConformanceError: names the broken promise. ValueError: what the loader refuses.

    >>> check_dataset("digits")
    """
    where = f"check_dataset({name})"
    entry, place = find(name)

    def make(seed: int = 0, size: int | float | None = validation, **more: Any) -> Splits:
        return load(name, root, size, seed, **{**options, **more})

    splits = make()
    _parts_are_sound(where, splits)
    _parts_are_apart(where, splits, alike)
    for what, again in (("two calls", make()), ("every default seed", load(name, root, validation, **options))):
        if again.digest() != splits.digest():
            tell.fail(where, f"{what} must give equal digests", "different ones", "draw from the seed alone")
    other = make(seed=1)
    if _pooled(other) != _pooled(splits) or _rows(other.test) != _rows(splits.test):
        must = "the seed must move samples between train and validation only"
        tell.fail(where, must, "other samples in all, or another test part", "carve with `make_splits`")
    _is_a_part_of_batches(where, splits)
    refused: list[tuple[str, Callable[[], object]]] = [
        ("an unknown option", lambda: make(an_option_that_no_set_has=1)),
    ]
    if entry.root and not place:
        refused.append(("a root without the files", lambda: load(name, "a/folder/that/is/nowhere")))
    if _rows(other.validation) != _rows(splits.validation):  # else the set brings a validation part of its own
        count = len(splits.train) + len(splits.validation)
        refused += [
            ("no validation part", lambda: make(size=0)),
            ("no training part", lambda: make(size=count)),
            ("a share above 1", lambda: make(size=1.5)),
            ("a negative seed", lambda: make(seed=-1)),
        ]
        grouped = entry.groups and options.get("validation_by") != "class"  # whole groups seldom meet a number
        if not grouped and len(make(size=count // 3).validation) != count // 3:
            tell.fail(where, "validation must be as large as asked for", "another size", "carve with `make_splits`")
    for what, run in refused:
        _expect_refused(where, what, run)


def _named(splits: Splits) -> tuple[tuple[str, Samples], ...]:
    return ("train", splits.train), ("validation", splits.validation), ("test", splits.test)


def _parts_are_sound(where: str, splits: Splits) -> None:
    """Every class is trained on, names tell the parts, and the constants are those of the train part."""
    if not isinstance(splits, Splits):
        tell.fail(where, "it must give Splits", type(splits).__name__, "return what `make_splits` gives")
    for kind, part in _named(splits):
        if not part.name.endswith(f"/{kind}"):
            tell.fail(where, f"the name of the {kind} part must end in /{kind}", part.name, "name it so")
    train = splits.train
    if not isinstance(train, ImageSet):
        return
    missing = [name for k, name in enumerate(train.classes) if not bool((train.labels == k).any())]
    if missing:
        tell.fail(where, "every class must occur in the train part", f"none of {', '.join(missing[:3])}", "drop it")
    constants = channel_constants(train.images, train.top)
    if (train.mean, train.std) != constants:
        must = "mean and std must be those of the train part"
        tell.fail(where, must, f"{train.mean}, {train.std}", "use `make_splits`")


def _rows(part: Samples) -> Counter[bytes]:
    """How often each pair of image and label occurs."""
    images = part.images.flatten(1).numpy()
    return Counter(row.tobytes() + bytes([k % 256]) for row, k in zip(images, part.labels.tolist(), strict=True))


def _pooled(splits: Splits) -> Counter[bytes]:
    return _rows(splits.train) + _rows(splits.validation)


def _parts_are_apart(where: str, splits: Splits, alike: float) -> None:
    """No part holds images of another, but for what the data repeat."""
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        known, held = _rows(getattr(splits, one)), _rows(getattr(splits, other))
        share = sum(count for row, count in held.items() if row in known) / held.total()
        if share > alike:
            must = f"at most {alike:.1%} of the {other} part may occur in the {one} part"
            tell.fail(where, must, f"{share:.1%}", "split by samples; raise `alike` where the data repeat themselves")


def _is_a_part_of_batches(where: str, splits: Splits) -> None:
    """Batches of every part are finite, and in order they are the part."""
    for kind, part in _named(splits):
        size = min(len(part), 512)
        x, labels = next(iter(Batches(part, size)))
        if not bool(torch.isfinite(values_of(x)).all()):
            tell.fail(where, f"normalised images of the {kind} part must be finite", "NaN or inf", "check mean and std")
        same: Tensor = labels == part.labels[:size]
        tell.expect_all(same, labels, where, f"labels of the {kind} part must come in order", "keep labels as they are")


def _expect_refused(where: str, what: str, run: Callable[[], object]) -> None:
    """Fail unless a call raises `ValueError` or `TypeError` in the house form."""
    try:
        run()
    except (ValueError, TypeError) as error:
        text = str(error)
        if ": " in text and ", got " in text and "; " in text:
            return
        tell.fail(where, f"the message about {what} must be in the house form", repr(text[:200]), "use bitspike.checks")
    except Exception as error:
        must, got = f"{what} must raise ValueError", f"{type(error).__name__}: {str(error)[:200]}"
        raise tell.ConformanceError(message(where, must, got, "check arguments first")) from error
    tell.fail(where, f"{what} must raise ValueError", "splits", "check arguments first")
