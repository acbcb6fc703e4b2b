"""Every registered set passes the public suite, on small files of its form and, where they are, on the real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import event_sets
import sound_files
from bitspike.data import DATASETS, Entry, ImageSet, Splits, load_digits
from bitspike.data.split import channel_constants, make_splits
from bitspike.testing import ConformanceError, check_dataset

Maker = Callable[[Path], tuple[str, Path | None, int | float | None]]

FUNCTION = """
import numpy as np
from bitspike.data import source

@source
def recordings(root=None):
    x = np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8)
    return {"x_train": x, "y_train": np.arange(60) % 3, "time": True, "classes": ("a", "b", "c")}
"""


@pytest.fixture
def makers(write_mnist: Any, write_cifar: Any, encode: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Maker]:
    """Set → (name, root, validation) after small files of its form have been written."""

    def images(place: Path, count: int, seed: int) -> None:
        place.mkdir(parents=True)
        for k in range(count):
            pixels = np.random.default_rng(100 * seed + k).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            (place / f"{k}.png").write_bytes(encode(pixels))

    def folder(root: Path) -> tuple[str, Path | None, int | float | None]:
        for seed, place in enumerate(("train/a", "train/b", "test/a", "test/b")):
            images(root / "pets" / place, 6, seed)
        return "folder:pets", root, 4

    def packed(root: Path) -> tuple[str, Path | None, int | float | None]:
        for seed, (part, count) in enumerate((("train", 30), ("val", 10))):
            rng = np.random.default_rng(seed)
            files = [encode(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), "PNG") for _ in range(count)]
            np.savez(
                root / f"tiny_imagenet10_{part}.npz",
                jpeg_bytes=np.frombuffer(b"".join(files), dtype=np.uint8),
                offsets=np.cumsum([0, *map(len, files)]),
                labels=(np.arange(count) % 2).astype(np.uint8),
                class_names=np.frombuffer(b"n01\ta\nn02\tb", dtype=np.uint8),
            )
        return "tiny_imagenet10", root, 6

    def hub(root: Path) -> tuple[str, Path | None, int | float | None]:
        sets = pytest.importorskip("datasets")
        image = pytest.importorskip("PIL.Image")
        features = sets.Features({"image": sets.Image(), "label": sets.ClassLabel(names=["a", "b"])})
        (root / "mine").mkdir()
        for seed, (part, count) in enumerate((("train", 24), ("test", 8))):
            rng = np.random.default_rng(seed)
            pixels = [image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)]
            rows = {"image": pixels, "label": [k % 2 for k in range(count)]}
            table = sets.Dataset.from_dict(rows, features=features)
            table.to_parquet(root / "mine" / f"{part}-00000-of-00001.parquet")
        return "hub:mine", root, 6

    def arrays(root: Path) -> tuple[str, Path | None, int | float | None]:
        x = np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8)
        np.savez(root / "own.npz", x_train=x, y_train=np.arange(60) % 3)
        return "npz:own.npz", root, 9

    def function(root: Path) -> tuple[str, Path | None, int | float | None]:
        (root / "sets_of_mine.py").write_text(FUNCTION)
        monkeypatch.syspath_prepend(root)
        return "python:sets_of_mine:recordings", root, 9

    def recordings(name: str) -> Callable[[Path], tuple[str, Path | None, int | float | None]]:
        def make(root: Path) -> tuple[str, Path | None, int | float | None]:
            event_sets.WRITERS[name](root)
            return name, root, event_sets.VALIDATION

        return make

    def spoken(root: Path) -> tuple[str, Path | None, int | float | None]:
        sound_files.fsdd(root)
        return "fsdd", root, sound_files.VALIDATION

    return {
        "digits": lambda root: ("digits", None, None),
        "mnist": lambda root: ("mnist", write_mnist(root, seed=1), 10),
        "fashion_mnist": lambda root: ("fashion_mnist", write_mnist(root, seed=2), 0.25),
        "cifar10": lambda root: ("cifar10", write_cifar(root, "cifar10"), 20),
        "cifar100": lambda root: ("cifar100", write_cifar(root, "cifar100"), 5),
        "tiny_imagenet10": packed,
        "folder": folder,
        "hub": hub,
        "npz": arrays,
        "python": function,
        "fsdd": spoken,
        **{name: recordings(name) for name in event_sets.WRITERS},
    }


@pytest.mark.parametrize("name", list(DATASETS))
def test_registered_sets_conform(name: str, makers: dict[str, Maker], tmp_path: Path) -> None:
    assert name in makers, "add a maker of small files"
    title, root, validation = makers[name](tmp_path)
    if name == "cifar100":  # 20 images of 100 classes
        with pytest.raises(ConformanceError, match="every class must occur in the train part"):
            check_dataset(title, root, validation)
        return
    check_dataset(title, root, validation)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.root and not entry.place])
def test_real_sets_conform(name: str) -> None:
    try:
        check_dataset(name, os.environ["BITSPIKE_DATA"])
    except ValueError as error:
        pytest.skip(f"not run: {error}")


def digits(seed: int, validation: int | float) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """(images, labels) of what is trained on and of the test part."""
    parts = load_digits(seed, validation)
    pool = (
        torch.cat([parts.train.images, parts.validation.images]),
        torch.cat([parts.train.labels, parts.validation.labels]),
    )
    return pool, (parts.test.images, parts.test.labels)


def broken(fault: str) -> Callable[..., Splits]:
    """A loader of the digits with one fault."""

    def make(root: object, validation: int | float, seed: int) -> Splits:
        if fault == "ignores sizes":
            validation = 100
        if fault == "own message" and seed < 0:
            raise ValueError("no!")
        good = load_digits(seed, validation)
        names = good.train.classes
        if fault == "leaks":
            leaky = torch.cat([good.train.images, good.validation.images])
            labels = torch.cat([good.train.labels, good.validation.labels])
            mean, std = channel_constants(leaky, 16)
            return Splits(
                *(
                    replace(p, mean=mean, std=std)
                    for p in (replace(good.train, images=leaky, labels=labels), good.validation, good.test)
                )
            )
        if fault == "moves the test part":
            pool, test = digits(seed, validation)
            every = torch.cat([pool[0], test[0]]), torch.cat([pool[1], test[1]])
            cut = 300 + seed
            return make_splits(
                "digits",
                names,
                16,
                (every[0][cut:], every[1][cut:]),
                (every[0][:cut], every[1][:cut]),
                validation,
                seed,
            )
        if fault == "other constants":
            return Splits(*(replace(part, mean=(0.5,)) for part in (good.train, good.validation, good.test)))
        if fault == "draws":
            return load_digits(int(torch.randint(2**40, ())), validation)
        if fault == "a class too many":
            return Splits(
                *(replace(part, classes=(*names, "eleven")) for part in (good.train, good.validation, good.test))
            )
        if fault == "names":
            return Splits(replace(good.train, name="digits"), good.validation, good.test)
        return good

    return make


FAULTS = {
    "leaks": "of the validation part may occur in the train part",
    "moves the test part": "the seed must move samples between train and validation only",
    "other constants": "mean and std must be those of the train part",
    "draws": "must give equal digests",
    "a class too many": "every class must occur",
    "names": "must end in /train",
    "ignores sizes": "validation must be as large as asked for",
    "own message": "must be in the house form",
}


@pytest.mark.parametrize("fault", [*FAULTS, "none"])
def test_a_broken_set_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.register("broken")(Entry(broken(fault), 0.1, root=False))
    if fault == "none":
        return check_dataset("broken")
    with pytest.raises(ConformanceError, match=FAULTS[fault]):
        check_dataset("broken")


def test_images_that_repeat_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def twins(root: object, validation: int | float, seed: int) -> Splits:
        good = load_digits(seed, validation)
        test: ImageSet = replace(good.test, images=good.train.images[:359], labels=good.train.labels[:359])
        return Splits(good.train, good.validation, test)

    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    DATASETS.register("twins")(Entry(twins, 0.1, root=False))
    with pytest.raises(ConformanceError, match="of the test part may occur in the train part"):
        check_dataset("twins")
