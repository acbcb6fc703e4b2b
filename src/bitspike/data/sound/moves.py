"""What training does to batches of spectra: they are moved in time, and bands and moments are masked."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bitspike.checks import bad_value, integer, single
from bitspike.data import draws
from bitspike.data.sequence_set import SequenceSet
from bitspike.schema import conform

_BY, _MOMENTS, _FROM, _BANDS, _BAND = range(140, 145)


@dataclass(frozen=True, kw_only=True)
class SoundMoves:
    """Augmentation of spectra, as a recipe's table [data.sound_augment] has it.

    A step of a set of sound is a strip of spectra; numbers here count spectra, across the borders of steps. What
    happens to a recording depends on (seed, epoch, its index) alone.

    Source: of the masks, Park et al., "SpecAugment", Interspeech 2019: one of each kind, as wide as drawn from 0 to its
    largest width, and filled with 0, which is the mean of a band in training data.

    Args:
        shift: a recording is moved by -shift to shift spectra; at the end that falls free its first or last spectrum is
            repeated. moments: largest number of neighbouring spectra that are masked. bands: the same of mel bands.

    Raises:
        TypeError, ValueError: a number below 0, or nothing to be done.

    >>> SoundMoves()
    Traceback (most recent call last):
        ...
    ValueError: SoundMoves: shift, moments or bands must be above 0, got none; set one, or leave the table out.
    """

    shift: int = 0
    moments: int = 0
    bands: int = 0

    def __post_init__(self) -> None:
        conform(self)
        where = "SoundMoves"
        single(where, self)
        for field in fields(self):
            integer(where, field.name, getattr(self, field.name), 0, 2**20)
        if not (self.shift or self.moments or self.bands):
            must = "shift, moments or bands must be above 0"
            raise bad_value(where, must, "none", "set one, or leave the table out")

    def check(self, where: str, data: object) -> None:
        """Raise `ValueError` unless these moves fit a set: float strips ``[T, 1, stack, mels]``, long enough."""
        strips = isinstance(data, SequenceSet) and len(data.step_shape) == 3 and data.step_shape[0] == 1
        if not isinstance(data, SequenceSet) or not strips or not data.images.is_floating_point():
            got = "others" if isinstance(data, SequenceSet) else "samples without a time axis"
            must = "sound_augment must be left out where samples are no spectra [T, 1, stack, mels] of floats"
            raise bad_value(where, must, got, "remove it")
        if self.shift and data.lengths is not None:
            must = "shift must be 0 where recordings end at different steps"
            raise bad_value(where, must, self.shift, "leave it out, or set data.sound.fit='stretch'")
        stack, mels = data.step_shape[1:]
        for name, most in (("shift", data.steps * stack - 1), ("moments", data.steps * stack - 1), ("bands", mels - 1)):
            if getattr(self, name) > most:
                must = f"{name} must be at most {most} of {most + 1}"
                raise bad_value(where, must, getattr(self, name), "lower it")

    def epoch(self, data: SequenceSet, seed: int, epoch: int) -> SoundEpoch:
        """The moves of one epoch of a set."""
        return SoundEpoch(self, data, seed, epoch)


class SoundEpoch:
    """Spectra and labels of every batch of an epoch.

    Args:
        moves: what is done. data: the set. seed, epoch: ints >= 0.
    """

    def __init__(self, moves: SoundMoves, data: SequenceSet, seed: int, epoch: int) -> None:
        self._data, self._key = data, (seed, epoch)
        stack, mels = data.step_shape[1:]
        count = data.steps * stack
        self._by = self._draw(_BY, 2 * moves.shift + 1) - moves.shift
        self._masks = (
            (1, self._span(_FROM, _MOMENTS, count, moves.moments)),
            (2, self._span(_BAND, _BANDS, mels, moves.bands)),
        )

    def __call__(self, chosen: Tensor, share: slice, number: int) -> tuple[Tensor, Tensor]:
        """Return a share of one batch.

        Args:
            chosen: int64 ``[B]``, the recordings of the whole batch. share: which of them. number: of the batch.

        Returns:
            (float32 ``[b, T, 1, stack, mels]``, labels ``[b]``).
        """
        own = chosen[share]
        x, at = self._data.images.index_select(0, own), own.cpu()
        flat = x.flatten(1, 3)  # [b, T·stack, mels]
        spectra = torch.arange(flat.shape[1], device=x.device)
        source = (spectra - self._by[at].to(x.device)[:, None]).clamp(0, flat.shape[1] - 1)
        flat = flat.gather(1, source[:, :, None].expand_as(flat))
        for axis, (begin, width) in self._masks:
            places = torch.arange(flat.shape[axis], device=x.device)
            first, many = begin[at].to(x.device)[:, None], width[at].to(x.device)[:, None]
            hidden = (places >= first) & (places < first + many)
            flat = flat.masked_fill(hidden.unsqueeze(2 if axis == 1 else 1), 0.0)
        return flat.reshape(x.shape), self._data.labels[own]

    def _span(self, begin: int, width: int, length: int, most: int) -> tuple[Tensor, Tensor]:
        """(first place, width) of a mask for each recording: width of 0 to ``most``, wholly inside."""
        wide = self._draw(width, most + 1)
        fine = self._draw(begin, 2**24).double() / 2**24
        return (fine * (length - wide + 1)).long(), wide

    def _draw(self, stream: int, bound: int) -> Tensor:
        """One int in [0, bound) for each recording of the set."""
        seed, epoch = self._key
        return torch.from_numpy(draws.below(len(self._data), bound, seed, stream, epoch))
