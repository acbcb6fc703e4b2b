"""Batches of one epoch, in an order and with an augmentation that (seed, epoch) alone decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from bitspike import checks
from bitspike.data import draws
from bitspike.data.augment import check_hole, check_pad
from bitspike.data.dataset import ImageSet, Samples
from bitspike.data.epoch import STEPS, Augmentation
from bitspike.data.events.moves import EventMoves
from bitspike.data.mixing import Mixing
from bitspike.data.policy import AutoAugment
from bitspike.data.sequence_set import SequenceSet
from bitspike.data.sound.moves import SoundMoves
from bitspike.layers.padding import Padded

AUGMENTS = tuple(STEPS)


class Batches:
    """Iterate over one epoch of a set; iterating again gives the same epoch again.

    The order is a function of (seed, epoch). What happens to an image is a function of (seed, epoch, its index in
    ``data``), so it does not depend on batch size, shuffling or device, and a resumed run sees what it would have
    seen; "autoaugment" depends on the batch as well (its number and its images). Work is done on the device that
    holds ``data``.

    With several processes, each passes the same arguments but its own ``rank``: it gets an equal share of every
    batch, and the shares of ranks 0, 1, … one after the other are the batch that one process alone would see.

    Args:
        data: the set; only an `ImageSet` can be augmented, and frames of events by ``moves``.
        batch_size: images a batch over all processes, >= 1; the last batch may be smaller.
        shuffle: draw the order; else that of the set.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^31 - 1.
        augment: "none"; "shift" (whole pixels, zeros enter); "shift-flip" (then mirrored with probability ½, which
            changes the meaning of digits and letters); "shift-flip-cutout" (then one square hole in the raw values
            nearest to ``data.mean``, as `random_cutout` does it); "autoaugment" (the same with AutoAugment's
            ``policy`` before the hole; needs kornia and three channels).
        pad: the largest shift in pixels, 1 to min(H, W) - 1 (4 is usual for CIFAR); unused where augment is "none".
        drop_last: leave out a last batch that is smaller.
        hole: side of the hole in pixels, 1 to max(H, W); unused where augment makes none.
        policy: "cifar10", "imagenet" or "svhn"; unused where augment is not "autoaugment".
        rank: number of this process, 0 to world - 1.
        world: number of processes; it must divide the size of every batch.
        moves: augmentation of frames of events or of spectra of sound; labels are float32 ``[B / world, K]`` where it
            mixes. None: none.
        mixing: mixup and cutmix of whole batches, after everything else; labels are then float32 ``[B / world, K]``.
            None: neither.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a number outside its range, an unknown name, drop_last that leaves no batch, a batch that cannot
            be shared equally, or "autoaugment" of images without three channels.
        ImportError: "autoaugment" without kornia.

    >>> images = torch.tensor([0, 16, 0], dtype=torch.uint8).reshape(3, 1, 1, 1)
    >>> toy = ImageSet(images, torch.tensor([0, 1, 0]), ("off", "on"), 16, (0.5,), (0.5,), "toy")
    >>> [(x.flatten().tolist(), labels.tolist()) for x, labels in Batches(toy, 2)]
    [([-1.0, 1.0], [0, 1]), ([-1.0], [0])]
    >>> [labels.tolist() for _, labels in Batches(toy, 2, drop_last=True, rank=1, world=2)]
    [[1]]
    """

    def __init__(
        self,
        data: Samples,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        augment: str = "none",
        pad: int = 2,
        drop_last: bool = False,
        hole: int = 16,
        policy: str = "cifar10",
        rank: int = 0,
        world: int = 1,
        moves: EventMoves | SoundMoves | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        if not isinstance(data, Samples):
            raise checks.bad_type("Batches", "data must be an ImageSet", type(data).__name__, "pass one of the splits")
        checks.integer("Batches", "batch_size", batch_size, 1, 2**31 - 1)
        checks.integer("Batches", "seed", seed, 0, 2**63 - 1)
        checks.integer("Batches", "epoch", epoch, 0, 2**31 - 1)
        checks.one_of("Batches", "augment", augment, AUGMENTS)
        check_augment("Batches", data, augment, pad, hole)
        if moves is not None:
            moves.check("Batches", data)
        if mixing is not None:
            mixing.check("Batches", data)
            if isinstance(moves, EventMoves) and moves.mix:
                must = "mixing must be left out where moves mix recordings"
                raise checks.bad_value("Batches", must, mixing, "choose one of them")
        self._policy = _policy(policy, data.images) if "policy" in STEPS[augment] else None
        if drop_last and batch_size > len(data):
            must = f"batch_size must be <= {len(data)}, the size of the set, where drop_last is set"
            raise checks.bad_value("Batches", must, batch_size, "lower it or keep the last batch")
        _check_shares(rank, world, batch_size, 0 if drop_last else len(data) % batch_size)
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.augment = augment
        self.pad = pad
        self.drop_last = drop_last
        self.hole = hole
        self.policy = policy
        self.rank = rank
        self.world = world
        self.moves = moves
        self.mixing = mixing

    def __len__(self) -> int:
        """Number of batches, the same in every process."""
        whole, rest = divmod(len(self.data), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yield (float32 ``[B / world, C, H, W]`` normalised, or sequences ``[B / world, T, ...]``; their labels).

        Sequences of different lengths come as `bitspike.layers.Padded`.
        """
        count = len(self.data)
        order = torch.arange(count)
        if self.shuffle:
            order = torch.from_numpy(draws.permutation(count, self.seed, draws.ORDER, self.epoch))
        order = order.to(self.data.images.device)
        if self.mixing is None:
            yield from self._batches(self._shares(order))
            return
        shares = list(self._shares(order))  # partners may lie in other shares: each process mixes the whole batch
        whole = self._batches((chosen, slice(0, len(chosen)), number) for chosen, _, number in shares)
        key, sizes = (self.seed, self.epoch), [len(chosen) for chosen, _, _ in shares]
        partners = self.mixing.partners(sizes, key).to(order.device).split(sizes)  # at once: each copy waits
        for (_, share, number), partner, (x, labels) in zip(shares, partners, whole, strict=True):
            x, labels = self.mixing.batch(x, labels, len(self.data.classes), partner, (*key, number))
            yield x[share], labels[share]

    def _batches(self, shares: Iterable[tuple[torch.Tensor, slice, int]]) -> Iterator[tuple[Any, torch.Tensor]]:
        """(samples, labels) of these shares of the batches."""
        data = self.data
        if not isinstance(data, ImageSet):
            moved = None
            if self.moves is not None and isinstance(data, SequenceSet):
                moved = self.moves.epoch(data, self.seed, self.epoch)
            for chosen, share, number in shares:
                own = chosen[share]
                raw, labels = (data.images[own], data.labels[own]) if moved is None else moved(chosen, share, number)
                x = data.normalise(raw)
                lengths = data.lengths if isinstance(data, SequenceSet) else None
                yield x if lengths is None else Padded(x, lengths[own]), labels
            return
        constants = data.constants()
        augmented = Augmentation(data, self.augment, self.pad, self.hole, self._policy, self.seed, self.epoch)
        for chosen, share, number in shares:
            yield data.normalise(augmented(chosen, share, number), constants), data.labels[chosen[share]]

    def _shares(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, slice, int]]:
        """(indices of a batch, this process's share of them, its number)."""
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            each = len(chosen) // self.world
            share = slice(self.rank * each, (self.rank + 1) * each)
            yield chosen, share, number


