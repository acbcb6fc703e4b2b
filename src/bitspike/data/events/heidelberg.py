"""Spiking Heidelberg Digits as a set: the digits 0 to 9 in English and in German."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.options import NAMES, FrameOptions, frames_of
from bitspike.data.events.places import folder_of
from bitspike.data.events.recording import Recording
from bitspike.data.events.shd import CHANNELS, read_shd
from bitspike.data.events.splits import Pair, frame_splits

WHERE = "load_shd"
FILES = ("shd_train.h5", "shd_test.h5")
CLASSES = tuple(
    """zero one two three four five six seven eight nine
    null eins zwei drei vier fünf sechs sieben acht neun""".split()
)


def load_shd(
    root: str | os.PathLike[str],
    validation: int | float = 0.1,
    seed: int = 0,
    T: int = 100,
    validation_by: str | None = None,
    **options: object,
) -> Splits:
    """Load Spiking Heidelberg Digits, spikes counted per step and channel, on its own split.

    Two of the twelve speakers are heard in the test part alone, the others in both parts. The validation part is carved
    from the training recordings by speaker where the files say who speaks, else at random.

    Source: Cramer et al., "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural Networks",
    IEEE TNNLS 33(7), 2022.

    Args:
        root: the folder with ``shd_train.h5`` and ``shd_test.h5``, or its parent, where it is called ``shd``, ``SHD``.
        validation: carved from the training recordings; a count or a fraction in (0, 1), met as nearly as whole
            speakers can. seed: of the carving. validation_by: "group" (speakers) or "class"; None: as said above.
        T: steps. options: of `FrameOptions`: size (channels, 1 to 700: neighbours are added up) and the others.

    Returns:
        Splits of ``[N, T, channels]``.

    Raises:
        ImportError: h5py is not installed (``bitspike[events]``).
        TypeError, ValueError: no such files, a damaged one, or an option that is not allowed.
    """
    chosen = FrameOptions(T, **options).checked(WHERE, CHANNELS)  # type: ignore[arg-type]
    names = " and ".join(FILES)
    folder = folder_of(
        WHERE, root, ("shd", "SHD"), lambda place: all((place / name).is_file() for name in FILES), names
    )
    pool, test = (_pair(folder / name, chosen) for name in FILES)
    return frame_splits("shd", CLASSES, pool, test, validation, seed, validation_by, "speakers")


def _pair(path: Path, options: FrameOptions) -> Pair:
    def read() -> Iterator[tuple[Recording, int, int]]:
        for one in read_shd(path, options.faults):
            if not 0 <= one.label < len(CLASSES):
                raise bad_value(WHERE, f"labels must lie in [0, {len(CLASSES) - 1}]", one.label, "copy the file again")
            yield one.events, one.label, one.speaker

    frames, labels, speakers = frames_of(WHERE, options, [path], read, (1, CHANNELS), channels=1)
    return frames[:, :, 0, 0], labels, speakers


SHD = DATASETS.register("shd")(Entry(load_shd, 0.1, options=(*NAMES, "validation_by"), groups="speakers"))
