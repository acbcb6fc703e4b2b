"""Recordings of speakers as the three sets of an experiment: a fixed split, or speakers that training never hears."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.data.dataset import Splits
from bitspike.data.group_split import RULES, apart, carve_groups
from bitspike.data.sequence_arrays import sequence_splits
from bitspike.data.sound.options import SoundOptions, spectra_of
from bitspike.data.split import carve_validation


@dataclass(frozen=True, eq=False)
class Speech:
    """Recordings of one rate, who speaks, and which of them are tested on.

    Args:
        samples: int16 ``[n]`` each. labels, speakers: int64 ``[N]``. names: of the speakers, without repeats.
        test: bool ``[N]``, the set's own test part. rate: samples a second. files: what was read.
    """

    samples: Sequence[np.ndarray]
    labels: np.ndarray
    speakers: np.ndarray
    names: tuple[str, ...]
    test: np.ndarray
    rate: int
    files: tuple[Path, ...] = ()


def speech_splits(
    name: str,
    classes: tuple[str, ...],
    speech: Speech,
    options: SoundOptions,
    validation: int | float,
    seed: int,
    validation_by: str | None = None,
    test_speakers: Iterable[str] | None = None,
) -> Splits:
    """Spectra of recordings, normalised band by band to mean 0 and standard deviation 1 (`band_constants`) over what is
    not tested on, so that the numbers of a recording do not change with the seed.

    On the set's own split the validation part is drawn at random by class, since the test part has the training part's
    speakers, too. With ``test_speakers`` the test part is all that these say and nothing else, and the validation part
    is carved by speaker, so that it is as strange to the network as the test part.

    Args:
        name, classes: as in `SequenceSet`. speech: the recordings. options: checked ones.
        validation, seed: as in `carve_validation` and `carve_groups`. validation_by: "group" (speakers) or "class";
            None: as said above. test_speakers: names of those that are tested on; None: the set's own test part.

    Raises:
        TypeError, ValueError: an unknown speaker, a split that leaves a part or class empty, or equal recordings in two
            parts.
    """
    where = f"load_{name}"
    if validation_by is not None:
        one_of(where, "validation_by", validation_by, RULES)
    test = tested(where, speech, test_speakers)
    pool = np.flatnonzero(~test)
    labels, speakers = torch.from_numpy(speech.labels), torch.from_numpy(speech.speakers)
    by_group = validation_by == "group" or (validation_by is None and test_speakers is not None)
    if by_group:
        kept, held = carve_groups(labels[pool], speakers[pool], validation, seed, "speakers")
    else:
        kept, held = carve_validation(labels[pool], validation, seed)
    parts = {"train": pool[kept.numpy()], "validation": pool[held.numpy()], "test": np.flatnonzero(test)}
    heard = {part: [speech.names[k] for k in np.unique(speech.speakers[at])] for part, at in parts.items()}
    if test_speakers is not None:
        apart(where, heard["train"] + heard["validation"], heard["test"], "speakers")
    spectra, steps = spectra_of(where, options, speech.samples, speech.rate, speech.files)
    spectra = normalised(spectra, steps, *band_constants(spectra, steps, pool))
    pairs = {part: (torch.from_numpy(spectra[at]), labels[at]) for part, at in parts.items()}
    lengths = {} if steps is None else {part: torch.from_numpy(steps[at]) for part, at in parts.items()}
    return sequence_splits(where, name, pairs, classes, 1, validation, seed, lengths)


def tested(where: str, speech: Speech, test_speakers: Iterable[str] | None) -> np.ndarray:
    """Which recordings are tested on, bool ``[N]``: some, and not all."""
    test = speech.test
    if test_speakers is not None:
        wanted = _speakers(where, test_speakers, speech.names)
        test = np.isin(speech.speakers, [speech.names.index(one) for one in wanted])
    if not 0 < int(test.sum()) < len(test):
        must = "there must be recordings to train on and to test on"
        raise bad_value(where, must, f"{int((~test).sum())} and {int(test.sum())}", "complete the files")
    return test


def band_constants(spectra: np.ndarray, steps: np.ndarray | None, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over all spectra of the recordings named; 1 where a band never changes.

    Args:
        spectra: float32 ``[N, T, 1, stack, mels]``. steps: int64 ``[N]``, where they end, or None: all have T steps.
        numbers: int64 ``[M]``.

    Returns:
        (mean, std): float64 ``[mels]``.
    """
    seen = spectra[numbers][_there(spectra, steps)[numbers]].reshape(-1, spectra.shape[-1]).astype(np.float64)
    std = seen.std(0)
    return seen.mean(0), np.where(std > 0, std, 1.0)


def normalised(spectra: np.ndarray, steps: np.ndarray | None, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Spectra minus the mean of their band over its standard deviation; 0 behind the end of a recording.

    >>> x = np.array([1.0, 3.0, 9.0], np.float32).reshape(3, 1, 1, 1, 1)
    >>> normalised(x, None, *band_constants(x, None, np.array([0, 1]))).flatten().tolist()
    [-1.0, 1.0, 7.0]
    """
    there = _there(spectra, steps)[:, :, None, None, None]
    return np.where(there, (spectra - mean) / std, 0.0).astype(np.float32)


def _there(spectra: np.ndarray, steps: np.ndarray | None) -> np.ndarray:
    """bool ``[N, T]``: which steps are of the recordings."""
    return np.ones(spectra.shape[:2], bool) if steps is None else np.arange(spectra.shape[1]) < steps[:, None]


def _speakers(where: str, given: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Names of known speakers, not all of them."""
    if isinstance(given, str) or not isinstance(given, (list, tuple)):
        raise bad_type(where, "test_speakers must be a list of names", repr(given), f"e.g. [{names[0]!r}]")
    for one in given:
        one_of(where, "a test speaker", one, names)
    if not given or len(set(given)) < len(given) or len(given) >= len(names):
        must = f"test_speakers must name one to {len(names) - 1} of {len(names)} speakers, each once"
        raise bad_value(where, must, list(given), "leave out others")
    return list(given)