def check_augment(where: str, data: Samples, augment: str, pad: int, hole: int) -> None:
    """Raise unless shift and hole of an augmentation fit images ``[N, C, H, W]``; arguments as in `Batches`."""
    images = data.images
    if augment != "none" and isinstance(data, SequenceSet):
        must = "augment must be 'none' where samples have a time axis: it is one of still images"
        raise checks.bad_value(where, must, repr(augment), "leave it out")
    if augment != "none" and images.dtype != torch.uint8:
        must = "augment must be 'none' where samples are no uint8 images with classes"
        raise checks.bad_value(where, must, repr(augment), "leave it out")
    if augment != "none":
        check_pad(where, pad, images, low=1)
    if "cutout" in STEPS[augment]:
        check_hole(where, hole, images, "hole")


def _policy(name: str, images: torch.Tensor) -> AutoAugment:
    """The policy, for images that it can work on."""
    if images.shape[1] != 3:
        must = "images must have three channels where augment is 'autoaugment'"
        raise checks.bad_value("Batches", must, images.shape[1], "choose another augment")
    return AutoAugment("Batches", name)


def _check_shares(rank: int, world: int, batch_size: int, rest: int) -> None:
    """Raise unless ``world`` processes can share every batch equally; ``rest`` is the size of a smaller last one."""
    checks.integer("Batches", "world", world, 1, 2**31 - 1)
    checks.integer("Batches", "rank", rank, 0, world - 1)
    if batch_size % world:
        must = f"batch_size must be a multiple of world = {world}"
        raise checks.bad_value("Batches", must, batch_size, "pass the size over all processes")
    if rest % world:
        must = f"the last batch must be a multiple of world = {world}"
        raise checks.bad_value("Batches", must, rest, "set drop_last or pass another batch_size")
