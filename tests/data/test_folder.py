"""Folders of images: which parts, which order, which size, and what is said of damaged files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike.data import load_folder

pytest.importorskip("PIL")


def write(root: Path, encode: Any, parts: dict[str, int], classes: str = "ab", size: tuple[int, int] = (6, 6)) -> Path:
    """``parts``: folder below root → images a class; every pixel of an image is random."""
    rng = np.random.default_rng(len(parts))
    for part, count in parts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                (root / part / name / f"{k:03}.png").write_bytes(encode(pixels))
    return root


def test_train_and_val(tmp_path: Path, encode: Any) -> None:
    splits = load_folder(write(tmp_path / "pets", encode, {"train": 10, "val": 3}))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 2, 6]
    assert splits.train.images.shape == (18, 3, 6, 6) and splits.train.classes == ("a", "b")
    assert repr(splits.test) == "ImageSet('pets/test': 6 images 3x6x6, 2 classes)"
    assert splits.test.labels.tolist() == [0] * 3 + [1] * 3


def test_three_parts(tmp_path: Path, encode: Any) -> None:
    root = write(tmp_path, encode, {"train": 5, "val": 2, "test": 3})
    splits = load_folder(root)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 4, 6]
    assert load_folder(root, seed=5).digest() == splits.digest()
    swapped = load_folder(root, test="val")
    assert [len(part) for part in (swapped.train, swapped.validation, swapped.test)] == [9, 1, 4]


def test_classes_only(tmp_path: Path, encode: Any) -> None:
    splits = load_folder(write(tmp_path, encode, {".": 20}), seed=0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [29, 3, 8]
    other = load_folder(tmp_path, seed=1)
    assert torch.equal(splits.test.images, other.test.images) and splits.digest() != other.digest()
    train_only = write(tmp_path / "pets", encode, {"train": 20})
    assert len(load_folder(train_only).test) == 8


def test_order_and_what_is_passed_over(tmp_path: Path, encode: Any) -> None:
    root = write(tmp_path, encode, {"train": 4, "test": 1})
    expected = load_folder(root, 1).digest()
    for other in (".hidden.png", "notes.txt", "boxes.csv"):
        (root / "test" / "a" / other).write_bytes(b"junk")
    (root / "test" / ".cache" / "x").mkdir(parents=True)
    (root / "train" / "readme.md").write_text("text")
    (root / "train" / "b" / ".thumbs").mkdir()
    (root / "train" / "b" / ".thumbs" / "000.png").write_bytes(b"junk")
    assert load_folder(root, 1).digest() == expected
    deeper = root / "test" / "b" / "images"
    deeper.mkdir()
    (root / "test" / "b" / "000.png").rename(deeper / "000.PNG")
    assert load_folder(root, 1).digest() == expected


def test_size_scales_the_centred_square(tmp_path: Path, encode: Any) -> None:
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(2):
                wide = np.zeros((4, 12, 3), dtype=np.uint8)
                wide[:, 4:8] = 50 + 50 * k
                tall = wide.transpose(1, 0, 2)
                (tmp_path / part / name / f"{k}.png").write_bytes(encode(tall if name == "b" else wide))
    for size in (1, 2, 4, 8):
        images = load_folder(tmp_path, 1, size=size).test.images
        assert images.shape == (4, 3, size, size)
        assert [image.unique().tolist() for image in images] == [[50], [100]] * 2
    with pytest.raises(ValueError, match=r"load_folder .*b.0\.png: all images must be 12x4 .*got 4x12; pass size"):
        load_folder(tmp_path)


def test_an_image_of_the_right_size_is_kept(tmp_path: Path, encode: Any) -> None:
    root = write(tmp_path, encode, {"train": 4, "test": 1})
    assert load_folder(root, 1, size=6).digest() == load_folder(root, 1).digest()


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images(tmp_path: Path, encode: Any, form: str, channels: int) -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for k, pixels in enumerate((grey, np.stack([grey] * 3, 2))):
            (tmp_path / "train" / name / f"{k}.{form.lower()}").write_bytes(encode(pixels, form))
        (tmp_path / "test" / name / f"0.{form.lower()}").write_bytes(encode(grey, form))
    images = load_folder(tmp_path, 1, channels=channels).test.images
    assert torch.equal(images, torch.from_numpy(grey).expand(2, channels, 4, 4))


def test_transparency_and_palettes(tmp_path: Path, encode: Any) -> None:
    from PIL import Image

    root = write(tmp_path, encode, {"train": 4, "test": 1}, size=(4, 4))
    clear = np.full((4, 4, 4), 77, dtype=np.uint8)
    (root / "test" / "a" / "000.png").write_bytes(encode(clear))
    with Image.new("P", (4, 4)) as palette:
        palette.putpalette([9, 8, 7] * 256)
        palette.save(root / "test" / "b" / "000.png")
    images = load_folder(root, 1).test.images
    assert images[0].unique().tolist() == [77] and images[1, :, 0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_damaged_image_is_named(tmp_path: Path, encode: Any, form: str) -> None:
    root = write(tmp_path, encode, {"train": 4, "val": 1}, size=(16, 16))
    content = encode(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), form)
    for damaged in (b"", b"junk", content[: len(content) // 2], content[:20]):
        (root / "val" / "b" / "000.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^load_folder .*val.b.000\.png: the image must be a sound .*; replace"):
            load_folder(root, 1)


def test_deep_images_and_huge_ones_are_refused(tmp_path: Path, encode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    root = write(tmp_path, encode, {"train": 4, "val": 1}, size=(16, 16))
    file = root / "val" / "b" / "000.png"
    whole = file.read_bytes()
    file.write_bytes(encode(np.zeros((16, 16), dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"000\.png: the image must have 8 bits a channel, got mode I;16"):
        load_folder(root, 1)
    file.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"the image must be a sound .*decompression bomb"):
        load_folder(root, 1)


def test_other_formats_are_not_opened(tmp_path: Path, encode: Any) -> None:
    root = write(tmp_path, encode, {"train": 4, "val": 1})
    (root / "val" / "a" / "000.png").write_bytes(encode(np.zeros((6, 6), np.uint8), "GIF"))
    with pytest.raises(ValueError, match=r"must be a sound JPEG, PNG"):
        load_folder(root, 1)


def test_folders_that_do_not_fit(tmp_path: Path, encode: Any) -> None:
    with pytest.raises(ValueError, match="root must be a folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must hold one sub-folder a class, got none"):
        load_folder(tmp_path)
    root = write(tmp_path / "x", encode, {"train": 4, "val": 1})
    with pytest.raises(ValueError, match=r"parts must include 'train' and 'exam', .*got 'train', 'val'"):
        load_folder(root, test="exam")
    (root / "val" / "c").mkdir()
    with pytest.raises(ValueError, match=r"val must hold the classes of the training part, got a difference in c"):
        load_folder(root)
    (root / "train" / "c").mkdir()
    with pytest.raises(ValueError, match=r"train.c must hold images \(\.jpg.*got none"):
        load_folder(root)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"size": 0}, ValueError, "size must lie in"),
        ({"size": 2.0}, TypeError, "size must be an int"),
        ({"channels": 2}, ValueError, "channels must be one of 1, 3"),
    ],
)
def test_bad_options(tmp_path: Path, options: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^load_folder: {words}"):
        load_folder(tmp_path, **options)


def test_without_pillow(tmp_path: Path, encode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, encode, {"train": 4, "val": 1})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"load_folder: Pillow must be installed.*bitspike\[images\]"):
        load_folder(root)
