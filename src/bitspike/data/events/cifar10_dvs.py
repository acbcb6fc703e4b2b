"""CIFAR10-DVS: pictures of CIFAR-10 that move on a screen before a DVS128."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.aedat2 import read_aedat2
from bitspike.data.events.aedat4 import read_aedat4
from bitspike.data.events.options import NAMES, FrameOptions, frames_of
from bitspike.data.events.places import folder_of, numbered
from bitspike.data.events.recording import Recording
from bitspike.data.events.splits import Pair, frame_splits

WHERE = "load_cifar10_dvs"
SIZE = (128, 128)
CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
SUFFIXES = (".aedat", ".aedat4")
FIRST_TEST = 900
"""Recordings of a class are numbered 0 to 999; from this number on they are tested on."""

TEST_DIGEST = "f0377e73178a465f346fa4f238fc7ae984c76199c952178e6c945c9989420146"
"""`names_digest` of the 1,000 test recordings, written ``class/number``."""


def load_cifar10_dvs(
    root: str | os.PathLike[str], validation: int | float = 0.1, seed: int = 0, **options: object
) -> Splits:
    """Load CIFAR10-DVS as frames; of every class the recordings 900 to 999 are the test part.

    The set has no split of its own. Papers commonly take the first nine tenths of each class for training, as here; the
    rule looks at a recording's number alone, so a missing file moves no other one.

    Source: Li et al., "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", Frontiers in Neuroscience
    11:309, 2017. Polarity and axes are those of the reader that its authors name (dat2mat): ON is a cleared bit 0, and
    the picture's column is 127 minus the sensor's row, its row 127 minus the sensor's column.

    Args:
        root: the folder with ``airplane/cifar10_airplane_0.aedat`` …, or its parent, where it is called
            ``cifar10_dvs`` or ``CIFAR10DVS``. Files may be ``.aedat4`` (converted by others; taken as they are).
        validation: carved from the training recordings; a count or a fraction in (0, 1). seed: of the carving.
        options: of `FrameOptions`: T, size (1 to 128; 48 is common) and the others.

    Returns:
        Splits of ``[N, T, 2, H', W']``, OFF and ON.

    Raises:
        TypeError, ValueError: no such files, a damaged one, or an option that is not allowed.
    """
    chosen = FrameOptions(**options).checked(WHERE, SIZE[0])  # type: ignore[arg-type]
    folder = folder_of(
        WHERE,
        root,
        ("cifar10_dvs", "CIFAR10DVS", "CIFAR10-DVS"),
        lambda place: all((place / name).is_dir() for name in CLASSES),
        f"folders {', '.join(CLASSES)}",
    )
    files = [
        (path, label, number >= FIRST_TEST)
        for label, name in enumerate(CLASSES)
        for number, path in numbered(WHERE, folder / name, SUFFIXES)
    ]
    pool, test = (_pair([file[:2] for file in files if file[2] is part], chosen) for part in (False, True))
    return frame_splits("cifar10_dvs", CLASSES, pool, test, validation, seed)


def held_out() -> Iterator[str]:
    """The test recordings of the whole set."""
    return (f"{name}/{number}" for name in CLASSES for number in range(FIRST_TEST, 1000))


def _read(path: Path, faults: str) -> Recording:
    """One recording, turned as a picture stands."""
    if path.suffix.lower() == ".aedat4":
        return read_aedat4(path, SIZE, faults)
    held = read_aedat2(path, "dvs128", SIZE, faults)
    return Recording(held.t, 127 - held.y, 127 - held.x, held.p, SIZE, held.skipped)


def _pair(files: list[tuple[Path, int]], options: FrameOptions) -> Pair:
    def read() -> Iterator[tuple[Recording, int]]:
        for path, label in files:
            yield _read(path, options.faults), label

    return frames_of(WHERE, options, [path for path, _ in files], read, SIZE)


CIFAR10_DVS = DATASETS.register("cifar10_dvs")(Entry(load_cifar10_dvs, 0.1, options=NAMES))
