"""Augmentation of frames: pixel by pixel, alike in all steps, drawn from seed, epoch and index alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from bitspike.data.events.augment import STEPS, EventAugmentation, cutout, flip, roll, rotation, shearing, turn
from bitspike.data.events.mix import event_mix

X = torch.randint(0, 9, (3, 2, 2, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_hand(move: Any) -> torch.Tensor:
    """Every pixel of every recording from where ``move(b, row, column)`` says, or 0 for None."""
    out = torch.zeros_like(X)
    for b in range(3):
        for r in range(5):
            for c in range(7):
                place = move(b, r, c)
                if place is not None:
                    out[b, :, :, r, c] = X[b, :, :, place[0], place[1]]
    return out


def test_moves_pixel_by_pixel() -> None:
    which, down, right = torch.tensor([True, False, True]), torch.tensor([1, -2, 0]), torch.tensor([-3, 0, 9])
    assert torch.equal(flip(X, which), by_hand(lambda b, r, c: (r, 6 - c if which[b] else c)))
    rolled = by_hand(lambda b, r, c: ((r - int(down[b])) % 5, (c - int(right[b])) % 7))
    assert torch.equal(roll(X, down, right), rolled)
    top, left, side = torch.tensor([-1, 2, 4]), torch.tensor([0, 5, 6]), torch.tensor([3, 1, 4])
    holes = by_hand(lambda b, r, c: None if 0 <= r - top[b] < side[b] and 0 <= c - left[b] < side[b] else (r, c))
    assert torch.equal(cutout(X, top, left, side), holes)


@pytest.mark.parametrize("kind", ["rotate", "shear"])
def test_turns_pixel_by_pixel(kind: str) -> None:
    amounts = torch.tensor([17.0, -40.0, 0.0]) if kind == "rotate" else torch.tensor([0.3, -0.7, 0.0])

    def source(b: int, r: int, c: int) -> tuple[int, int] | None:
        y, x, a = r - 2.0, c - 3.0, float(amounts[b])
        if kind == "rotate":
            cos, sin = math.cos(math.radians(a)), math.sin(math.radians(a))
            y, x = cos * y + sin * x, cos * x - sin * y
        else:
            x = x - a * y
        row, column = math.floor(y + 2 + 0.5), math.floor(x + 3 + 0.5)
        return (row, column) if 0 <= row < 5 and 0 <= column < 7 else None

    matrix = rotation(amounts) if kind == "rotate" else shearing(amounts)
    found = turn(X, matrix)
    assert torch.equal(found, by_hand(source)) and torch.equal(found[2], X[2]) and found.dtype == torch.uint8


def test_a_rotation_goes_counter_clockwise_and_a_full_one_nowhere() -> None:
    square = X[..., :5, :5]
    assert torch.equal(turn(square, rotation(torch.tensor([90.0] * 3))), square.rot90(1, (3, 4)))
    assert torch.equal(turn(square, rotation(torch.tensor([180.0] * 3))), square.rot90(2, (3, 4)))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.float32])
def test_draws_depend_on_seed_epoch_and_index_alone(kind: torch.dtype) -> None:
    x = X.to(kind)
    index = torch.tensor([5, 0, 8])
    make = EventAugmentation(STEPS, 9, (5, 7), seed=3, epoch=2, pixels=2, hole=3)
    whole = make(index, x)
    assert whole.dtype == kind and not torch.equal(whole, x)
    parts = torch.cat([make(index[k : k + 1], x[k : k + 1]) for k in (0, 1, 2)])
    again = EventAugmentation(STEPS[::-1], 9, (5, 7), seed=3, epoch=2, pixels=2, hole=3)(index, x)
    assert torch.equal(whole, parts) and torch.equal(whole, again)
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        assert not torch.equal(EventAugmentation(STEPS, 9, (5, 7), pixels=2, hole=3, **other)(index, x), whole)


def test_amounts_fill_their_ranges() -> None:
    one = torch.zeros(11, 1, 1, 11, 11, dtype=torch.uint8)
    one[..., 5, 5] = 1
    moved = EventAugmentation(("roll",), 4000, (11, 11))
    rows = torch.cat([moved(torch.arange(k, k + 11), one).sum((1, 2, 4)).argmax(1) for k in range(0, 3300, 11)])
    counts = torch.bincount(rows, minlength=11)
    assert (counts > 200).all() and (counts < 400).all()  # 300 each are expected
    assert torch.equal(EventAugmentation((), 9, (5, 7), hole=3, pixels=1)(torch.arange(3), X), X)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": "roll"}, "steps must be a sequence of names"),
        ({"steps": ("rol",)}, "did you mean 'roll'"),
        ({"steps": ("roll", "roll")}, "named once"),
        ({"pixels": 5}, r"pixels must lie in \[0, 4\]"),
        ({"degrees": 181}, "degrees must lie"),
        ({"shear": float("nan")}, "shear must lie"),
        ({"hole": 0}, "hole must lie"),
        ({"count": 0}, "count must lie"),
    ],
)
def test_bad_augmentations(change: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        EventAugmentation(**{"steps": ("roll",), "count": 3, "shape": (5, 7), "pixels": 2, "hole": 3, **change})


def test_bad_frames() -> None:
    make = EventAugmentation(("roll",), 3, (5, 7), pixels=2, hole=3)
    for index, x, words in (
        (torch.tensor([3]), X[:1], r"indices must lie in \[0, 2\], got 3"),
        (torch.tensor([0]), X, "an amount for each of 3 recordings"),
        (torch.tensor([0]), X[:1, :, :, :4], r"frames must be \[B, T, C, 5, 7\]"),
        (torch.tensor([0]), X[0], r"frames must be \[B, T, C, H, W\]"),
    ):
        with pytest.raises(ValueError, match=words):
            make(index, x)


def test_mixed_labels_follow_the_events() -> None:
    partner, share = torch.tensor([1, 2, 0]), torch.tensor([0.3, 0.0, 1.0])
    centre = torch.tensor([[0.2, 0.9, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
    mixed, weight = event_mix(X, partner, centre, share)
    assert torch.equal(mixed[1], X[2]) and torch.equal(mixed[2], X[2]) and weight[1:].tolist() == [0.0, 1.0]
    far = [
        sum((((k + 0.5) / n) - float(c)) ** 2 for k, n, c in zip((t, r, q), (2, 5, 7), centre[0], strict=True))
        for t in range(2)
        for r in range(5)
        for q in range(7)
    ]
    nearest = sorted(range(70), key=far.__getitem__)[:21]
    own = torch.zeros(70, dtype=torch.bool)
    own[nearest] = True
    mask = own.reshape(2, 1, 5, 7)
    assert torch.equal(mixed[0], torch.where(mask, X[0], X[1]))
    assert float(weight[0]) == pytest.approx(float((X[0] * mask).sum() / mixed[0].sum()))
    nothing = torch.zeros_like(X)
    assert event_mix(nothing, partner, centre, share)[1].tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partner": torch.tensor([0, 1, 3])}, "partner must lie"),
        ({"share": torch.tensor([0.0, 0.5, 1.5])}, "share must lie"),
        ({"share": torch.tensor([0.0, 0.5, float("nan")])}, "share must lie"),
        ({"centre": torch.zeros(3, 2)}, "shapes must be"),
        ({"x": X.int() - 4}, "counts must be >= 0"),
    ],
)
def test_bad_mixtures(change: dict[str, torch.Tensor], words: str) -> None:
    held = {"x": X, "partner": torch.tensor([1, 2, 0]), "centre": torch.zeros(3, 3), "share": torch.zeros(3)}
    with pytest.raises(ValueError, match=f"event_mix: {words}"):
        event_mix(**{**held, **change})
