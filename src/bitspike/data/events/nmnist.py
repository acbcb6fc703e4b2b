"""N-MNIST: handwritten digits before a moving sensor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.event_set import load_events
from bitspike.data.events.options import NAMES, FrameOptions, frames_of
from bitspike.data.events.places import folder_of, numbered
from bitspike.data.events.recording import Recording, recording
from bitspike.data.events.saccades import read_bin
from bitspike.data.events.splits import Pair, frame_splits

WHERE = "load_nmnist"
SIZE = (34, 34)
CLASSES = tuple("0123456789")
PARTS = ("Train", "Test")
SAMPLE = ("nmnist_train1000.npz", "nmnist_test100.npz")


def load_nmnist(
    root: str | os.PathLike[str], validation: int | float = 0.1, seed: int = 0, **options: object
) -> Splits:
    """Load N-MNIST as frames, on its own split.

    Source: Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
    Frontiers in Neuroscience 9:437, 2015. A digit keeps its part of MNIST, so nothing stands on both sides.

    Args:
        root: the folder with ``Train/0/00002.bin`` … and ``Test/``, or with ``nmnist_train1000.npz`` and
            ``nmnist_test100.npz`` (`load_events`), or its parent, where it is called ``nmnist`` or ``N-MNIST``.
        validation: carved from the training recordings; a count or a fraction in (0, 1). seed: of the carving.
        options: of `FrameOptions`: T, size (1 to 34) and the others.

    Returns:
        Splits of ``[N, T, 2, H', W']``, OFF and ON.

    Raises:
        TypeError, ValueError: no such files, a damaged one, or an option that is not allowed.
    """
    chosen = FrameOptions(**options).checked(WHERE, SIZE[0])  # type: ignore[arg-type]
    what = f"{' and '.join(PARTS)} with folders 0 to 9 of .bin files, or {' and '.join(SAMPLE)}"
    folder = folder_of(WHERE, root, ("nmnist", "N-MNIST", "NMNIST"), lambda place: bool(_layout(place)), what)
    if _layout(folder) is SAMPLE:
        pool, test = (_sample(folder / name, chosen) for name in SAMPLE)
    else:
        pool, test = (_pair(_files(folder / part), chosen) for part in PARTS)
    return frame_splits("nmnist", CLASSES, pool, test, validation, seed)


def _layout(folder: Path) -> tuple[str, ...]:
    """Which of the two forms a folder has; an empty tuple for neither."""
    if all((folder / part / digit).is_dir() for part in PARTS for digit in CLASSES):
        return PARTS
    return SAMPLE if all((folder / name).is_file() for name in SAMPLE) else ()


def _files(folder: Path) -> list[tuple[Path, int]]:
    return [(path, int(digit)) for digit in CLASSES for _, path in numbered(WHERE, folder / digit, (".bin",))]


def _pair(files: list[tuple[Path, int]], options: FrameOptions) -> Pair:
    def read() -> Iterator[tuple[Recording, int]]:
        for path, label in files:
            yield read_bin(path, SIZE, options.faults), label

    return frames_of(WHERE, options, [path for path, _ in files], read, SIZE)


def _sample(path: Path, options: FrameOptions) -> Pair:
    def read() -> Iterator[tuple[Recording, int]]:
        data = load_events(path, SIZE, len(CLASSES))
        x, y, p, t = (member.numpy() for member in (data.x, data.y, data.p, data.time_us))
        for number, label in enumerate(data.labels.tolist()):
            at = slice(int(data.offsets[number]), int(data.offsets[number + 1]))
            one = f"{WHERE} {path} ({number})"
            yield recording(one, t[at], x[at], y[at], p[at], SIZE, options.faults), int(label)

    return frames_of(WHERE, options, [path], read, SIZE)


NMNIST = DATASETS.register("nmnist")(Entry(load_nmnist, 0.1, options=NAMES))
