"""Augmentation: every result is a shifted or mirrored copy, and the generator alone decides which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import random_cutout, random_flip, random_shift
from bitspike.data.augment import cutout, flip, shift


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Images without a zero, so that padding shows."""
    return torch.randint(1, 256, (count, channels, height, width), generator=seeded(5)).to(torch.uint8)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """One image moved by plain slices: the definition."""
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_rows, from_columns = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    out[:, rows, columns] = image[:, from_rows, from_columns]
    return out


sizes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7))


@settings(deadline=None)
@given(sizes, st.integers(0, 2), st.integers(0, 2**32))
def test_a_random_shift_is_a_shifted_copy(size: tuple[int, int, int, int], pad: int, seed: int) -> None:
    images = pixels(*size)
    before = images.clone()
    got = random_shift(images, pad, seeded(seed))
    assert got.shape == images.shape and got.dtype == torch.uint8
    for source, result in zip(images, got, strict=True):
        amounts = range(-pad, pad + 1)
        assert any(torch.equal(result, moved(source, down, right)) for down in amounts for right in amounts)
    assert torch.equal(images, before)
    assert torch.equal(got, random_shift(images, pad, seeded(seed)))


@settings(deadline=None)
@given(sizes, st.integers(0, 2**32))
def test_a_random_flip_is_a_mirrored_copy(size: tuple[int, int, int, int], seed: int) -> None:
    images = pixels(*size)
    got = random_flip(images, seeded(seed))
    assert got.shape == images.shape and got.dtype == torch.uint8
    for source, result in zip(images, got, strict=True):
        assert torch.equal(result, source) or torch.equal(result, source.flip(2))
    assert torch.equal(got, random_flip(images, seeded(seed)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6))
def test_shift_equals_its_definition(amounts: list[tuple[int, int]]) -> None:
    images = pixels(len(amounts), 2, 5, 4)
    down, right = torch.tensor(amounts).unbind(1)
    expected = torch.stack([moved(image, *amount) for image, amount in zip(images, amounts, strict=True)])
    assert torch.equal(shift(images, down, right, 3), expected)


def test_flip_mirrors_the_named_images_only() -> None:
    images = pixels(3, 2, 4, 5)
    got = flip(images, torch.tensor([True, False, True]))
    assert torch.equal(got, torch.stack([images[0].flip(2), images[1], images[2].flip(2)]))


FILL = torch.tensor([0, 255], dtype=torch.uint8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 6), st.integers(-4, 6)), min_size=1, max_size=6), st.integers(1, 5))
def test_cutout_equals_its_definition(corners: list[tuple[int, int]], size: int) -> None:
    images = pixels(len(corners), 2, 5, 4)
    expected = images.clone()
    for image, (top, left) in zip(expected, corners, strict=True):
        rows, columns = slice(max(top, 0), max(top + size, 0)), slice(max(left, 0), max(left + size, 0))
        image[:, rows, columns] = FILL[:, None, None]
    before = images.clone()
    top, left = torch.tensor(corners).unbind(1)
    assert torch.equal(cutout(images, top, left, size, FILL), expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_a_random_hole_lies_around_any_pixel(size: int) -> None:
    """Its centre (the later one of two for an even size) is every pixel alike; the border cuts off the rest."""
    images = torch.ones(6000, 1, 6, 5, dtype=torch.uint8)
    got = random_cutout(images, size, torch.zeros(1, dtype=torch.uint8), seeded(0))
    assert torch.equal(got, random_cutout(images, size, torch.zeros(1, dtype=torch.uint8), seeded(0)))
    expected = set()
    for row in range(6):
        for column in range(5):
            image = torch.ones(6, 5, dtype=torch.uint8)
            top, left = row - size // 2, column - size // 2
            image[max(top, 0) : top + size, max(left, 0) : left + size] = 0
            expected.add(image.numpy().tobytes())
    patterns, counts = got.flatten(1).unique(dim=0, return_counts=True)
    assert {pattern.numpy().tobytes() for pattern in patterns} == expected
    assert len(expected) < 30 or (counts > 130).all()


@pytest.mark.parametrize(
    ("size", "fill", "kind", "words"),
    [
        (0, FILL[:1], ValueError, r"size must lie in \[1, 4\], got 0"),
        (5, FILL[:1], ValueError, r"size must lie in \[1, 4\], got 5"),
        (2.0, FILL[:1], TypeError, "size must be an int"),
        (2, FILL, ValueError, r"fill must be \[1\], got \[2\]"),
        (2, FILL[0], ValueError, r"fill must be \[C\]"),
        (2, torch.zeros(1), TypeError, "fill must be a torch.uint8 tensor"),
        (2, 0, TypeError, "fill must be a torch.uint8 tensor .*got int"),
    ],
)
def test_bad_holes(size: Any, fill: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^(random_)?cutout: {words}"):
        random_cutout(pixels(2, 1, 3, 4), size, fill, seeded(0))


def test_every_shift_and_both_flips_occur() -> None:
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(3000, 1, 5, 5)
    counts = random_shift(image, 1, seeded(0)).flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 9 and ((counts > 250) & (counts < 420)).all()
    counts = random_flip(image, seeded(0)).flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 2 and (counts > 1350).all()


def test_pad_zero_changes_nothing() -> None:
    images = pixels(4, 1, 3, 3)
    assert torch.equal(random_shift(images, 0, seeded(0)), images)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    random_flip(random_shift(pixels(4, 1, 3, 3), 1, seeded(0)), seeded(1))
    random_cutout(pixels(4, 1, 3, 3), 1, FILL[:1], seeded(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_batch_passes() -> None:
    empty = pixels(0, 1, 3, 3)
    assert random_flip(random_shift(empty, 1, seeded(0)), seeded(0)).shape == (0, 1, 3, 3)
    assert random_cutout(empty, 1, FILL[:1], seeded(0)).shape == (0, 1, 3, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: random_shift(x, 1, seeded(0)),
        lambda x: random_flip(x, seeded(0)),
        lambda x: random_cutout(x, 1, FILL[:1], seeded(0)),
    ],
)
@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        (torch.zeros(2, 1, 4, 4), TypeError, "uint8 tensor, got torch.float32"),
        ([1], TypeError, "got list"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), ValueError, r"must be \[B, C, H, W\], got \[1, 4, 4\]"),
    ],
)
def test_bad_images(function: Any, images: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^random_.*: .*{words}"):
        function(images)


@pytest.mark.parametrize(
    ("pad", "kind", "words"), [(-1, ValueError, "got -1"), (3, ValueError, r"\[0, 2\]"), (1.5, TypeError, "an int")]
)
def test_bad_pad(pad: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^random_shift: pad must .*{words}"):
        random_shift(pixels(2, 1, 3, 4), pad, seeded(0))


def test_a_generator_is_required() -> None:
    for function in (lambda x, g: random_shift(x, 1, g), random_flip, lambda x, g: random_cutout(x, 1, FILL[:1], g)):
        with pytest.raises(TypeError, match=r"generator must be a torch.Generator, got int"):
            function(pixels(2, 1, 3, 3), 0)
