"""N-Caltech101: photographs of objects before a moving sensor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.options import NAMES, FrameOptions, frames_of
from bitspike.data.events.places import folder_of, numbered
from bitspike.data.events.recording import Recording
from bitspike.data.events.saccades import read_bin
from bitspike.data.events.splits import Pair, frame_splits

WHERE = "load_ncaltech101"
SIZE = (180, 240)
TENTH = 10
"""Recordings whose number is a multiple of this are tested on."""


def load_ncaltech101(
    root: str | os.PathLike[str], validation: int | float = 0.1, seed: int = 0, **options: object
) -> Splits:
    """Load N-Caltech101 as frames; of every class the recordings 10, 20, 30, … are the test part.

    The set has no split of its own; this one looks at a recording's number alone, so a missing file moves no other one.
    Recordings are smaller than the sensor of 180×240 and stand in its corner of (0, 0).

    Source: Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
    Frontiers in Neuroscience 9:437, 2015.

    Args:
        root: the folder with one folder a class of ``image_0001.bin`` …, or its parent, where it is called
            ``Caltech101``, ``ncaltech101`` or ``N-Caltech101``. Classes are the folders that hold such files, by name.
        validation: carved from the training recordings; a count or a fraction in (0, 1). seed: of the carving.
        options: of `FrameOptions`: T, size (1 to 180, both sides) and the others.

    Returns:
        Splits of ``[N, T, 2, H', W']``, OFF and ON.

    Raises:
        TypeError, ValueError: no such files, a damaged one, a class without training or test recordings, or an option
            that is not allowed.
    """
    chosen = FrameOptions(**options).checked(WHERE, SIZE[0])  # type: ignore[arg-type]
    names = ("Caltech101", "ncaltech101", "N-Caltech101", "ncaltech101/Caltech101", "N-Caltech101/Caltech101")
    folder = folder_of(WHERE, root, names, lambda place: bool(_classes(place)), "folders of image_0001.bin, ...")
    classes = _classes(folder)
    files = [
        (path, label, number % TENTH == 0)
        for label, name in enumerate(classes)
        for number, path in numbered(WHERE, folder / name, (".bin",))
    ]
    for part in (False, True):
        missing = sorted({*range(len(classes))} - {label for _, label, tested in files if tested is part})
        if missing:
            must = f"every class must have {'test' if part else 'training'} recordings"
            got = f"none of {', '.join(classes[label] for label in missing[:3])}"
            raise bad_value(WHERE, must, got, "add its files, or remove its folder")
    pool, test = (_pair([file[:2] for file in files if file[2] is part], chosen) for part in (False, True))
    return frame_splits("ncaltech101", classes, pool, test, validation, seed)


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("image_*.bin"))))


def _pair(files: list[tuple[Path, int]], options: FrameOptions) -> Pair:
    def read() -> Iterator[tuple[Recording, int]]:
        for path, label in files:
            yield read_bin(path, SIZE, options.faults), label

    return frames_of(WHERE, options, [path for path, _ in files], read, SIZE)


NCALTECH101 = DATASETS.register("ncaltech101")(Entry(load_ncaltech101, 0.1, options=NAMES))
