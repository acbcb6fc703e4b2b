"""Stratified validation splits that depend on labels, size and seed only, and the sets made from them."""

from __future__ import annotations

import math

import numpy as np
import torch

from bitspike import checks
from bitspike.data import draws, validate
from bitspike.data.dataset import ImageSet, Splits


def part_size(where: str, name: str, size: int | float, total: int) -> int:
    """Return ``size`` as a count: an int is one, a float in (0, 1) is a fraction of ``total``, half rounds up.

    Raises:
        TypeError: neither an int nor a float.
        ValueError: a fraction outside (0, 1), or a count outside 1 .. total - 1.

    >>> part_size("carve_validation", "size", 0.1, 25)
    3
    """
    if isinstance(size, bool) or not isinstance(size, int | float):
        got = type(size).__name__
        raise checks.bad_type(where, f"{name} must be a count (int) or a fraction (float)", got, "pass one of these")
    if isinstance(size, float) and not 0 < size < 1:
        raise checks.bad_value(where, f"{name} as a fraction must lie in (0, 1)", size, "pass an int for a count")
    count = size if isinstance(size, int) else int(size * total + 0.5)
    if not 1 <= count <= total - 1:
        must = f"{name} must leave at least one sample on each side of {total}"
        raise checks.bad_value(where, must, f"{count} (from {size})", f"pass 1 to {total - 1}, or a fraction")
    return count


def carve_validation(labels: torch.Tensor, size: int | float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split sample indices in two so that each class keeps its share in both parts.

    A class with n of N samples gives size·n/N to validation, rounded down or up (largest remainders first, the
    lower class on ties), so a class of very few samples may stand wholly on one side. Which samples it gives is
    drawn with `draws.permutation`: the same on every machine and torch version.

    Args:
        labels: int64 ``[N]``, N >= 2, values >= 0.
        size: validation samples, 1 to N - 1, or their fraction in (0, 1).
        seed: 0 to 2^63 - 1.

    Returns:
        (train, validation): int64 ``[N - size]`` and ``[size]`` on the CPU, each sorted; together a partition.

    Raises:
        TypeError: labels or a seed of another kind.
        ValueError: a negative label, or a size that leaves a side empty.

    >>> train, validation = carve_validation(torch.tensor([0, 0, 1, 1]), 2, seed=0)
    >>> len(train), sorted(validation // 2)
    (2, [tensor(0), tensor(1)])
    """
    where = "carve_validation"
    validate.tensor(where, "labels", labels, torch.int64, "[N]", 1)
    checks.integer(where, "seed", seed, 0, 2**63 - 1)
    checks.at_least(where, "the least label", int(labels.min()), 0)
    total = len(labels)
    count = part_size(where, "size", size, total)
    array = labels.cpu().numpy()
    present, members = np.unique(array, return_counts=True)
    quota = [count * n // total for n in members.tolist()]
    remainder = [count * n % total for n in members.tolist()]
    for slot in sorted(range(len(present)), key=lambda k: (-remainder[k], k))[: count - sum(quota)]:
        quota[slot] += 1
    chosen = np.zeros(total, dtype=bool)
    for label, n, take in zip(present.tolist(), members.tolist(), quota, strict=True):
        order = draws.permutation(n, seed, draws.SPLIT, label)
        chosen[np.flatnonzero(array == label)[order[:take]]] = True
    return torch.from_numpy(np.flatnonzero(~chosen)), torch.from_numpy(np.flatnonzero(chosen))


def channel_constants(images: torch.Tensor, top: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in units of ``top``, from exact integer sums.

    Args:
        images: uint8 ``[N, C, H, W]``, not empty.
        top: the pixel value that maps to 1.0.

    Returns:
        (mean, std): C floats each; std is over all N·H·W pixels, without Bessel's correction.

    >>> channel_constants(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1), 255)
    ((0.5,), (0.5,))
    """
    means, deviations = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.reshape(-1), minlength=256).tolist()
        n = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        means.append(first / (n * top))
        deviations.append(math.sqrt((n * second - first * first) / (n * top) ** 2))
    return tuple(means), tuple(deviations)


def make_splits(
    name: str,
    classes: tuple[str, ...],
    top: int,
    pool: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor],
    validation: int | float,
    seed: int,
) -> Splits:
    """Carve validation from ``pool`` and normalise all three parts by the constants of what is left to train on.

    Args:
        name: name of the data set; the parts are called ``name/train`` and so on.
        classes, top: as in `ImageSet`.
        pool, test: (images uint8 ``[N, C, H, W]``, labels int64 ``[N]``).
        validation: samples carved from the pool, or their fraction in (0, 1).
        seed: of the carving, 0 to 2^63 - 1.

    Raises:
        TypeError, ValueError: as `carve_validation` and `ImageSet`.
    """
    part_size(name, "validation", validation, len(pool[1]))
    train, held = carve_validation(pool[1], validation, seed)
    mean, std = channel_constants(pool[0][train], top)

    def part(images: torch.Tensor, labels: torch.Tensor, kind: str) -> ImageSet:
        return ImageSet(images, labels, classes, top, mean, std, f"{name}/{kind}")

    images, labels = pool
    return Splits(
        part(images[train], labels[train], "train"),
        part(images[held], labels[held], "validation"),
        part(*test, "test"),
    )
