"""Mixup and cutmix: pixels and labels agree, draws follow (seed, epoch, batch), what cannot be mixed is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitspike.data import ArraySet, Batches, ImageSet, Samples, SequenceSet, draws
from bitspike.data.events.moves import EventMoves
from bitspike.data.mixing import Mixing, cutmix

CLASSES = ("a", "b", "c")


def images(count: int = 24, side: int = 6) -> ImageSet:
    """Every image is flat, with its class as its value: what a pixel is made of is seen from the pixel."""
    labels = torch.arange(count) % 3
    pixels = labels.to(torch.uint8).reshape(-1, 1, 1, 1).expand(count, 1, side, side + 1).contiguous()
    return ImageSet(pixels, labels, CLASSES, 1 + 1, (0.0,), (1.0,), "flat")


def batches(data: Samples | None = None, **given: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    mixing = Mixing(**{key: given.pop(key) for key in ("mixup", "cutmix") if key in given})
    data = images() if data is None else data
    return list(Batches(data, given.pop("batch_size", 8), shuffle=True, mixing=mixing, **given))


@pytest.mark.parametrize("kind", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 0.7}])
def test_labels_are_the_shares_of_what_is_in_the_image(kind: dict[str, float]) -> None:
    value = torch.tensor([0.0, 0.5, 1.0])
    mixed = 0
    for epoch in range(20):
        for x, labels in batches(epoch=epoch, **kind):
            assert labels.dtype == torch.float32 and labels.shape == (len(x), 3)
            assert bool((labels.sum(1) == 1).all())  # exactly
            assert torch.allclose(x.mean((1, 2, 3)), labels @ value, atol=1e-6)
            mixed += int(((labels > 0) & (labels < 1)).any())
    assert mixed > 15


def test_cutmix_pastes_whole_pixels_and_mixup_none() -> None:
    alone = {kind: [x for e in range(10) for x, _ in batches(epoch=e, **{kind: 1.0})] for kind in ("mixup", "cutmix")}
    plain = torch.tensor([0.0, 0.5, 1.0])
    whole = {kind: [bool(torch.isin(x, plain).all()) for x in found] for kind, found in alone.items()}
    assert all(whole["cutmix"]) and not any(whole["mixup"])


def test_with_both_every_batch_is_of_one_kind_and_either_about_as_often() -> None:
    plain = torch.tensor([0.0, 0.5, 1.0])
    both = [x for epoch in range(60) for x, _ in batches(epoch=epoch, mixup=1.0, cutmix=1.0)]
    cut = sum(bool(torch.isin(x, plain).all()) for x in both)
    assert 0.4 < cut / len(both) < 0.6


def test_a_box_that_hangs_over_the_border_counts_what_is_in_it() -> None:
    x = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    mixed, share = cutmix(x, torch.tensor([1, 0]), 0.75, 0, 3)  # sides of 2 around a corner
    assert mixed[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert share == 14 / 16 and x[0].sum() == 0
    assert cutmix(x, torch.tensor([1, 0]), 0.0, 2, 2)[1] == 0 and cutmix(x, torch.tensor([1, 0]), 1.0, 2, 2)[1] == 1


def test_draws_depend_on_seed_epoch_and_batch_alone() -> None:
    kind = {"mixup": 0.5, "cutmix": 0.5}
    first, again = batches(seed=3, epoch=2, **kind), batches(seed=3, epoch=2, **kind)
    assert all(a.equal(b) and s.equal(t) for (a, s), (b, t) in zip(first, again, strict=True))
    for other in (batches(seed=4, epoch=2, **kind), batches(seed=3, epoch=1, **kind)):
        assert not all(s.equal(t) for (_, s), (_, t) in zip(first, other, strict=True))


def test_processes_share_the_batch_that_one_alone_would_see() -> None:
    given: dict[str, Any] = {"mixup": 0.5, "cutmix": 0.5, "augment": "shift-flip", "pad": 1}
    alone = batches(**given)
    parts = [batches(rank=rank, world=2, **given) for rank in range(2)]
    for whole, *shares in zip(alone, *parts, strict=True):
        assert torch.cat([x for x, _ in shares]).equal(whole[0])
        assert torch.cat([labels for _, labels in shares]).equal(whole[1])


@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 8.0, 1000.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    found = torch.tensor([draws.beta(alpha, 5, number) for number in range(4000)], dtype=torch.float64)
    assert bool(((found >= 0) & (found <= 1)).all()) and bool((found * 2**24 == (found * 2**24).round()).all())
    assert abs(float(found.mean()) - 0.5) < 4 * (1 / (4 * (2 * alpha + 1)) / 4000) ** 0.5
    assert float(found.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_sequences_and_arrays_of_classes_take_mixup() -> None:
    labels = torch.arange(8) % 3
    counts = labels.to(torch.uint8).reshape(-1, 1, 1).expand(8, 3, 2).contiguous()
    for data in (SequenceSet(counts, labels, CLASSES, "frames"), ArraySet(counts.float(), labels, CLASSES, "array")):
        ((x, shares),) = batches(data, mixup=1.0)
        assert torch.allclose(x.mean((1, 2)), shares @ torch.tensor([0.0, 1.0, 2.0]), atol=1e-6)


FRAMES = torch.zeros(4, 3, 2, 4, 4, dtype=torch.uint8)
SETS = {
    "numbers": ArraySet(torch.zeros(4, 1, 4, 4), torch.zeros(4, 1), ("y",), "numbers"),
    "labels": ArraySet(torch.zeros(4, 1, 4, 4), torch.zeros(4, 2, dtype=torch.bool), ("y", "z"), "labels"),
    "rows": ArraySet(torch.zeros(4, 5), torch.arange(4) % 3, CLASSES, "rows"),
    "frames": SequenceSet(FRAMES, torch.arange(4) % 3, CLASSES, "frames"),
    "unequal": SequenceSet(FRAMES, torch.arange(4) % 3, CLASSES, "unequal", lengths=torch.tensor([1, 2, 3, 3])),
}


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("numbers", {"mixup": 1.0}, "no classes"),
        ("labels", {"cutmix": 1.0}, "no classes"),
        ("rows", {"cutmix": 1.0}, "no images"),
        ("frames", {"mixup": 1.0, "cutmix": 1.0}, "samples with a time axis"),
        ("unequal", {"mixup": 1.0}, "different steps"),
    ],
)
def test_what_cannot_be_mixed_is_refused(name: str, kind: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        batches(SETS[name], batch_size=2, **kind)


def test_eventmix_and_mixup_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="mixing must be left out where moves mix"):
        batches(SETS["frames"], batch_size=2, mixup=1.0, moves=EventMoves(mix=0.5))


@pytest.mark.parametrize("alpha", [-0.1, 1e-9, 1001.0, float("nan"), float("inf")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="mixup must"):
        Mixing(mixup=alpha)
