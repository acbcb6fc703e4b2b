"""Augmentation of frames ``[B, T, ...]`` by given amounts: every step of a recording is moved alike.

The amounts of recording i in an epoch are drawn by `EventAugmentation`; integers stay integers, no event is split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bitspike.checks import at_least, bad_type, bad_value, in_range, integer, one_of
from bitspike.data import draws

STEPS = ("flip", "roll", "rotate", "shear", "cutout")
"""What can be done, in the order in which it is done."""

_STREAM = 100
"""The first stream of draws, beyond those of still images."""


def flip(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Mirror left and right the recordings named by ``which``, bool ``[B]``; x is ``[B, T, C, H, W]``."""
    _check("flip", x, which)
    return torch.where(which.reshape(-1, 1, 1, 1, 1), x.flip(4), x)


def roll(x: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Move each recording by whole pixels, int64 ``[B]``; what leaves at a border enters at the other one.

    >>> roll(torch.tensor([1, 2, 3]).reshape(1, 1, 1, 1, 3), torch.tensor([0]), torch.tensor([1])).flatten().tolist()
    [3, 1, 2]
    """
    _check("roll", x, down, right)
    height, width = x.shape[3:]
    rows = (torch.arange(height, device=x.device) - down[:, None]) % height
    columns = (torch.arange(width, device=x.device) - right[:, None]) % width
    return _take(x, rows[:, :, None] * width + columns[:, None, :])


def turn(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Map pixels linearly about the middle: a pixel takes what stands where ``matrix`` sends it, the nearest, or 0.

    Args:
        x: ``[B, T, C, H, W]``. matrix: float64 ``[B, 2, 2]``, of (row, column) to (row, column).

    >>> quarter = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)
    >>> turn(torch.tensor([[1, 2], [3, 4]]).reshape(1, 1, 1, 2, 2), quarter).flatten().tolist()
    [2, 4, 1, 3]
    """
    _check("turn", x, matrix)
    height, width = x.shape[3:]
    row = torch.arange(height, dtype=torch.float64, device=x.device) - (height - 1) / 2
    column = torch.arange(width, dtype=torch.float64, device=x.device) - (width - 1) / 2
    place = torch.stack(torch.meshgrid(row, column, indexing="ij")).reshape(2, -1)
    source = matrix.to(x.device, torch.float64) @ place
    # rounded to 2^-20 of a pixel first, so that a tie is one on every machine
    source = ((source * 2.0**20).round() / 2.0**20).reshape(-1, 2, height, width)
    rows = (source[:, 0] + (height - 1) / 2 + 0.5).floor().long()
    columns = (source[:, 1] + (width - 1) / 2 + 0.5).floor().long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = _take(x, rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1))
    return moved * inside[:, None, None]


def rotation(angle: torch.Tensor) -> torch.Tensor:
    """The matrix of `turn` that rotates by angles in degrees, ``[B]``, counter-clockwise as one sees the picture."""
    radians = angle.double() * (math.pi / 180)
    c, s = radians.cos(), radians.sin()
    return torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)


def shearing(slope: torch.Tensor) -> torch.Tensor:
    """The matrix of `turn` that moves row r by r·slope columns, ``[B]``."""
    one, zero = torch.ones_like(slope.double()), torch.zeros_like(slope.double())
    return torch.stack([torch.stack([one, zero], -1), torch.stack([-slope.double(), one], -1)], -2)


