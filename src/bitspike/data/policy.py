"""AutoAugment through kornia, made reproducible: our draws choose the policies, a seed of our own feeds kornia."""

from __future__ import annotations

import torch

from bitspike.checks import one_of
from bitspike.data.optional import need

POLICIES = ("cifar10", "imagenet", "svhn")


class AutoAugment:
    """One of the searched policies of AutoAugment; every image gets a sub-policy of its own.

    Source: E. Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019.
    Differs from kornia's class, which gives all images of a call the same sub-policy: here each sub-policy is called
    with the images that drew it. kornia has no generator argument, so its global one is seeded for the call and put
    back afterwards. What comes out depends on the version of kornia and on the other images of the batch.

    Args:
        where: what needs it, for messages.
        name: "cifar10", "imagenet" or "svhn".

    Raises:
        ImportError: kornia is not installed.
        ValueError: an unknown name.
    """

    def __init__(self, where: str, name: str) -> None:
        one_of(where, "policy", name, POLICIES)
        auto = need(where, "kornia.augmentation.auto", "kornia", "augment")
        self._parts = [part.eval() for part in auto.AutoAugment(name).children()]

    def __len__(self) -> int:
        """Number of sub-policies."""
        return len(self._parts)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor, which: torch.Tensor, top: int, seed: int) -> torch.Tensor:
        """Apply to each image the sub-policy that ``which`` names.

        Args:
            images: uint8 ``[B, 3, H, W]``, values 0 to ``top``.
            which: int64 ``[B]``, 0 to ``len(self) - 1``.
            top: the pixel value that maps to 1.0.
            seed: of kornia's draws, 0 to 2^64 - 1.

        Returns:
            uint8 ``[B, 3, H, W]``.
        """
        result = torch.empty_like(images)
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.random.default_generator.manual_seed(seed)
            for device in devices:
                torch.cuda.default_generators[device.index].manual_seed(seed)
            for part in which.unique().tolist():
                members = (which == part).nonzero().squeeze(1)
                changed = self._parts[part](images[members].to(torch.float32) / top)
                result[members] = changed.mul(top).add(0.5).floor().clamp(0, top).to(torch.uint8)
        return result
