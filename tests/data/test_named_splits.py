"""Which part is what, and what is carved from the training part."""

from __future__ import annotations

import pytest
import torch

from bitspike.data.named_splits import assemble, choose_parts


@pytest.mark.parametrize(
    ("names", "test", "expected"),
    [
        (["train"], None, ("train", None, None)),
        (["test", "train"], None, ("train", None, "test")),
        (["train", "validation"], None, ("train", None, "validation")),
        (["train", "valid"], None, ("train", None, "valid")),
        (["val", "test", "train"], None, ("train", "val", "test")),
        (["val", "test", "train"], "test", ("train", "val", "test")),
        (["val", "test", "train"], "val", ("train", None, "val")),
        (["train", "exam", "test"], "exam", ("train", None, "exam")),
        (["train", "extra"], None, ("train", None, None)),
    ],
)
def test_choices(names: list[str], test: str | None, expected: tuple[str | None, ...]) -> None:
    got = choose_parts("here", names, test)
    assert tuple(got.get(part) for part in ("train", "validation", "test")) == expected


@pytest.mark.parametrize(("names", "test"), [([], None), (["test"], None), (["train"], "test"), (["train"], "train")])
def test_no_choice(names: list[str], test: str | None) -> None:
    with pytest.raises(ValueError, match=r"^here: the parts must include 'train'"):
        choose_parts("here", names, test)


def pair(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.arange(count) % 2


def test_given_parts_are_taken_as_they_are() -> None:
    parts = {"train": pair(10), "validation": pair(4), "test": pair(6)}
    splits = assemble("toy", ("a", "b"), parts, 0.5, 3)
    for part, (images, labels) in parts.items():
        got = getattr(splits, part)
        assert torch.equal(got.images, images) and torch.equal(got.labels, labels) and got.name == f"toy/{part}"
    assert splits.test.mean == (4.5 / 255,)


def test_a_carved_test_part_does_not_depend_on_the_seed() -> None:
    seen = [assemble("toy", ("a", "b"), {"train": pair(50)}, 0.25, seed) for seed in (0, 1)]
    assert [len(part) for part in (seen[0].train, seen[0].validation, seen[0].test)] == [30, 10, 10]
    assert torch.equal(seen[0].test.images, seen[1].test.images)
    assert not torch.equal(seen[0].validation.images, seen[1].validation.images)
    everything = torch.cat([part.images for part in (seen[0].train, seen[0].validation, seen[0].test)])
    assert sorted(everything.flatten().tolist()) == list(range(50))


def test_a_given_validation_part_beside_a_carved_test_part() -> None:
    splits = assemble("toy", ("a", "b"), {"train": pair(50), "validation": pair(4)}, 0.25, 0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 4, 10]
