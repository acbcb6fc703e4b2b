"""AutoAugment through kornia: repeatable, one sub-policy an image, and without a trace in the global generator."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from bitspike.data import Batches, ImageSet
from bitspike.data.policy import POLICIES, AutoAugment

pytest.importorskip("kornia")


def coloured(count: int = 60, top: int = 255) -> ImageSet:
    pixels = torch.randint(0, top + 1, (count, 3, 12, 12), generator=torch.Generator().manual_seed(3))
    labels, names = torch.arange(count), tuple(map(str, range(count)))
    return ImageSet(pixels.to(torch.uint8), labels, names, top, (0.5,) * 3, (0.25,) * 3, "toy")


def batches(count: int = 60, **options: int) -> Batches:
    given = {"shuffle": True, "seed": 1, "epoch": 2, "augment": "autoaugment", "hole": 4, **options}
    return Batches(coloured(count), 20, **given)  # type: ignore[arg-type]


def test_an_epoch_repeats_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = list(batches())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    for (x, labels), (again, others) in zip(first, batches(), strict=True):
        assert torch.equal(x, again) and torch.equal(labels, others)
        torch.rand(7)


def test_a_resumed_epoch_goes_on_as_it_would_have() -> None:
    """The draws of a batch do not depend on the batches before it."""
    whole = list(batches())
    policy_calls = iter(batches())
    next(policy_calls)
    torch.rand(100)
    assert torch.equal(next(policy_calls)[0], whole[1][0])


def test_it_changes_with_seed_epoch_and_image() -> None:
    seen = [torch.cat([x for x, _ in batches(seed=s, epoch=e)]) for s, e in ((1, 2), (1, 3), (2, 2))]
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    plain = torch.cat([x for x, _ in Batches(coloured(), 20, True, 1, 2, "shift-flip-cutout", hole=4)])
    share = (seen[0] != plain).flatten(1).any(1).double().mean()
    assert 0.5 < share < 1


def test_ranks_share_what_one_process_sees() -> None:
    alone, ranks = list(batches()), [list(batches(rank=rank, world=2)) for rank in (0, 1)]
    for whole, first, second in zip(alone, *ranks, strict=True):
        assert torch.equal(torch.cat([first[0], second[0]]), whole[0])
        assert torch.equal(torch.cat([first[1], second[1]]), whole[1])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("top", [16, 255])
def test_each_image_gets_the_sub_policy_it_drew(name: str, top: int) -> None:
    policy = AutoAugment("test", name)
    assert len(policy) == 25
    images = coloured(75, top).images
    which = torch.arange(75) % 25
    got = policy(images, which, top, 5)
    assert got.shape == images.shape and got.dtype == torch.uint8 and int(got.max()) <= top
    # images of sub-policies 0 to 4 alone: the first of them draws from the same state
    few = which < 1
    assert torch.equal(policy(images[few], which[few], top, 5), got[few])
    assert torch.equal(policy(images, which, top, 5), got) and not torch.equal(policy(images, which, top, 6), got)


def test_values_are_rounded_to_the_nearest() -> None:
    """Sub-policy 14 of CIFAR-10 (solarize, then an inversion that never happens) keeps or mirrors each value."""
    images = coloured(40).images
    got = AutoAugment("test", "cifar10")(images, torch.full((40,), 14), 255, 0)
    kept = got == images
    assert kept.any() and not kept.all()
    assert_close(got[~kept], 255 - images[~kept], rtol=0, atol=0)


def test_an_unknown_policy() -> None:
    with pytest.raises(ValueError, match=r"Batches: policy must be one of .*did you mean 'cifar10'"):
        Batches(coloured(), 20, augment="autoaugment", hole=4, policy="cifar")
