"""ImageSet and Splits: validation, normalisation, subsets, digests."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitspike.data import ImageSet, Splits

PIXELS = torch.zeros(12, 2, 6, 5, dtype=torch.uint8)
LABELS = torch.arange(12) % 3


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"images": PIXELS.float()}, TypeError, "images must be a torch.uint8 tensor"),
        ({"images": PIXELS.numpy()}, TypeError, "got ndarray"),
        ({"images": PIXELS[:, 0]}, ValueError, r"\[N, C, H, W\].*got \[12, 6, 5\]"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, ValueError, "without an empty axis"),
        ({"labels": LABELS.int()}, TypeError, "labels must be a torch.int64 tensor"),
        ({"labels": LABELS[:, None]}, ValueError, r"labels must be \[N\]"),
        ({"labels": LABELS[:5]}, ValueError, "equally many.*12 on cpu and 5 on cpu"),
        ({"labels": LABELS - 1}, ValueError, r"labels must lie in \[0, 2\], got -1 to 1"),
        ({"labels": LABELS + 1}, ValueError, r"labels must lie in \[0, 2\], got 1 to 3"),
        ({"classes": ["a", "b", "c"]}, TypeError, "tuple of strings"),
        ({"classes": (0, 1, 2)}, TypeError, "tuple of strings"),
        ({"classes": ()}, ValueError, "at least one name"),
        ({"classes": ("a", "b", "a")}, ValueError, "without repeats"),
        ({"top": 0}, ValueError, "top must lie"),
        ({"top": 256}, ValueError, "top must lie"),
        ({"top": 16.0}, TypeError, "top must be an int"),
        ({"images": PIXELS + 17, "top": 16}, ValueError, r"pixels must lie in \[0, 16\], got 17 to 17"),
        ({"mean": [0.5, 0.5]}, TypeError, "mean must be a tuple of floats"),
        ({"mean": (0.5,)}, ValueError, "mean must hold one float for each of 2 channels"),
        ({"mean": (0.5, float("nan"))}, ValueError, "mean must be finite"),
        ({"std": (0.5, 0.5, 0.5)}, ValueError, "std must hold one float for each of 2 channels"),
        ({"std": (0.5, 0.0)}, ValueError, "std must be finite and positive"),
        ({"std": (0.5, float("inf"))}, ValueError, "std must be finite and positive"),
        ({"std": (1, 1)}, TypeError, "std must be a tuple of floats"),
    ],
)
def test_a_bad_field_is_named(make_set: Any, fields: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^ImageSet 'toy': .*{words}.*; .*"):
        make_set(**fields)


def test_length_and_repr(make_set: Any) -> None:
    assert len(make_set()) == 12
    assert repr(make_set()) == "ImageSet('toy': 12 images 2x6x5, 3 classes)"


def test_a_mean_may_be_zero_or_negative(make_set: Any) -> None:
    assert make_set(mean=(0.0, -1.0)).mean == (0.0, -1.0)


def test_normalise_is_the_formula(make_set: Any) -> None:
    data: ImageSet = make_set()
    before = data.images.clone()
    got = data.normalise(data.images)
    mean, std = (torch.tensor(c).reshape(1, 2, 1, 1) for c in (data.mean, data.std))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, (data.images.float() / 255 - mean) / std, rtol=0, atol=0)
    assert torch.equal(data.images, before)
    assert data.normalise(data.images[:0]).shape == (0, 2, 6, 5)


def test_normalise_maps_top_to_one(make_set: Any) -> None:
    data = make_set(images=PIXELS + 16, top=16, mean=(0.0, 0.5), std=(1.0, 0.5))
    assert (data.normalise(data.images) == 1).all()


def test_normalise_keeps_float32_whatever_the_default(make_set: Any) -> None:
    data = make_set()
    torch.set_default_dtype(torch.float64)
    try:
        assert data.normalise(data.images).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        (PIXELS.float(), TypeError, "torch.uint8"),
        ([0], TypeError, "got list"),
        (PIXELS[0], ValueError, r"\[B, 2, H, W\]"),
        (PIXELS[:, :1], ValueError, r"\[B, 2, H, W\]"),
    ],
)
def test_normalise_refuses(make_set: Any, images: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"normalise: .*{words}"):
        make_set().normalise(images)


def test_subset_takes_samples_in_order(make_set: Any) -> None:
    data = make_set()
    part = data.subset([4, 0, 4], name="part")
    assert torch.equal(part.images, data.images[[4, 0, 4]])
    assert part.labels.tolist() == [1, 0, 1]
    assert (part.name, part.classes, part.mean, part.std) == ("part", data.classes, data.mean, data.std)
    assert data.subset(torch.tensor([1])).name == "toy"


@pytest.mark.parametrize(
    ("indices", "kind", "words"),
    [
        ([], ValueError, "at least one"),
        ([12], ValueError, r"\[0, 11\]"),
        ([-1], ValueError, r"\[0, 11\]"),
        ([0.5], TypeError, "torch.int64"),
        ([True], TypeError, "torch.int64"),
        (torch.tensor([[0]]), ValueError, r"\[M\]"),
    ],
)
def test_subset_refuses(make_set: Any, indices: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"subset: .*{words}"):
        make_set().subset(indices)


def test_the_digest_sees_everything_but_the_name(make_set: Any) -> None:
    data: ImageSet = make_set()
    pixels, labels = data.images.clone(), data.labels.clone()
    pixels[3, 1, 2, 4] ^= 1
    labels[7] = 0
    flat = {"height": 5, "width": 6, "images": data.images.reshape(12, 2, 5, 6)}
    others = [
        make_set(images=pixels),
        make_set(labels=labels),
        make_set(**flat),
        make_set(mean=(0.5, 0.5)),
        make_set(std=(0.5, 0.5)),
        make_set(classes=("a", "b", "d")),
        make_set(images=pixels.clamp(max=254), top=254),
        data.subset(range(11)),
    ]
    digests = {part.digest() for part in (data, *others)}
    assert len(digests) == len(others) + 1
    assert all(len(digest) == 64 for digest in digests)
    assert make_set(name="else").digest() == data.to("cpu").digest() == data.digest()


def test_the_digest_ignores_memory_layout(make_set: Any) -> None:
    data = make_set()
    strided = make_set(images=data.images.to(memory_format=torch.channels_last))
    assert not strided.images.is_contiguous()
    assert strided.digest() == data.digest()


def test_splits_digest_depends_on_each_part(make_set: Any) -> None:
    data = make_set()
    a, b, c = (data.subset([k]) for k in range(3))
    digests = {Splits(*parts).digest() for parts in ((a, b, c), (b, a, c), (a, c, b), (a, b, b))}
    assert len(digests) == 4
    assert Splits(a, b, c).digest() == Splits(data.subset([0]), b, c).digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": (0.5, 0.5)},
        {"std": (1.0, 1.0)},
        {"images": PIXELS[:, :, 1:]},
        {"classes": ("x", "y", "z")},
        {"top": 255},
    ],
)
def test_splits_refuse_parts_that_disagree(make_set: Any, fields: dict[str, Any]) -> None:
    data = make_set(images=PIXELS, top=16)
    other = make_set(**{"images": PIXELS, "top": 16, **fields})
    for parts in ((other, data, data), (data, other, data), (data, data, other)):
        with pytest.raises(ValueError, match=r"^Splits: all parts must share"):
            Splits(*parts)


def test_splits_refuse_what_is_no_set(make_set: Any) -> None:
    data = make_set()
    with pytest.raises(TypeError, match="Splits: each part must be an ImageSet, got Tensor"):
        Splits(data, data, data.images)
