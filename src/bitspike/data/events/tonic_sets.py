"""Data sets of the package tonic, which is never imported here: what they give is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bitspike.checks import bad_type, bad_value
from bitspike.data.events.options import FrameOptions, frames_of
from bitspike.data.events.recording import LARGEST_SIDE, Recording, recording

WHERE = "from_tonic"
_TRANSFORMS = ("transform", "target_transform", "transforms")


def from_tonic(
    train: Any,
    test: Any = None,
    *,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    steady: bool = False,
    **options: object,
) -> dict[str, object]:
    """Frames and labels of data sets of tonic, as a `bitspike.data.source` returns them.

    A data set is anything with a length whose item i is (events, target): events a structured array with the fields t
    (microseconds), x, p and, unless the sensor has one row, y; target a class. Recordings are framed here, not by
    tonic, so that options, filters and checks are those of every other set.

    Args:
        train, test: sets without transforms; without a test set a part is carved from the training set.
        size: (H, W) of the sensor; None: from the set's ``sensor_size`` (W, H, P). With P = 1 frames have one channel,
            which counts all events; else two, OFF and ON.
        classes: names in the order of the targets, or all targets where these are names themselves; None: the set's
            own ``classes`` where they fit, else the names that stand there, sorted, or the numbers 0 to the greatest.
        steady: the sets' transforms give the same at every call and leave events; other ones would be frozen here.
        options: of `FrameOptions`, without cache: what a set was made of is not known here.

    Returns:
        "x_train" ``[N, T, C, H', W']``, "y_train" int64 ``[N]``, of test the same, "time" and "classes".

    Raises:
        TypeError: items or targets of another kind. ValueError: transforms, a size that is not known, faulty events,
            targets that no class has, or an option that is not allowed.

    >>> class Toy(list): sensor_size = (2, 1, 1)
    >>> events = np.array([(0, 0, 1), (9, 1, 1)], [("t", int), ("x", int), ("p", int)])
    >>> found = from_tonic(Toy([(events, 0), (events, 1)]), T=2)
    >>> found["x_train"][0].ravel().tolist(), found["classes"]
    ([1, 0, 0, 1], ('0', '1'))
    """
    if options.get("cache") is not None:
        raise bad_value(WHERE, "cache must be left out", repr(options["cache"]), "keep what comes out in an npz file")
    sets = {"train": train} if test is None else {"train": train, "test": test}
    sensors = {part: _sensor(part, data, size, steady) for part, data in sets.items()}
    if len(set(sensors.values())) > 1:
        raise bad_value(WHERE, "both sets must have one sensor", f"{sensors}", "pass the sets of one recording")
    (height, width), channels = sensors["train"]
    chosen = FrameOptions(**options).checked(WHERE, max(height, width))  # type: ignore[arg-type]
    targets: dict[str, list[Any]] = {part: [] for part in sets}
    frames = {}
    for part, data in sets.items():
        frames[part], rows, _ = frames_of(
            f"{WHERE} {part}",
            chosen,
            [],
            lambda part=part, data=data: _read(part, data, (height, width), channels, chosen.faults, targets[part]),  # type: ignore[misc]
            (height, width),
            channels,
        )
        targets[part] = [targets[part][row] for row in rows]  # of empty recordings that were dropped there are none
    kind = np.result_type(*{x.dtype for x in frames.values()})
    names, labels = _labels(targets, classes, getattr(train, "classes", None))
    found: dict[str, object] = {"time": True, "classes": names}
    for part, x in frames.items():
        found |= {f"x_{part}": x.astype(kind, copy=False), f"y_{part}": labels[part]}
    return found


def _sensor(part: str, data: Any, size: tuple[int, int] | None, steady: bool) -> tuple[tuple[int, int], int]:
    """((H, W), channels) of a set."""
    where = f"{WHERE} {part}"
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        must = "a set must have a length and items (events, target)"
        raise bad_type(where, must, type(data).__name__, "pass e.g. tonic.datasets.NMNIST(folder)")
    if not len(data):
        raise bad_value(where, "a set must have recordings", "none", "pass the right folder")
    for name in _TRANSFORMS:
        if getattr(data, name, None) is not None and not steady:
            must = f"{name} must be left out: it would run once, and frames are made here"
            todo = "use the options here and [data.event_augment], or pass steady=True where it always gives the same"
            raise bad_value(where, must, repr(getattr(data, name)), todo)
    given = getattr(data, "sensor_size", None)
    if given is None and size is None:
        raise bad_value(where, "size must be given where the set has no sensor_size", "neither", "pass size=(H, W)")
    if given is None:
        return size, 2  # type: ignore[return-value]
    if len(given) != 3 or given[2] not in (1, 2) or not all(1 <= side <= LARGEST_SIDE for side in given[:2]):
        raise bad_value(where, "sensor_size must be (W, H, 1 or 2)", repr(given), "pass a set of events")
    return size or (int(given[1]), int(given[0])), int(given[2])


def _read(
    part: str, data: Any, size: tuple[int, int], channels: int, faults: str, targets: list[Any]
) -> Iterator[tuple[Recording, int]]:
    """Recordings and their own numbers; the target of each is put down."""
    for number in range(len(data)):
        where, item = f"{WHERE} {part} ({number})", data[number]
        if not isinstance(item, tuple) or len(item) != 2:
            raise bad_type(where, "an item must be (events, target)", type(item).__name__, "pass a set of tonic")
        events, target = item
        names = getattr(getattr(events, "dtype", None), "names", None) or ()
        lacking = [name for name in ("t", "x", "p", *(["y"] if size[0] > 1 else [])) if name not in names]
        if lacking:
            got = f"{type(events).__name__} with {', '.join(names) or 'no fields'}"
            must = f"events must be a structured array with {', '.join(lacking)}"
            raise bad_type(where, must, got, "leave out transforms that make frames")
        y = events["y"] if "y" in names else np.zeros(len(events), np.int64)
        on = np.ones(len(events), bool) if channels == 1 else events["p"]
        targets.append(target)
        yield recording(where, events["t"], events["x"], y, on, size, faults), number


def _labels(
    targets: dict[str, list[Any]], classes: Sequence[str] | None, own: Any
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the classes, and the labels of each part."""
    every = [target for part in targets.values() for target in part]
    if all(isinstance(target, str) for target in every):
        names = tuple(classes) if classes is not None else tuple(sorted(set(every)))
        unknown = sorted(set(every) - set(names))
        if unknown:
            raise bad_value(WHERE, "classes must hold every target", f"none {unknown[0]!r}", "add it")
        return names, {part: np.array([names.index(one) for one in rows]) for part, rows in targets.items()}
    wrong = [one for one in every if isinstance(one, bool) or np.ndim(one) or np.asarray(one).dtype.kind not in "iu"]
    if wrong:
        got = f"{type(wrong[0]).__name__} {wrong[0]!r:.60}"
        raise bad_type(WHERE, "a target must be the number or the name of a class", got, "write a source of your own")
    most = max(int(one) for one in every)
    if classes is None and own is not None and len(own) > most and all(isinstance(name, str) for name in own):
        classes = own
    names = tuple(map(str, range(most + 1))) if classes is None else tuple(classes)
    if most >= len(names) or min(int(one) for one in every) < 0:
        got = f"{min(int(one) for one in every)} to {most}"
        raise bad_value(WHERE, f"targets must lie in [0, {len(names) - 1}]", got, "pass a name for each class")
    return names, {part: np.array([int(one) for one in rows], dtype=np.int64) for part, rows in targets.items()}
