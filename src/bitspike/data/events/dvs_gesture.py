"""DVS128 Gesture: eleven gestures of 29 persons."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events.aedat3 import read_aedat3, read_trials
from bitspike.data.events.options import NAMES, FrameOptions, frames_of
from bitspike.data.events.places import folder_of
from bitspike.data.events.raw import opened
from bitspike.data.events.recording import Recording, added
from bitspike.data.events.splits import Pair, frame_splits
from bitspike.data.group_split import apart

WHERE = "load_dvs_gesture"
SIZE = (128, 128)
LISTS = ("trials_to_train.txt", "trials_to_test.txt")
CLASSES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise"),
    *("left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)


def load_dvs_gesture(
    root: str | os.PathLike[str],
    validation: int | float = 0.1,
    seed: int = 0,
    validation_by: str | None = None,
    **options: object,
) -> Splits:
    """Load DVS128 Gesture as frames, on its own split, which is by person (checked).

    Each file holds the trials of one person and light; a trial is what lies between the times in the table beside it.
    So is the validation part, which is carved from the training trials, unless ``validation_by`` is "class": then it
    shares persons with them, and a network is likely to do better on it than on the test part.

    Source: Amir et al., "A Low Power, Fully Event-Based Gesture Recognition System", CVPR 2017.

    Args:
        root: the folder with ``trials_to_train.txt``, ``trials_to_test.txt``, the ``user*.aedat`` files that they name
            and ``user*_labels.csv``, or its parent, where it is called ``dvs_gesture`` or ``DvsGesture``.
        validation: carved from the training trials; a count or a fraction in (0, 1), met as nearly as whole persons
            can. seed: of the carving. validation_by: "group" (persons), which is the default, or "class".
        options: of `FrameOptions`: T, size (1 to 128) and the others.

    Returns:
        Splits of ``[N, T, 2, H', W']``, OFF and ON.

    Raises:
        TypeError, ValueError: no such files, a damaged one, a person in both parts, or an option that is not allowed.
    """
    chosen = FrameOptions(**options).checked(WHERE, SIZE[0])  # type: ignore[arg-type]
    folder = folder_of(
        WHERE,
        root,
        ("dvs_gesture", "DvsGesture", "DVSGesture"),
        lambda place: all((place / name).is_file() for name in LISTS),
        " and ".join(LISTS),
    )
    names = [_listed(folder / name) for name in LISTS]
    train, held = ([name.partition("_")[0] for name in part] for part in names)
    apart(WHERE, train, held, "persons")
    pool, test = (_pair([folder / name for name in part], chosen) for part in names)
    return frame_splits("dvs_gesture", CLASSES, pool, test, validation, seed, validation_by, "persons")


def _listed(path: Path) -> list[str]:
    """Names of files, one a line."""
    with opened(WHERE, path) as file:
        names = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if not names or len(set(names)) < len(names) or any("/" in name or "\\" in name for name in names):
        raise bad_value(WHERE, f"{path.name} must name files, each once", names[:3], "copy it again from its source")
    return names


def _pair(files: list[Path], options: FrameOptions) -> Pair:
    tables = [path.with_name(f"{path.stem}_labels.csv") for path in files]

    persons = [path.name.partition("_")[0] for path in files]
    numbers = {name: number for number, name in enumerate(sorted(set(persons)))}

    def read() -> Iterator[tuple[Recording, int, int]]:
        for path, table, person in zip(files, tables, persons, strict=True):
            events = read_aedat3(path, SIZE, options.faults)
            skipped = events.skipped
            for trial in read_trials(table, len(CLASSES)):
                part = events.between(trial.start_us, trial.end_us)
                if not len(part):
                    if options.faults == "error":
                        must = f"trial {trial.label} of {path.name} must hold events"
                        raise bad_value(WHERE, must, "none", "copy both files again, or set faults='skip'")
                    skipped = added(skipped, {"empty": 1})
                yield Recording(part.t, part.x, part.y, part.p, SIZE, skipped), trial.label - 1, numbers[person]
                skipped = {}

    for path in (*files, *tables):
        with opened(WHERE, path):
            pass
    return frames_of(WHERE, options, [*files, *tables], read, SIZE)


DVS_GESTURE = DATASETS.register("dvs_gesture")(
    Entry(load_dvs_gesture, 0.1, options=(*NAMES, "validation_by"), groups="persons")
)
