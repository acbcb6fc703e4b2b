"""Batches of one epoch, in an order and with an augmentation that (seed, epoch) alone decide."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bitspike import checks
from bitspike.data import draws
from bitspike.data.augment import check_pad, flip, shift
from bitspike.data.dataset import ImageSet

AUGMENTS = ("none", "shift", "shift-flip")


class Batches:
    """Iterate over one epoch of a set; iterating again gives the same epoch again.

    The order is a function of (seed, epoch). What happens to an image is a function of (seed, epoch, its index in
    ``data``), so it does not depend on batch size, shuffling or device, and a resumed run sees what it would have
    seen. Work is done on the device that holds ``data``.

    Args:
        data: the set.
        batch_size: images a batch, >= 1; the last batch may be smaller.
        shuffle: draw the order; else that of the set.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^31 - 1.
        augment: "none", "shift" (whole pixels, zeros enter) or "shift-flip" (then mirrored with probability ½,
            which changes the meaning of digits and letters).
        pad: the largest shift in pixels, 1 to min(H, W) - 1; unused where augment is "none".
        drop_last: leave out a last batch that is smaller.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a number outside its range, an unknown augment, or drop_last that leaves no batch.

    >>> images = torch.tensor([0, 16, 0], dtype=torch.uint8).reshape(3, 1, 1, 1)
    >>> toy = ImageSet(images, torch.tensor([0, 1, 0]), ("off", "on"), 16, (0.5,), (0.5,), "toy")
    >>> [(x.flatten().tolist(), labels.tolist()) for x, labels in Batches(toy, 2)]
    [([-1.0, 1.0], [0, 1]), ([-1.0], [0])]
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        augment: str = "none",
        pad: int = 2,
        drop_last: bool = False,
    ) -> None:
        if not isinstance(data, ImageSet):
            raise checks.bad_type("Batches", "data must be an ImageSet", type(data).__name__, "pass one of the splits")
        checks.integer("Batches", "batch_size", batch_size, 1, 2**31 - 1)
        checks.integer("Batches", "seed", seed, 0, 2**63 - 1)
        checks.integer("Batches", "epoch", epoch, 0, 2**31 - 1)
        checks.one_of("Batches", "augment", augment, AUGMENTS)
        if augment != "none":
            check_pad("Batches", pad, data.images, low=1)
        if drop_last and batch_size > len(data):
            must = f"batch_size must be <= {len(data)}, the size of the set, where drop_last is set"
            raise checks.bad_value("Batches", must, batch_size, "lower it or keep the last batch")
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.augment = augment
        self.pad = pad
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Number of batches."""
        whole, rest = divmod(len(self.data), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (float32 ``[B, C, H, W]`` normalised, int64 ``[B]``)."""
        device = self.data.images.device
        count = len(self.data)
        order = torch.arange(count)
        if self.shuffle:
            order = torch.from_numpy(draws.permutation(count, self.seed, draws.ORDER, self.epoch))
        order = order.to(device)
        down, right, mirror = None, None, None
        if self.augment != "none":
            span = 2 * self.pad + 1
            down = self._draw(span, draws.SHIFT_Y) - self.pad
            right = self._draw(span, draws.SHIFT_X) - self.pad
        if self.augment == "shift-flip":
            mirror = self._draw(2, draws.FLIP).bool()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            images = self.data.images[chosen]
            if down is not None and right is not None:
                images = shift(images, down[chosen], right[chosen], self.pad)
            if mirror is not None:
                images = flip(images, mirror[chosen])
            yield self.data.normalise(images), self.data.labels[chosen]

    def _draw(self, bound: int, stream: int) -> torch.Tensor:
        """One int in [0, bound) for each sample of the set."""
        numbers = draws.below(len(self.data), bound, self.seed, stream, self.epoch)
        return torch.from_numpy(numbers).to(self.data.images.device)
