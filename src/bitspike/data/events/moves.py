"""What training does to batches of frames of events: they are moved, and mixed with each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from bitspike.checks import at_least, bad_value, in_range, one_of, single
from bitspike.data import draws
from bitspike.data.events.augment import STEPS, EventAugmentation
from bitspike.data.events.mix import event_mix
from bitspike.data.sequence_set import SequenceSet
from bitspike.schema import conform

AMOUNTS = {"pixels": "roll", "degrees": "rotate", "shear": "shear", "hole": "cutout"}
"""Arguments of `EventAugmentation`, and the step that each is of."""

_WHICH, _PARTNER, _TIME, _ROW, _COLUMN, _SHARE = range(120, 126)
_FINE = 2**24
_LEAST = {"pixels": 1, "degrees": 1, "shear": 0.01}


@dataclass(frozen=True, kw_only=True)
class EventMoves:
    """Augmentation of frames, as a recipe's table [data.event_augment] has it.

    Args:
        steps: names of steps of `EventAugmentation`, which are done in its order.
        pixels, degrees, shear, hole: as there, each only where its step is named; None: the default there.
        mix: probability with which a recording is mixed with another one of its batch (`event_mix`, its point and its
            share drawn uniformly), [0, 1]; labels are then shares of classes.

    Raises:
        TypeError, ValueError: an unknown step, a number outside its range or without its step; nothing to be done.

    >>> EventMoves(steps=("flip",), pixels=3)
    Traceback (most recent call last):
        ...
    ValueError: EventMoves: pixels must be left out where steps do not hold 'roll', got 3; remove it.
    """

    steps: tuple[str, ...] = field(default=())
    pixels: int | None = None
    degrees: int | None = None
    shear: float | None = None
    hole: int | None = None
    mix: float = 0.0

    def __post_init__(self) -> None:
        conform(self)
        where = "EventMoves"
        single(where, self)
        for name in self.steps:
            one_of(where, "a step", name, STEPS)
        in_range(where, "mix", self.mix, 0, 1)
        for name, step in AMOUNTS.items():
            if getattr(self, name) is not None and step not in self.steps:
                must = f"{name} must be left out where steps do not hold {step!r}"
                raise bad_value(where, must, getattr(self, name), "remove it")
        for name, least in _LEAST.items():
            if getattr(self, name) is not None:
                at_least(where, name, getattr(self, name), least)  # less moves nothing
        if not self.steps and not self.mix:
            raise bad_value(where, "steps or mix must be given", "neither", "name a step, or leave the table out")
        self._augmentation(1, (2**14, 2**14), 0, 0)  # ranges that no frame decides

    def check(self, where: str, data: object) -> None:
        """Raise `ValueError` unless these moves fit a set: frames ``[T, C, H, W]``; to be mixed, whole ones >= 0.

        Classes that a mirror exchanges, as "left hand wave" and "right hand wave", or "clockwise" and
        "counter clockwise", are not flipped.
        """
        if not isinstance(data, SequenceSet) or len(data.step_shape) != 3:
            got = "others" if isinstance(data, SequenceSet) else "samples without a time axis"
            must = "event_augment must be left out where samples are no frames [T, C, H, W]"
            raise bad_value(where, must, got, "remove it")
        self._augmentation(1, data.step_shape[1:], 0, 0)
        known = {_sides(name): name for name in data.classes}
        sided = [name for name in known if _mirrored(name) != name and _mirrored(name) in known]
        if "flip" in self.steps and sided:
            must = "event_augment must not flip samples of classes that a mirror exchanges"
            got = f"{known[sided[0]]!r} and {known[_mirrored(sided[0])]!r}"
            raise bad_value(where, must, got, "take 'flip' out of steps")
        if not self.mix:
            return
        wrong = {
            "all have as many steps": data.lengths is not None,
            "have classes": data.regression or data.multilabel,
            "are >= 0": data.images.dtype != torch.uint8 and bool((data.images < 0).any()),
        }
        for must, broken in wrong.items():
            if broken:
                raise bad_value(where, f"mix must be 0 unless frames {must}", self.mix, "leave it out")

    def epoch(self, data: SequenceSet, seed: int, epoch: int) -> EpochMoves:
        """The moves of one epoch of a set."""
        return EpochMoves(self, data, self._augmentation(len(data), data.step_shape[1:], seed, epoch), seed, epoch)

    def _augmentation(self, count: int, shape: tuple[int, ...], seed: int, epoch: int) -> EventAugmentation:
        amounts = {name: getattr(self, name) for name in AMOUNTS if getattr(self, name) is not None}
        height, width = shape
        if "hole" not in amounts:
            amounts["hole"] = min(8, max(shape))
        if "pixels" not in amounts:
            amounts["pixels"] = min(5, min(shape) - 1)
        return EventAugmentation(self.steps, count, (height, width), seed, epoch, **amounts)


def _sides(name: str) -> str:
    """The name of a class in small letters, with one word for each side and each sense of rotation.

    >>> _sides("armLeft1"), _sides("Turn anti-clockwise"), _sides("upright")
    ('arm left1', 'turn ccw', 'upright')
    """
    words = re.sub(r"(?<=[a-z\d])(?=[A-Z])|[\W_]+", " ", name).lower()
    return re.sub(r"(counter|anti) ?clockwise", "ccw", words).replace("clockwise", "cw")


def _mirrored(sides: str) -> str:
    """What `_sides` gives for the mirrored class: left and right exchanged, and the senses of rotation.

    >>> _mirrored("left arm cw"), _mirrored("upright")
    ('right arm ccw', 'upright')
    """
    other = {"left": "right", "right": "left", "cw": "ccw", "ccw": "cw"}
    return re.sub(r"(?<![^\W\d_])(left|right|ccw|cw)(?![^\W\d_])", lambda found: other[found[0]], sides)


class EpochMoves:
    """Frames and labels of every batch of an epoch.

    What moves a recording, whether it is mixed, and where, depends on (seed, epoch, its index) alone; its partner on
    the number of the batch, too. Both are moved before they are mixed.

    Args:
        moves: what is done. data: the set. augmentation: of the epoch. seed, epoch: ints >= 0.
    """

    def __init__(
        self, moves: EventMoves, data: SequenceSet, augmentation: EventAugmentation, seed: int, epoch: int
    ) -> None:
        self._data, self._augmentation, self._key, self._mixes = data, augmentation, (seed, epoch), moves.mix > 0
        if self._mixes:
            self._which = self._uniform(_WHICH) < moves.mix
            self._centre = torch.stack([self._uniform(axis) for axis in (_TIME, _ROW, _COLUMN)], 1)
            self._share = self._uniform(_SHARE)

    def __call__(self, chosen: Tensor, share: slice, number: int) -> tuple[Tensor, Tensor]:
        """Return a share of one batch.

        Args:
            chosen: int64 ``[B]``, the recordings of the whole batch. share: which of them. number: of the batch.

        Returns:
            (frames ``[b, T, C, H, W]`` as the set has them, labels as the set has them; or float32 ``[b, K]``, shares
            of the classes, where frames are mixed).
        """
        if not self._mixes:  # else partners may lie in other shares
            chosen, share = chosen[share], slice(None)
        x = self._augmentation(chosen, self._data.images.index_select(0, chosen))
        labels = self._data.labels[chosen]
        if not self._mixes:
            return x, labels
        seed, epoch = self._key
        count, at = len(chosen), chosen.cpu()
        partner = torch.from_numpy(draws.permutation(count, seed, _PARTNER, epoch, number))
        partner = torch.where(self._which[at], partner, torch.arange(count)).to(x.device)
        kept = torch.where(self._which[at], self._share[at], 1.0)
        x, weight = event_mix(x, partner, self._centre[at].to(x.device), kept.to(x.device))
        own = one_hot(labels, len(self._data.classes)).float()
        mixed = weight[:, None] * own + (1 - weight)[:, None] * own[partner]
        return x[share], mixed[share]

    def _uniform(self, stream: int) -> Tensor:
        """One number of [0, 1) for each recording of the set, float64."""
        seed, epoch = self._key
        found: np.ndarray = draws.below(len(self._data), _FINE, seed, stream, epoch)
        return torch.from_numpy(found).double() / _FINE
