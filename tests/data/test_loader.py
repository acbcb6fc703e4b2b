"""Batches: each sample once, and an epoch that (seed, epoch) alone decide."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from bitspike.data import Batches, ImageSet
from bitspike.data.augment import cutout
from bitspike.data.loader import AUGMENTS


def numbered(count: int) -> ImageSet:
    """Images whose every pixel tells their index; the label is the index."""
    pixels = torch.arange(1, count + 1, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 1, 6, 6)
    pixels[:, :, :, 0] = 251
    names = tuple(str(k) for k in range(count))
    return ImageSet(pixels, torch.arange(count), names, 255, (0.0,), (1.0,), "numbered")


def epoch_of(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole epoch, sorted back into the order of the set."""
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return images[labels.argsort()], labels


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1))
def test_each_sample_comes_once(count: int, size: int, shuffle: bool, seed: int, epoch: int) -> None:
    data = numbered(count)
    batches = Batches(data, size, shuffle=shuffle, seed=seed, epoch=epoch)
    sizes = [len(labels) for _, labels in batches]
    assert len(sizes) == len(batches) and sum(sizes) == count
    assert all(n == size for n in sizes[:-1])
    images, labels = epoch_of(batches)
    assert sorted(labels.tolist()) == list(range(count))
    assert_close(images, data.normalise(data.images), rtol=0, atol=0)
    if not shuffle:
        assert labels.tolist() == list(range(count))


