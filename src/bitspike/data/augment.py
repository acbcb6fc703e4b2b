"""Batched augmentation of raw uint8 images, on the device of the images and without a loop over samples.

Each one stands twice: the plain function moves the images by given amounts, ``random_*`` draws the amounts.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from bitspike import checks
from bitspike.data import validate


def shift(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor, pad: int) -> torch.Tensor:
    """Move each image by whole pixels; what enters at the border is 0 (the raw value, black).

    Args:
        images: uint8 ``[B, C, H, W]``.
        down, right: int64 ``[B]``, pixels in [-pad, pad] (not checked: it would wait for the device).
        pad: the largest shift, 0 to min(H, W) - 1.

    Returns:
        uint8 ``[B, C, H, W]``.

    >>> row = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    >>> shift(row.expand(1, 1, 2, 3), torch.tensor([0]), torch.tensor([1]), 1)[0, 0, 0].tolist()
    [0, 1, 2]
    """
    validate.batch("shift", images)
    check_pad("shift", pad, images)
    padded = functional.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    sample = torch.arange(len(images), device=images.device)
    return windows[sample, :, pad - down, pad - right]


def flip(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Mirror left and right the images named by ``which``.

    Args:
        images: uint8 ``[B, C, H, W]``.
        which: bool ``[B]``.

    Returns:
        uint8 ``[B, C, H, W]``.

    >>> row = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    >>> flip(row, torch.tensor([True])).flatten().tolist()
    [3, 2, 1]
    """
    validate.batch("flip", images)
    return _choose(which.to(torch.uint8).reshape(-1, 1, 1, 1), images.flip(3), images)


def cutout(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int, fill: torch.Tensor) -> torch.Tensor:
    """Paint one square hole over each image; what hangs over the border is cut off.

    Args:
        images: uint8 ``[B, C, H, W]``.
        top, left: int64 ``[B]``, first row and column of the hole, which may lie outside (not checked).
        size: side of the hole in pixels, 1 to max(H, W).
        fill: uint8 ``[C]``, the raw value of each channel in the hole: zeros for black, or the values nearest to
            the mean of the set, which normalise to about 0.

    Returns:
        uint8 ``[B, C, H, W]``.

    >>> row = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    >>> cutout(row, torch.tensor([0]), torch.tensor([-1]), 2, torch.tensor([9], dtype=torch.uint8)).flatten().tolist()
    [9, 2, 3]
    """
    validate.batch("cutout", images)
    check_hole("cutout", size, images)
    validate.fill("cutout", fill, images.shape[1])
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - top[:, None]
    columns = torch.arange(width, device=images.device) - left[:, None]
    down, across = ((places >= 0) & (places < size) for places in (rows, columns))
    inside = down.view(torch.uint8)[:, None, :, None] & across.view(torch.uint8)[:, None, None, :]
    return _choose(inside, fill[:, None, None], images)


def random_shift(images: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Pad with zeros and crop at random: each image moves by -pad to pad pixels on each axis, uniformly.

    Args:
        images: uint8 ``[B, C, H, W]``.
        pad: the largest shift, 0 to min(H, W) - 1.
        generator: drawn from on its own device; 2·B numbers.

    Returns:
        uint8 ``[B, C, H, W]``.

    Raises:
        TypeError: images that are not uint8, or no generator.
        ValueError: another shape or pad.
    """
    validate.batch("random_shift", images)
    check_pad("random_shift", pad, images)
    _generator("random_shift", generator)
    size = (2, len(images))
    amounts = torch.randint(-pad, pad + 1, size, generator=generator, device=generator.device).to(images.device)
    return shift(images, amounts[0], amounts[1], pad)


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror each image left and right with probability one half.

    Args:
        images: uint8 ``[B, C, H, W]``.
        generator: drawn from on its own device; B numbers.

    Returns:
        uint8 ``[B, C, H, W]``.

    Raises:
        TypeError: images that are not uint8, or no generator.
        ValueError: another shape.
    """
    validate.batch("random_flip", images)
    _generator("random_flip", generator)
    which = torch.randint(0, 2, (len(images),), generator=generator, device=generator.device)
    return flip(images, which.to(images.device, torch.bool))


def random_cutout(images: torch.Tensor, size: int, fill: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Paint one square hole over each image, its centre drawn uniformly from the pixels.

    Source: T. DeVries, G. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
    arXiv:1708.04552. Differs: a hole of odd size is as wide as it says, where their code makes it one less.

    Args:
        images: uint8 ``[B, C, H, W]``.
        size: side of the hole in pixels, 1 to max(H, W); the paper takes 16 for CIFAR-10, 8 for CIFAR-100.
        fill: uint8 ``[C]``, as in `cutout`.
        generator: drawn from on its own device; 2·B numbers.

    Returns:
        uint8 ``[B, C, H, W]``.

    Raises:
        TypeError: images or fill that are not uint8, or no generator.
        ValueError: another shape or size.
    """
    validate.batch("random_cutout", images)
    check_hole("random_cutout", size, images)
    _generator("random_cutout", generator)
    first = [
        torch.randint(0, side, (len(images),), generator=generator, device=generator.device) - size // 2
        for side in images.shape[2:]
    ]
    return cutout(images, first[0].to(images.device), first[1].to(images.device), size, fill)


def check_pad(where: str, pad: int, images: torch.Tensor, low: int = 0) -> None:
    """Raise unless ``pad`` is an int from ``low`` to min(H, W) - 1 of ``images``."""
    checks.integer(where, "pad", pad, low, min(images.shape[2:]) - 1)


def check_hole(where: str, size: int, images: torch.Tensor, name: str = "size") -> None:
    """Raise unless ``size`` is an int from 1 to max(H, W) of ``images``."""
    checks.integer(where, name, size, 1, max(images.shape[2:]))


def _choose(which: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return ``first`` where ``which`` is 1, ``second`` where it is 0, all uint8: `torch.where`, but fast on the CPU.

    >>> values = torch.tensor([[1, 0], [7, 7], [9, 9]], dtype=torch.uint8)
    >>> _choose(*values).tolist()
    [7, 9]
    """
    return (first ^ second).bitwise_and_(which * 255).bitwise_xor_(second)


def _generator(where: str, generator: torch.Generator) -> None:
    """Raise unless ``generator`` is a `torch.Generator`."""
    if not isinstance(generator, torch.Generator):
        got = type(generator).__name__
        raise checks.bad_type(where, "generator must be a torch.Generator", got, "pass one that you have seeded")
