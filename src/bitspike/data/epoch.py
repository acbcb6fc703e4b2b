"""What an epoch does to the images of a set: amounts drawn once for the whole set, applied batch by batch."""

from __future__ import annotations

import math

import torch

from bitspike.data import draws
from bitspike.data.augment import cutout, flip, shift
from bitspike.data.dataset import ImageSet
from bitspike.data.policy import AutoAugment

STEPS: dict[str, tuple[str, ...]] = {
    "none": (),
    "shift": ("shift",),
    "shift-flip": ("shift", "flip"),
    "shift-flip-cutout": ("shift", "flip", "cutout"),
    "autoaugment": ("shift", "flip", "policy", "cutout"),
}
"""What each name does, in this order."""


class Augmentation:
    """The augmentation of one epoch.

    The amounts for an image are a function of (seed, epoch, its index in ``data``). The policy's own draws are a
    function of (seed, epoch, number of the batch) and of the images in that batch.

    Args:
        data: the set.
        name: a key of `STEPS`.
        pad, hole: as in `Batches`.
        policy: where ``name`` has that step.
        seed, epoch: ints >= 0.
    """

    def __init__(
        self, data: ImageSet, name: str, pad: int, hole: int, policy: AutoAugment | None, seed: int, epoch: int
    ) -> None:
        self._data, self._pad, self._hole, self._policy = data, pad, hole, policy
        self._key = (seed, epoch)
        steps = STEPS[name]
        height, width = data.images.shape[2:]
        if "shift" in steps:
            self._down = self._draw(2 * pad + 1, draws.SHIFT_Y) - pad
            self._right = self._draw(2 * pad + 1, draws.SHIFT_X) - pad
        if "flip" in steps:
            self._mirror = self._draw(2, draws.FLIP).bool()
        if policy is not None:
            self._which = self._draw(len(policy), draws.POLICY)
        if "cutout" in steps:
            self._top = self._draw(height, draws.HOLE_Y) - hole // 2
            self._left = self._draw(width, draws.HOLE_X) - hole // 2
            values = [math.floor(mean * data.top + 0.5) for mean in data.mean]
            fill = torch.tensor([min(max(value, 0), data.top) for value in values], dtype=torch.uint8)
            self._fill = fill.to(data.images.device)
        self._steps = steps

    def __call__(self, chosen: torch.Tensor, share: slice, number: int) -> torch.Tensor:
        """Return the augmented images of a share of one batch.

        Args:
            chosen: int64 ``[B]``, the samples of the whole batch.
            share: which of them.
            number: of the batch within the epoch.

        Returns:
            uint8 ``[b, C, H, W]``.
        """
        if self._policy is None:  # else all processes must draw alike, so each works on the whole batch
            chosen, share = chosen[share], slice(None)
        images = self._data.images.index_select(0, chosen)  # copies whole images; [chosen] copies bytes
        if "shift" in self._steps:
            images = shift(images, self._down[chosen], self._right[chosen], self._pad)
        if "flip" in self._steps:
            images = flip(images, self._mirror[chosen])
        if self._policy is not None:
            seed, epoch = self._key
            kornia_seed = int(draws.keyed(1, seed, draws.POLICY_SEED, epoch, number)[0])
            images = self._policy(images, self._which[chosen], self._data.top, kornia_seed)
        images, chosen = images[share], chosen[share]
        if "cutout" in self._steps:
            images = cutout(images, self._top[chosen], self._left[chosen], self._hole, self._fill)
        return images

    def _draw(self, bound: int, stream: int) -> torch.Tensor:
        """One int in [0, bound) for each sample of the set."""
        seed, epoch = self._key
        numbers = draws.below(len(self._data), bound, seed, stream, epoch)
        return torch.from_numpy(numbers).to(self._data.images.device)
