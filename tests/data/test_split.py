"""The validation split: a partition, stratified, decided by its seed alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import carve_validation
from bitspike.data.split import channel_constants, make_splits, part_size

labels_and_size = st.lists(st.integers(0, 5), min_size=2, max_size=200).flatmap(
    lambda labels: st.tuples(st.just(labels), st.integers(1, len(labels) - 1))
)


@settings(deadline=None)
@given(labels_and_size, st.integers(0, 2**63 - 1))
def test_a_stratified_partition(case: tuple[list[int], int], seed: int) -> None:
    labels, size = torch.tensor(case[0]), case[1]
    train, validation = carve_validation(labels, size, seed)
    assert train.dtype == validation.dtype == torch.int64
    assert len(validation) == size
    assert sorted(train.tolist() + validation.tolist()) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist()) and validation.tolist() == sorted(validation.tolist())
    for label in labels.unique():
        share = Fraction(size * int((labels == label).sum()), len(labels))
        assert abs(int((labels[validation] == label).sum()) - share) < 1


@settings(deadline=None)
@given(labels_and_size, st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_split(case: tuple[list[int], int], seed: int) -> None:
    labels = torch.tensor(case[0])
    torch.manual_seed(seed % 1000)
    first = carve_validation(labels, case[1], seed)
    torch.manual_seed(seed % 1000 + 1)
    second = carve_validation(labels, case[1], seed)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_split_is_frozen() -> None:
    labels = torch.arange(20) % 2
    assert carve_validation(labels, 4, seed=0)[1].tolist() == [2, 3, 18, 19]


def test_another_seed_gives_another_split() -> None:
    labels = torch.arange(200) % 4
    splits = {tuple(carve_validation(labels, 20, seed)[1].tolist()) for seed in range(20)}
    assert len(splits) == 20


def test_every_sample_is_carved_about_equally_often() -> None:
    labels = torch.arange(20) % 2
    counts = torch.zeros(20)
    for seed in range(400):
        counts[carve_validation(labels, 10, seed)[1]] += 1
    assert counts.sum() == 4000
    assert ((counts > 150) & (counts < 250)).all()  # five standard deviations around 200


def test_labels_on_another_layout_do_not_matter() -> None:
    labels = torch.arange(40) % 4
    strided = labels.repeat_interleave(2)[::2]
    assert torch.equal(carve_validation(labels, 0.25, 1)[1], carve_validation(strided, 0.25, 1)[1])


@pytest.mark.parametrize(
    ("size", "total", "count"), [(3, 10, 3), (0.1, 10, 1), (0.25, 10, 3), (0.1, 1438, 144), (0.5, 2, 1)]
)
def test_part_size(size: float, total: int, count: int) -> None:
    assert part_size("here", "size", size, total) == count


@pytest.mark.parametrize(
    ("labels", "size", "seed", "kind", "words"),
    [
        (torch.arange(4), 0, 0, ValueError, "at least one sample on each side of 4, got 0"),
        (torch.arange(4), 4, 0, ValueError, "got 4"),
        (torch.arange(4), -1, 0, ValueError, "got -1"),
        (torch.arange(4), 0.01, 0, ValueError, r"got 0 \(from 0.01\)"),
        (torch.arange(4), 1.0, 0, ValueError, r"\(0, 1\), got 1.0"),
        (torch.arange(4), float("nan"), 0, ValueError, r"\(0, 1\), got nan"),
        (torch.arange(4), True, 0, TypeError, "got bool"),
        (torch.arange(4), "2", 0, TypeError, "got str"),
        (torch.arange(4), 2, -1, ValueError, "seed"),
        (torch.arange(4), 2, 0.5, TypeError, "seed must be an int, got float"),
        (torch.arange(4) - 1, 2, 0, ValueError, "least label must be >= 0, got -1"),
        (torch.arange(4).float(), 2, 0, TypeError, "torch.int64"),
        ([0, 1], 1, 0, TypeError, "got list"),
        (torch.zeros(0, dtype=torch.int64), 1, 0, ValueError, "without an empty axis"),
        (torch.zeros(2, 2, dtype=torch.int64), 1, 0, ValueError, r"\[N\]"),
    ],
)
def test_carving_refuses(labels: Any, size: Any, seed: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^carve_validation: .*{words}.*; "):
        carve_validation(labels, size, seed)


def test_channel_constants_equal_float64() -> None:
    images = torch.randint(0, 17, (50, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 2] = 7
    mean, std = channel_constants(images, 16)
    scaled = images.double() / 16
    torch.testing.assert_close(torch.tensor(mean).double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(std).double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)
    assert mean[2] == 7 / 16 and std[2] == 0


def test_constants_come_from_the_train_part_alone() -> None:
    images = torch.randint(0, 256, (40, 1, 3, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    labels = torch.arange(40) % 2
    splits = make_splits("toy", ("a", "b"), 255, (images, labels), (images[:2], labels[:2]), 10, 0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 10, 2)
    assert (splits.train.mean, splits.train.std) == channel_constants(splits.train.images, 255)
    assert splits.test.mean == splits.train.mean
    assert splits.validation.name == "toy/validation"


def test_images_all_alike_are_refused() -> None:
    images, labels = torch.full((4, 1, 2, 2), 9, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"ImageSet 'toy/train': std must be finite and positive, got \(0.0,\)"):
        make_splits("toy", ("a", "b"), 255, (images, labels), (images, labels), 2, 0)


def test_a_bad_validation_size_is_called_by_its_own_name() -> None:
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"^toy: validation must leave at least one sample"):
        make_splits("toy", ("a", "b"), 255, (images, labels), (images, labels), 4, 0)
