"""Mixup and cutmix: two samples of a batch in one, with a label between theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_value, number
from bitspike.data import draws
from bitspike.data.dataset import ImageSet, Samples
from bitspike.data.sequence_set import SequenceSet

_WHICH, _PARTNER, _SHARE, _ROW, _COLUMN = range(160, 165)
_LEAST, _GREATEST = 0.001, 1000.0


def mixup(x: Tensor, partner: Tensor, share: float) -> Tensor:
    """``share·x + (1 − share)·x[partner]``.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.

    Args:
        x: floats ``[B, ...]``. partner: int64 ``[B]``. share: of a sample's own, in [0, 1].

    >>> mixup(torch.tensor([[0.0], [4.0]]), torch.tensor([1, 0]), 0.75).tolist()
    [[1.0], [3.0]]
    """
    return x * share + x[partner] * (1 - share)


def cutmix(x: Tensor, partner: Tensor, share: float, row: int, column: int) -> tuple[Tensor, float]:
    """Put the same rectangle of each image's partner into it.

    Its sides are those of the image times √(1 − share), rounded down; what hangs over the border is cut off.

    Source: Yun et al., "CutMix", 2019, arXiv:1905.04899.

    Args:
        x: floats ``[B, C, H, W]``. partner: int64 ``[B]``. share: of the area that stays, in [0, 1], before the border
            cuts off. row, column: centre of the rectangle.

    Returns:
        (mixed as x, share of the area that is an image's own).

    >>> x = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).reshape(2, 1, 1, 2)
    >>> mixed, share = cutmix(x, torch.tensor([1, 0]), 0.0, 0, 1)
    >>> mixed.flatten(1).tolist(), share
    ([[2.0, 2.0], [1.0, 1.0]], 0.0)
    """
    ends = []
    for centre, side in ((row, x.shape[2]), (column, x.shape[3])):
        length = int(side * math.sqrt(1 - share))
        low = centre - length // 2
        ends.append((max(low, 0), min(low + length, side)))
    (top, bottom), (left, right) = ends
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """What is done to whole batches of training samples with classes; labels are then shares of classes.

    A batch has one share λ, drawn from Beta(α, α), and one order of partners: sample i is mixed with sample π(i), π a
    permutation drawn anew. Where both kinds are asked for, each batch is mixed by one of them, by either with
    probability ½. All draws depend on (seed, epoch, number of the batch) alone. Shares are multiples of 2^-24, so that
    the two shares of a label add up to 1 exactly.

    Args:
        mixup, cutmix: α of the kind, [0.001, 1000]; 0: that kind is left out.

    Raises:
        ValueError: a number outside its range, or both 0.

    >>> Mixing(mixup=0.2)
    Mixing(mixup=0.2, cutmix=0.0)
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        check_alphas("Mixing", self.mixup, self.cutmix)
        if not self.mixup and not self.cutmix:
            raise bad_value("Mixing", "mixup or cutmix must be above 0", "both 0", "leave it out")

    def check(self, where: str, data: Samples) -> None:
        """Raise `ValueError` unless a set can be mixed: with classes, and all sequences of one length.

        For cutmix its samples must be images [C, H, W].
        """
        key = "mixup" if self.mixup else "cutmix"
        given = self.mixup or self.cutmix
        if not isinstance(data, ImageSet) and (data.regression or data.multilabel):
            must = f"{key} must be 0 where the targets are no classes: there are no shares of them"
            raise bad_value(where, must, given, "leave it out")
        timed = isinstance(data, SequenceSet)
        if self.cutmix and (timed or len(data.step_shape) != 3):
            must = "cutmix must be 0 where samples are no images [C, H, W]"
            got = "samples with a time axis" if timed else f"samples {list(data.step_shape)}"
            raise bad_value(where, must, got, "leave it out, or take mixup")
        if isinstance(data, SequenceSet) and data.lengths is not None:
            must = f"{key} must be 0 where sequences end at different steps"
            raise bad_value(where, must, given, "leave it out")

    def partners(self, sizes: Iterable[int], key: tuple[int, int]) -> Tensor:
        """The partners of all batches of an epoch, one batch after the other: int64 ``[N]``, places in the own batch.

        Args:
            sizes: B of every batch. key: (seed, epoch).
        """
        seed, epoch = key
        orders = [draws.permutation(size, seed, _PARTNER, epoch, number) for number, size in enumerate(sizes)]
        return torch.from_numpy(np.concatenate(orders))

    def batch(
        self, x: Tensor, labels: Tensor, classes: int, partner: Tensor, key: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        """Mix one whole batch; nothing waits for its device.

        Args:
            x: floats ``[B, ...]``, normalised. labels: int64 ``[B]``. classes: K. partner: int64 ``[B]``, see
                `partners`. key: (seed, epoch, number of the batch).

        Returns:
            (mixed as x, float32 ``[B, K]``, rows that add up to 1).
        """
        seed, epoch, number = key
        cuts = bool(self.cutmix) and not (self.mixup and draws.below(1, 2, seed, _WHICH, epoch, number)[0])
        share = draws.beta(self.cutmix if cuts else self.mixup, seed, _SHARE, epoch, number)
        if cuts:
            row, column = (
                int(draws.below(1, side, seed, stream, epoch, number)[0])
                for side, stream in zip(x.shape[2:], (_ROW, _COLUMN), strict=True)
            )
            mixed, share = cutmix(x, partner, share, row, column)
        else:
            mixed = mixup(x, partner, share)
        share = draws.on_grid(share)
        own = (labels.unsqueeze(1) == torch.arange(classes, device=labels.device)).float()  # `one_hot` waits
        return mixed, share * own + (1 - share) * own[partner]


def check_alphas(where: str, mixup: float, cutmix: float) -> None:
    """Raise `ValueError` unless both are 0 or lie in [0.001, 1000]."""
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        number(where, name, alpha)
        if alpha and not _LEAST <= alpha <= _GREATEST:
            must = f"{name} must be 0 or lie in [{_LEAST}, {_GREATEST:g}]"
            raise bad_value(where, must, alpha, "0.2 to 1 are usual")
