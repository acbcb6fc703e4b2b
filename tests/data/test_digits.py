"""scikit-learn's digits: counts, disjoint parts, a test part that never changes."""

from __future__ import annotations

import sys

import pytest
import torch

from bitspike.data import Splits, load_digits

TEST_DIGEST = "2cf515a88c07fd3d8b48324535a9f7c1bf688e3a63c6883fd0c52ef6a1f2c8ce"
"""Of the test part with the default seed and validation size, normalisation constants included."""


def rows(splits: Splits) -> list[bytes]:
    parts = (splits.train, splits.validation, splits.test)
    return [image.numpy().tobytes() for part in parts for image in part.images]


def test_the_parts_are_the_whole_set() -> None:
    from sklearn.datasets import load_digits as embedded

    splits = load_digits()
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1294, 144, 359]
    everything = [bytes(image.astype("uint8")) for image in embedded().images]
    assert sorted(rows(splits)) == sorted(everything)
    assert len(set(everything)) == 1797  # all images differ, so the parts are disjoint


def test_the_values() -> None:
    train = load_digits().train
    assert train.images.shape[1:] == (1, 8, 8) and train.top == 16
    assert int(train.images.min()) == 0 and int(train.images.max()) == 16
    assert train.classes == tuple("0123456789")
    x = train.normalise(train.images)
    assert abs(float(x.mean())) < 1e-5 and abs(float(x.std()) - 1) < 1e-4


def test_the_test_part_is_frozen() -> None:
    assert load_digits().test.digest() == TEST_DIGEST


def test_the_seed_moves_the_validation_part_only() -> None:
    first, again, other = load_digits(seed=1), load_digits(seed=1), load_digits(seed=2)
    assert first.digest() == again.digest() != other.digest()
    assert torch.equal(first.test.images, other.test.images)
    assert torch.equal(first.test.labels, other.test.labels)
    assert not torch.equal(first.validation.images, other.validation.images)


def test_every_part_is_balanced() -> None:
    splits = load_digits()
    for part in (splits.train, splits.validation, splits.test):
        share = torch.bincount(part.labels, minlength=10) / len(part)
        assert ((share > 0.09) & (share < 0.11)).all()


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"digits: validation .*1438, got 1438"):
        load_digits(validation=1438)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"load_digits: scikit-learn must be installed, .*bitspike\[demo\]"):
        load_digits()