def cutout(x: torch.Tensor, top: torch.Tensor, left: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Empty one square of each recording, in all steps; int64 ``[B]``; what hangs over the border is cut off."""
    _check("cutout", x, top, left, side)
    height, width = x.shape[3:]
    rows = torch.arange(height, device=x.device) - top[:, None]
    columns = torch.arange(width, device=x.device) - left[:, None]
    down, across = ((at >= 0) & (at < side[:, None]) for at in (rows, columns))
    return x * ~(down[:, :, None] & across[:, None, :])[:, None, None]


class EventAugmentation:
    """The augmentation of one epoch; the amounts of a recording depend on (seed, epoch, its index) alone.

    Flipping happens with probability ½; "roll" moves by -5 to 5 pixels, "rotate" by whole degrees, "shear" by whole
    hundredths of a column a row, "cutout" empties a square of 1 to ``hole`` pixels a side, its middle anywhere.

    Source: Li et al., "Neuromorphic Data Augmentation for Training Spiking Neural Networks", ECCV 2022. Differs: all
    the steps that are named are done, where the paper flips and draws one of the others; nothing is interpolated.

    Args:
        steps: names of `STEPS`, done in that order whatever theirs. count: N recordings of the set. shape: (H, W).
        seed: 0 to 2^63 - 1. epoch: 0 to 2^31 - 1.
        pixels: largest roll, 0 to the side less one. degrees: largest rotation, 0 to 180.
        shear: largest slope, 0 to 1. hole: largest hole, 1 to the longer side.

    Raises:
        TypeError, ValueError: a name or number that is not allowed, or a step twice.

    >>> moved = EventAugmentation(("roll",), 4, (8, 8), seed=0)
    >>> x = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 1, 8, 8)
    >>> moved(torch.tensor([3]), x).sum() == x.sum()
    tensor(True)
    """

    def __init__(
        self,
        steps: Sequence[str],
        count: int,
        shape: tuple[int, int],
        seed: int = 0,
        epoch: int = 0,
        pixels: int = 5,
        degrees: int = 15,
        shear: float = 0.15,
        hole: int = 8,
    ) -> None:
        where = "EventAugmentation"
        if isinstance(steps, str):
            raise bad_type(where, "steps must be a sequence of names", repr(steps), f"write ({steps!r},)")
        for name in steps:
            one_of(where, "a step", name, STEPS)
        if len(set(steps)) < len(steps):
            raise bad_value(where, "steps must be named once", list(steps), "drop the second")
        integer(where, "count", count, 1, 2**31)
        integer(where, "seed", seed, 0, 2**63 - 1)
        integer(where, "epoch", epoch, 0, 2**31 - 1)
        self._shape = (integer(where, "H", shape[0], 1, 2**14), integer(where, "W", shape[1], 1, 2**14))
        integer(where, "pixels", pixels, 0, max(min(self._shape) - 1, 0))
        integer(where, "degrees", degrees, 0, 180)
        in_range(where, "shear", shear, 0, 1)
        integer(where, "hole", hole, 1, max(self._shape))
        at_least(where, "shear", shear, 0)
        self._count, self._key = count, (seed, epoch)
        self._steps = tuple(name for name in STEPS if name in steps)
        slopes = int(shear * 100 + 0.5)
        self._mirror = self._draw(0, 2).bool()
        self._down, self._right = self._draw(1, 2 * pixels + 1) - pixels, self._draw(2, 2 * pixels + 1) - pixels
        self._angle = self._draw(3, 2 * degrees + 1) - degrees
        self._slope = (self._draw(4, 2 * slopes + 1) - slopes).double() / 100
        self._side = self._draw(5, hole) + 1
        self._top = self._draw(6, self._shape[0]) - self._side // 2
        self._left = self._draw(7, self._shape[1]) - self._side // 2

    def __call__(self, chosen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Augment the recordings of a batch.

        Args:
            chosen: their indices, int64 ``[B]``, 0 to N - 1. x: ``[B, T, C, H, W]``, integers or floats.

        Returns:
            As x.
        """
        _check("EventAugmentation", x, chosen)
        if tuple(x.shape[3:]) != self._shape:
            must = f"frames must be [B, T, C, {self._shape[0]}, {self._shape[1]}]"
            raise bad_value("EventAugmentation", must, list(x.shape), "pass the shape of these frames")
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < self._count:
            got = f"{int(chosen.min())} to {int(chosen.max())}"
            raise bad_value(
                "EventAugmentation", f"indices must lie in [0, {self._count - 1}]", got, "pass the true count"
            )
        at = chosen.cpu()
        for name in self._steps:
            if name == "flip":
                x = flip(x, self._mirror[at].to(x.device))
            elif name == "roll":
                x = roll(x, self._down[at].to(x.device), self._right[at].to(x.device))
            elif name == "cutout":
                x = cutout(x, *(amount[at].to(x.device) for amount in (self._top, self._left, self._side)))
            else:
                x = turn(x, rotation(self._angle[at]) if name == "rotate" else shearing(self._slope[at]))
        return x

    def _draw(self, stream: int, bound: int) -> torch.Tensor:
        """One int in [0, bound) for each recording of the set."""
        seed, epoch = self._key
        return torch.from_numpy(draws.below(self._count, bound, seed, _STREAM + stream, epoch))


def _take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Pixels by their numbers, ``[B, H, W]``, the same in every step and channel."""
    flat = x.flatten(3)
    wanted = index.flatten(1)[:, None, None].expand(-1, x.shape[1], x.shape[2], -1)
    return flat.gather(3, wanted).reshape(x.shape)


def _check(where: str, x: torch.Tensor, *amounts: torch.Tensor) -> None:
    """Raise unless x is ``[B, T, C, H, W]`` and there is an amount for each of its recordings."""
    if not isinstance(x, torch.Tensor) or x.dim() != 5:
        got = list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
        raise bad_value(where, "frames must be [B, T, C, H, W]", got, "add the missing axes")
    if any(len(amount) != len(x) for amount in amounts):
        must = f"there must be an amount for each of {len(x)} recordings"
        raise bad_value(where, must, [len(amount) for amount in amounts], "pass one each")
