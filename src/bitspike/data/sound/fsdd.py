"""Free Spoken Digit Dataset: the digits 0 to 9 in English, 8000 samples a second."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.places import folder_of
from bitspike.data.npz import read_npz
from bitspike.data.sound.options import NAMES, SoundOptions, spectra_of
from bitspike.data.sound.splits import Speech, band_constants, speech_splits, tested
from bitspike.data.sound.wav import read_wav

WHERE = "load_fsdd"
CLASSES = tuple("zero one two three four five six seven eight nine".split())
RATE = 8000
TESTED = 5
"""Recordings 0 to 4 of each digit and speaker are tested on."""

PACKED = "fsdd.npz"
MEMBERS = ("delta_hi", "delta_lo", "offsets", "labels", "speakers", "speaker_names", "indices")
NAME = re.compile(r"([0-9])_([A-Za-z][A-Za-z0-9-]*)_([0-9]+)\.wav")
AGAIN = "copy the file again from its source"

Row = tuple[int, str, int, np.ndarray]
"""(digit, speaker, number of the recording, samples)."""


def load_fsdd(
    root: str | os.PathLike[str],
    validation: int | float = 0.1,
    seed: int = 0,
    validation_by: str | None = None,
    test_speakers: Iterable[str] | None = None,
    **options: object,
) -> Splits:
    """Load the Free Spoken Digit Dataset as spectra in mel bands.

    Its own split tests on recordings 0 to 4 of each digit and speaker, and trains on the others of the same six
    speakers; ``test_speakers`` tests on speakers that training never hears, which is harder.

    Source: Z. Jackson et al., "Free Spoken Digit Dataset", github.com/Jakobovski/free-spoken-digit-dataset; its README
    has the split.

    Args:
        root: the folder with ``recordings/7_jackson_32.wav`` and so on, or ``fsdd.npz``, or its parent, where it is
            called ``fsdd``, ``FSDD`` or ``free-spoken-digit-dataset``.
        validation: carved from the recordings that are not tested on; a count or a fraction in (0, 1), by speaker met
            as nearly as whole ones can. seed: of the carving. validation_by, test_speakers: as in `speech_splits`.
        options: of `SoundOptions`: T, stack, mels and the others.

    Returns:
        Splits of ``[N, T, 1, stack, mels]``, float32.

    Raises:
        TypeError, ValueError: no such files, a damaged one, or an option that is not allowed.
    """
    chosen, speech = SoundOptions(**options).checked(WHERE, RATE), read_fsdd(root)  # type: ignore[arg-type]
    return speech_splits("fsdd", CLASSES, speech, chosen, validation, seed, validation_by, test_speakers)


def fsdd_constants(
    root: str | os.PathLike[str], test_speakers: Iterable[str] | None = None, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """What `load_fsdd` with these arguments normalises by, for sound from elsewhere: mean and standard deviation.

    Returns:
        (float64 ``[mels]``, float64 ``[mels]``): of what `SoundOptions.spectra` gives, which divides a recording by its
        root mean square first unless loudness is "kept".
    """
    chosen, speech = SoundOptions(**options).checked(WHERE, RATE), read_fsdd(root)  # type: ignore[arg-type]
    spectra, steps = spectra_of(WHERE, chosen, speech.samples, RATE, speech.files)
    return band_constants(spectra, steps, np.flatnonzero(~tested(WHERE, speech, test_speakers)))


def read_fsdd(root: str | os.PathLike[str]) -> Speech:
    """All recordings of a folder, as `load_fsdd` finds it, in the order of digits, speakers and numbers."""
    names = ("fsdd", "FSDD", "free-spoken-digit-dataset")
    what = f"{PACKED}, or files such as recordings/7_jackson_32.wav"
    folder = folder_of(WHERE, root, names, lambda place: bool(_files(place)), what)
    files = _files(folder)
    rows = _unpacked(files[0]) if files[0].name == PACKED else [_read(path) for path in files]
    return _speech(rows, files)


def _files(folder: Path) -> list[Path]:
    """What a folder holds of the set: the archive alone, or files of sound in the order of their names."""
    if (folder / PACKED).is_file():
        return [folder / PACKED]
    for place in (folder / "recordings", folder):
        found = sorted(path for path in place.glob("*") if path.suffix.lower() == ".wav" and path.name[0] != ".")
        if found:
            return found
    return []


def _read(path: Path) -> Row:
    named = NAME.fullmatch(path.name)
    if named is None:
        must = "names must be DIGIT_SPEAKER_NUMBER.wav, such as 7_jackson_32.wav"
        raise bad_value(WHERE, must, path.name, "give the file its own name back, or take it out")
    samples, rate = read_wav(path)
    if rate != RATE:
        raise bad_value(f"{WHERE} {path.name}", f"it must have {RATE} samples a second", rate, AGAIN)
    return int(named[1]), named[2], int(named[3]), samples


def _unpacked(path: Path) -> list[Row]:
    """Recordings of an archive: sums of 16-bit differences, that wrap, one after the other."""
    where = f"{WHERE} {path.name}"
    held = read_npz(path, MEMBERS)
    high, low, offsets = held["delta_hi"], held["delta_lo"], held["offsets"]
    numbers = [held[name] for name in ("labels", "speakers", "indices")]
    sound = (
        high.dtype == low.dtype == held["speaker_names"].dtype == np.uint8
        and high.shape == low.shape
        and high.ndim == offsets.ndim == 1
        and len(offsets) > 1
        and all(values.dtype.kind in "iu" for values in (offsets, *numbers))
        and all(values.shape == (len(offsets) - 1,) for values in numbers)
    )
    if not sound or offsets[0] != 0 or offsets[-1] != len(high) or bool((np.diff(offsets.astype(np.int64)) < 1).any()):
        must = "its bytes must be uint8, its offsets rise from 0 to their number, and every recording have its numbers"
        raise bad_value(where, must, ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in held.items()), AGAIN)
    try:
        names = held["speaker_names"].tobytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise bad_value(where, "the names of speakers must be UTF-8", error, AGAIN) from error
    names = [name for name in names if name]
    if int(numbers[1].min()) < 0 or int(numbers[1].max()) >= len(names):
        must = f"speakers must lie in [0, {len(names) - 1}]"
        raise bad_value(where, must, f"{numbers[1].min()} to {numbers[1].max()}", AGAIN)
    samples = np.cumsum(high.astype(np.uint16) << 8 | low, dtype=np.uint16).view(np.int16)
    ends = offsets.astype(np.int64)
    columns = zip(*(values.tolist() for values in numbers), strict=True)
    return [
        (label, names[speaker], number, samples[ends[k] : ends[k + 1]])
        for k, (label, speaker, number) in enumerate(columns)
    ]


def _speech(rows: list[Row], files: list[Path]) -> Speech:
    """Recordings in the order of digits, speakers and numbers, whatever they were read from."""
    rows = sorted(rows, key=lambda row: row[:3])
    keys = [row[:3] for row in rows]
    wrong = [row for row in rows if not 0 <= row[0] < len(CLASSES) or row[2] < 0]
    twice = [one for one, other in itertools.pairwise(keys) if one == other]
    if wrong or twice:
        got = "{}_{}_{}".format(*(wrong[0][:3] if wrong else twice[0]))
        raise bad_value(WHERE, "recordings must be of digits 0 to 9, each with a number of its own", got, AGAIN)
    names = tuple(sorted({row[1] for row in rows}))
    if len({name.lower() for name in names}) < len(names):
        must = "speakers must not differ in capital letters alone: one of them would be tested on, and trained on"
        raise bad_value(WHERE, must, ", ".join(names), "name them alike")
    labels, speakers = (np.array([key(row) for row in rows], np.int64) for key in (_digit, lambda r: names.index(r[1])))
    test = np.array([row[2] < TESTED for row in rows])
    return Speech([row[3] for row in rows], labels, speakers, names, test, RATE, tuple(files))


def _digit(row: Row) -> int:
    return row[0]


FSDD = DATASETS.register("fsdd")(
    Entry(load_fsdd, 0.1, options=(*NAMES, "validation_by", "test_speakers"), groups="speakers")
)
