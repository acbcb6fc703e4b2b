"""Data sets that look like tonic's: the frames of our own readers, and what would be silently wrong is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import event_sets
from bitspike.data import load
from bitspike.data.events import count_frames, from_tonic, recording
from bitspike.data.python_source import read_source

FIELDS = {"x": np.int16, "y": np.int16, "t": np.int64, "p": bool}


class Set(list[Any]):
    """As a data set of tonic: items (events, target), and what it says of itself."""

    def __init__(self, items: Any, sensor: Any = (6, 4, 2), classes: Any = None, **more: Any) -> None:
        super().__init__(items)
        self.sensor_size = sensor
        self.__dict__ |= more
        if classes is not None:
            self.classes = classes


def events(seed: int, count: int = 50, height: int = 4, names: str = "xytp") -> np.ndarray:
    draw = np.random.default_rng(seed)
    found = np.zeros(count, [(name, FIELDS[name]) for name in names])
    values = {"t": np.sort(draw.integers(0, 9000, count)), "x": draw.integers(0, 6, count)}
    values |= {"y": draw.integers(0, height, count), "p": draw.integers(0, 2, count)}
    for name in names:
        found[name] = values[name]
    return found


@pytest.mark.parametrize("names", ["xytp", "txyp", "ptyx"])
def test_frames_are_those_of_a_recording(names: str) -> None:
    rows = [events(k, names=names) for k in range(6)]
    found = from_tonic(Set((e, k % 3) for k, e in enumerate(rows)), T=5, by="count")
    for frames, e in zip(found["x_train"], rows, strict=True):  # type: ignore[call-overload]
        ours = recording("e", e["t"], e["x"], e["y"], e["p"], (4, 6))
        np.testing.assert_array_equal(frames, count_frames(ours, 5, "count"))
    assert found["classes"] == ("0", "1", "2") and found["time"] is True
    assert found["y_train"].tolist() == [0, 1, 2, 0, 1, 2]  # type: ignore[attr-defined]


def test_sensors_of_one_row_and_one_polarity() -> None:
    """Of P = 1 all events are one channel, whatever p says."""
    e = events(0, height=1, names="txp")
    found = from_tonic(Set([(e, 0), (events(1, height=1, names="txp"), 1)], (6, 1, 1)), T=3)
    x: Any = found["x_train"]
    assert x.shape == (2, 3, 1, 1, 6) and x[0].sum() == len(e)


def test_both_parts_are_of_one_type_and_a_source_takes_them() -> None:
    busy = np.concatenate([events(9)] * 600)
    busy["x"], busy["y"], busy["t"] = 0, 0, np.sort(busy["t"])
    train = Set(((events(k), k % 2) for k in range(20)), classes=["a", "b", "c"])
    test = Set([(busy, 1), (events(77), 0)])
    splits = read_source("own:set", lambda root=None: from_tonic(train, test, T=4), None, 0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [16, 4, 2]
    assert splits.train.images.dtype == splits.test.images.dtype and splits.train.classes == ("a", "b", "c")
    assert int(splits.test.images.max()) > 255


def test_empty_recordings_take_their_targets_along() -> None:
    rows = Set([(events(0), 2), (events(0, 0), 1), (events(1), 0)])
    with pytest.raises(ValueError, match=r"from_tonic train \(1\): a recording must hold at least one event"):
        from_tonic(rows, T=2)
    with pytest.warns(UserWarning, match="1 empty recordings"):
        found = from_tonic(rows, T=2, faults="skip")
    assert found["y_train"].tolist() == [2, 0]  # type: ignore[attr-defined]


def test_targets_that_are_names() -> None:
    train, test = Set([(events(0), "cup"), (events(1), "ant")]), Set([(events(2), "bee")])
    found = from_tonic(train, test, T=2)
    assert found["classes"] == ("ant", "bee", "cup")
    assert [found[f"y_{part}"].tolist() for part in ("train", "test")] == [[2, 0], [1]]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="classes must hold every target, got none 'bee'"):
        from_tonic(train, test, T=2, classes=("ant", "cup"))


def changed(name: str, value: Any) -> np.ndarray:
    found = events(0).astype([(n, np.int64) for n in "xytp"])
    found[name][3] = value
    return found


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], type[Exception], str]] = {
    "transform": (lambda: Set([(events(0), 0)], transform=len), {}, ValueError, "it would run once"),
    "frames": (lambda: Set([(np.zeros((3, 2, 4, 6)), 0)]), {}, TypeError, "ndarray with no fields"),
    "no y": (lambda: Set([(events(0, names="txp"), 0)]), {}, TypeError, "structured array with y"),
    "outside": (lambda: Set([(changed("x", 6), 0)]), {}, ValueError, "pixels must lie in the sensor"),
    "signs": (lambda: Set([(changed("p", -1), 0)]), {}, ValueError, "write p > 0 where OFF is -1"),
    "order": (lambda: Set([(changed("t", 10**6), 0)]), {}, ValueError, "times must not decrease"),
    "no size": (lambda: Set([(events(0), 0)], None), {}, ValueError, "pass size="),
    "sensor": (lambda: Set([(events(0), 0)], (6, 4, 3)), {}, ValueError, "1 or 2"),
    "boxes": (lambda: Set([(events(0), np.zeros(4))]), {}, TypeError, "the number or the name of a class"),
    "numbers": (lambda: Set([(events(0), 0.5)]), {}, TypeError, "the number or the name of a class"),
    "below": (lambda: Set([(events(0), -1)]), {}, ValueError, "targets must lie in"),
    "beyond": (lambda: Set([(events(0), 2)]), {"classes": ("a", "b")}, ValueError, r"targets must lie in \[0, 1\]"),
    "item": (lambda: Set([events(0)]), {}, TypeError, r"an item must be \(events, target\)"),
    "nothing": (lambda: Set([]), {}, ValueError, "must have recordings"),
    "no set": (lambda: iter([(events(0), 0)]), {}, TypeError, "a length and items"),
    "cache": (lambda: Set([(events(0), 0)]), {"cache": "here"}, ValueError, "cache must be left out"),
    "option": (lambda: Set([(events(0), 0)]), {"by": "chance"}, ValueError, "by"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_is_refused(name: str) -> None:
    make, options, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        from_tonic(make(), **{"T": 2, **options})


def test_two_sensors_are_refused_and_steady_transforms_taken() -> None:
    with pytest.raises(ValueError, match="both sets must have one sensor"):
        from_tonic(Set([(events(0), 0)]), Set([(events(1), 0)], (7, 4, 2)), T=2)
    steady = Set([(events(0), 0)], transform=len)
    plain = Set([(events(0), 0)])
    found, expected = from_tonic(steady, T=2, steady=True), from_tonic(plain, T=2)
    np.testing.assert_array_equal(found["x_train"], expected["x_train"])  # type: ignore[arg-type]


def test_tonic_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader of N-MNIST gives the frames of ours."""
    tonic = pytest.importorskip("tonic", reason="not run: tonic is not installed")
    event_sets.nmnist(tmp_path)
    (tmp_path / "nmnist").rename(tmp_path / "NMNIST")
    monkeypatch.setattr(tonic.datasets.NMNIST, "_check_exists", lambda self: True)
    parts = [tonic.datasets.NMNIST(str(tmp_path), train=train) for train in (True, False)]
    found = from_tonic(*parts, T=6, by="count")
    ours = load("nmnist", tmp_path, validation=1, T=6, by="count")
    trained = [*ours.train.images, *ours.validation.images]
    for got, expected in (("x_train", trained), ("x_test", ours.test.images)):
        rows: Any = found[got]
        assert sorted(x.tobytes() for x in rows) == sorted(x.numpy().tobytes() for x in expected)
    assert found["y_train"].tolist() == sorted(found["y_train"]) and found["classes"][3] == "3 - three"  # type: ignore