@pytest.mark.parametrize("size", [1, 7, 10, 20])
def test_drop_last(size: int) -> None:
    batches = Batches(numbered(20), size, shuffle=True, drop_last=True)
    assert [len(labels) for _, labels in batches] == [size] * (20 // size)
    assert len(batches) == 20 // size


def test_shapes_and_dtypes(make_set: Any) -> None:
    x, labels = next(iter(Batches(make_set(), 5, augment="shift-flip")))
    assert x.shape == (5, 2, 6, 5) and x.dtype == torch.float32
    assert labels.shape == (5,) and labels.dtype == torch.int64


@pytest.mark.parametrize("augment", ["none", "shift", "shift-flip", "shift-flip-cutout"])
def test_a_second_look_and_a_second_object_see_the_same(augment: str) -> None:
    first = Batches(numbered(30), 7, shuffle=True, seed=3, epoch=2, augment=augment, hole=3)
    again = Batches(numbered(30), 7, shuffle=True, seed=3, epoch=2, augment=augment, hole=3)
    torch.manual_seed(1)
    seen = [list(first), list(first), list(again)]
    for other in seen[1:]:
        assert all(torch.equal(a, b) for x, y in zip(seen[0], other, strict=True) for a, b in zip(x, y, strict=True))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    list(Batches(numbered(9), 2, shuffle=True, augment="shift-flip-cutout", hole=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_order_and_augmentation_change_with_seed_and_epoch() -> None:
    runs = [epoch_of(Batches(numbered(30), 8, True, seed, epoch, "shift-flip")) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(labels.tolist()) for _, labels in runs}) == 4
    assert len({images.numpy().tobytes() for images, _ in runs}) == 4


@pytest.mark.parametrize("augment", ["shift", "shift-flip", "shift-flip-cutout"])
def test_augmentation_does_not_depend_on_batch_size_or_order(augment: str) -> None:
    whole, _ = epoch_of(Batches(numbered(30), 30, seed=4, augment=augment, hole=3))
    assert not torch.equal(whole, numbered(30).normalise(numbered(30).images))
    for size, shuffle in ((1, False), (7, False), (7, True)):
        assert torch.equal(epoch_of(Batches(numbered(30), size, shuffle, 4, augment=augment, hole=3))[0], whole)


def test_the_order_does_not_depend_on_augmentation_or_batch_size() -> None:
    orders = {
        tuple(epoch_of(Batches(numbered(30), size, True, 5, augment=augment))[1].tolist())
        for size in (1, 30)
        for augment in ("none", "shift-flip")
    }
    assert len(orders) == 1


def test_the_names() -> None:
    assert AUGMENTS == ("none", "shift", "shift-flip", "shift-flip-cutout", "autoaugment")


def test_the_order_is_frozen() -> None:
    assert epoch_of(Batches(numbered(8), 8, shuffle=True, seed=0, epoch=1))[1].tolist() == [5, 4, 1, 7, 3, 6, 2, 0]


def test_shift_moves_by_up_to_pad_and_does_not_mirror() -> None:
    """The bright left column tells how far an image went to the right and whether it was mirrored."""
    data = numbered(200)
    images, _ = epoch_of(Batches(data, 64, augment="shift", pad=1))
    bright = torch.tensor(251 / 255)
    column = (images[:, 0] == bright).any(1).to(torch.int64)
    places = {tuple(row) for row in column.tolist()}
    assert places == {(0,) * 6, (1, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0)}
    mirrored, _ = epoch_of(Batches(data, 64, augment="shift-flip", pad=1))
    assert torch.equal((mirrored[:, 0] == bright).any(1)[:, 4:].any(1).unique(), torch.tensor([False, True]))


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an int, got float"),
        ({"seed": -1}, ValueError, "seed"),
        ({"epoch": -1}, ValueError, "epoch"),
        ({"epoch": True}, TypeError, "epoch must be an int, got bool"),
        ({"augment": "shiftflip"}, ValueError, "augment must be one of.*did you mean 'shift-flip'"),
        ({"augment": "shift", "pad": 0}, ValueError, r"pad must lie in \[1, 5\]"),
        ({"augment": "shift", "pad": 6}, ValueError, r"pad must lie in \[1, 5\]"),
        ({"batch_size": 10, "drop_last": True}, ValueError, "batch_size must be <= 9.*got 10"),
        ({"augment": "shift-flip-cutout", "hole": 7}, ValueError, r"hole must lie in \[1, 6\], got 7"),
        ({"augment": "shift-flip-cutout"}, ValueError, r"hole must lie in \[1, 6\], got 16"),
        ({"augment": "autoaugment", "hole": 2}, ValueError, "three channels where augment is 'autoaugment', got 1"),
        ({"world": 0}, ValueError, "world must lie in"),
        ({"world": True}, TypeError, "world must be an int, got bool"),
        ({"world": 3, "rank": 3}, ValueError, r"rank must lie in \[0, 2\], got 3"),
        ({"rank": 1}, ValueError, r"rank must lie in \[0, 0\], got 1"),
        ({"world": 2}, ValueError, "batch_size must be a multiple of world = 2, got 3"),
        ({"batch_size": 4, "world": 2}, ValueError, "last batch must be a multiple of world = 2, got 1; set drop_last"),
        ({"data": None}, TypeError, "data must be an ImageSet, got NoneType"),
    ],
)
def test_bad_arguments(fields: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^Batches: .*{words}"):
        Batches(**{"data": numbered(9), "batch_size": 3, **fields})


def test_pad_is_unused_without_augmentation() -> None:
    assert len(Batches(numbered(9), 3, pad=99)) == 3


def stream(batches: Batches) -> str:
    """SHA-256 of an epoch, in order."""
    state = hashlib.sha256()
    for images, labels in batches:
        state.update(images.contiguous().numpy().data)
        state.update(labels.numpy().data)
    return state.hexdigest()


def coloured(count: int = 50) -> ImageSet:
    pixels = np.random.default_rng(12).integers(0, 256, (count, 3, 7, 6), dtype=np.uint8)
    constants = ((0.5, 0.25, 0.125), (0.25, 0.5, 0.75))
    return ImageSet(torch.from_numpy(pixels), torch.arange(count) % 3, ("a", "b", "c"), 255, *constants, "toy")


@pytest.mark.parametrize(
    ("augment", "digest"),
    [
        ("none", "39bc81794d36060787c1349546cf5d21b47177065bdd38fb35b3bac68dadc694"),
        ("shift", "c3ac962cb316e2b7b6cc010f542c227a481d9ec9be151ed5e7c3916b554c6426"),
        ("shift-flip", "8e44c40e44e813e3c0dc04a200d77e53cc9883264872ec9737cad5ac9771f813"),
        ("shift-flip-cutout", "cc419b8890106bb398acad6942e67aa7e4a4c247a9b37f92904f302dd5e6f469"),
    ],
)
def test_the_epochs_are_frozen(augment: str, digest: str) -> None:
    """Published results were trained on them: another stream needs another name."""
    assert stream(Batches(coloured(), 8, True, seed=11, epoch=3, augment=augment, hole=3)) == digest


def test_the_hole_is_the_last_step_and_has_the_mean() -> None:
    data = coloured()
    plain, _ = next(iter(Batches(data, 50, seed=2, augment="shift-flip")))
    holed, _ = next(iter(Batches(data, 50, seed=2, augment="shift-flip-cutout", hole=4)))
    changed = (plain != holed).any(1)
    assert (holed.movedim(1, -1)[changed].abs() < 0.51 / 255 / 0.25).all()  # the raw value nearest to the mean
    sizes = changed.flatten(1).sum(1)
    assert sizes.max() == 16 and (sizes >= 4).all() and len(sizes.unique()) > 3
    raw = torch.tensor([128, 64, 32], dtype=torch.uint8)  # 127.5, 63.75 and 31.875
    black = cutout(torch.zeros_like(data.images), torch.zeros(50).long(), torch.zeros(50).long(), 7, raw)
    values = {tuple(row) for row in holed.movedim(1, -1)[changed].tolist()}
    assert values == {tuple(row) for row in data.normalise(black)[:, :, 0, 0].tolist()}


@pytest.mark.parametrize("augment", ["none", "shift-flip", "shift-flip-cutout"])
@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_ranks_share_every_batch(augment: str, world: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 7, "epoch": 2, "augment": augment, "hole": 3}
    alone = list(Batches(coloured(48), 18, **options))
    ranks = [Batches(coloured(48), 18, **options, rank=rank, world=world) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {3}
    for whole, *shares in zip(alone, *ranks, strict=True):
        assert len({len(labels) for _, labels in shares}) == 1
        for part in (0, 1):
            assert torch.equal(torch.cat([share[part] for share in shares]), whole[part])


def test_a_rest_that_cannot_be_shared_may_be_dropped() -> None:
    batches = Batches(numbered(9), 4, drop_last=True, rank=1, world=2)
    assert [labels.tolist() for _, labels in batches] == [[2, 3], [6, 7]] and len(batches) == 2


def test_autoaugment_needs_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.augmentation.auto", None)
    with pytest.raises(ImportError, match=r"Batches: kornia must be installed.*bitspike\[augment\]"):
        Batches(coloured(), 8, augment="autoaugment", hole=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augment", ["none", "shift", "shift-flip", "shift-flip-cutout"])
def test_a_gpu_sees_the_same_epoch(augment: str) -> None:
    on_cpu = list(Batches(numbered(30), 7, True, augment=augment, hole=3))
    on_gpu = list(Batches(numbered(30).to("cuda"), 7, True, augment=augment, hole=3))
    for (x, labels), (x_gpu, labels_gpu) in zip(on_cpu, on_gpu, strict=True):
        assert x_gpu.is_cuda and torch.equal(labels, labels_gpu.cpu())
        assert_close(x_gpu.cpu(), x, rtol=1e-6, atol=0)
