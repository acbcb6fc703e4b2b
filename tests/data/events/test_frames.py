"""Frames against their definitions, event by event; the cache; nothing counted in another place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.data.array_cache import cached
from bitspike.data.events import Recording, count_frames, recording, time_surface, voxel_grid
from bitspike.data.events.frames import smallest


@st.composite
def cases(draw: st.DrawFn) -> tuple[Recording, int, dict[str, Any], tuple[int, int] | None]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, height, width = draw(st.integers(0, 60)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    t = np.sort(rng.integers(0, draw(st.integers(1, 300)), count))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    events = recording("toy", t, x, y, rng.integers(0, 2, count), (height, width), "skip")
    how = draw(
        st.sampled_from(
            [{"by": "count"}, {"by": "time"}, {"step_us": 7}, {"step_us": 50, "start_us": 40}, {"step_us": 1000}]
        )
    )
    size = draw(st.none() | st.tuples(st.integers(1, height), st.integers(1, width)))
    return events, draw(st.integers(1, 9)), how, size


def step_by_hand(events: Recording, i: int, T: int, how: dict[str, Any]) -> int:
    t = int(events.t[i])
    if how.get("by") == "count":
        return i * T // len(events)
    if "step_us" in how:
        return (t - how.get("start_us", 0)) // int(how["step_us"])
    first, last = int(events.t[0]), int(events.t[-1])
    return (t - first) * T // (last - first + 1)


def spot(events: Recording, i: int, size: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = size or events.size
    return int(events.y[i]) * rows // events.size[0], int(events.x[i]) * columns // events.size[1]


@given(cases(), st.sampled_from([1, 2]))
def test_counts(case: Any, channels: int) -> None:
    events, T, how, size = case
    wanted = np.zeros((T, channels, *(size or events.size)), np.int64)
    for i in range(len(events)):
        k = step_by_hand(events, i, T, how)
        if 0 <= k < T:
            p = int(events.p[i])
            wanted[(k, p if channels == 2 else 0, *spot(events, i, size))] += 1 if channels == 2 or p else -1
    found = count_frames(events, T, size=size, channels=channels, **how)
    assert found.dtype == np.int32 and np.array_equal(found, wanted)
    if "step_us" not in how and channels == 2:
        assert found.sum() == len(events)  # nothing is lost


@given(cases(), st.sampled_from([3.0, 100.0]))
def test_time_surfaces(case: Any, tau: float) -> None:
    events, T, how, size = case
    wanted = np.zeros((T, 2, *(size or events.size)))
    for k in range(T):
        before = [i for i in range(len(events)) if 0 <= step_by_hand(events, i, T, how) <= k]
        if "step_us" in how:
            end = how.get("start_us", 0) + (k + 1) * how["step_us"]
        elif how["by"] == "time" and len(events):
            end = events.t[0] + (k + 1) * (events.t[-1] - events.t[0] + 1) / T
        else:
            end = events.t[before[-1]] if before else 0
        for i in before:  # a later one overwrites
            wanted[(k, int(events.p[i]), *spot(events, i, size))] = math.exp((events.t[i] - end) / tau)
    found = time_surface(events, T, tau, size=size, **how)
    assert found.dtype == np.float32 and np.allclose(found, wanted, rtol=1e-6, atol=1e-12)
    assert found.size == 0 or (found.min() >= 0 and found.max() <= 1)


@given(cases(), st.sampled_from([1, 2]))
def test_voxel_grids(case: Any, channels: int) -> None:
    events, T, _, size = case
    wanted = np.zeros((T, channels, *(size or events.size)))
    for i in range(len(events)):
        span = max(int(events.t[-1] - events.t[0]), 1)
        moment = (T - 1) * int(events.t[i] - events.t[0]) / span
        p = int(events.p[i])
        for k in range(T):
            share = max(0.0, 1 - abs(k - moment))
            wanted[(k, p if channels == 2 else 0, *spot(events, i, size))] += share if channels == 2 or p else -share
    found = voxel_grid(events, T, size=size, channels=channels)
    assert found.dtype == np.float32 and np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"T": 0}, r"T must lie in \[1, 100000\]"),
        ({"T": True}, "T must be an int"),
        ({"by": "events"}, "by must be one of 'time', 'count'"),
        ({"by": "count", "step_us": 5}, "for steps of one duration only"),
        ({"start_us": 5}, "for steps of one duration only"),
        ({"step_us": 0}, "step_us must lie"),
        ({"step_us": 5, "start_us": -1}, "start_us must lie"),
        ({"size": (4, 3)}, r"the height of frames must lie in \[1, 3\]"),
        ({"size": (3, 6)}, r"the width of frames must lie in \[1, 5\]"),
        ({"size": [3, 3]}, r"size must be \(H, W\)"),
        ({"channels": 3}, "channels must be one of 1, 2"),
        ({"T": 100_000, "size": None}, None),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str | None) -> None:
    at = np.zeros(2, np.uint16)
    events = Recording(np.array([0, 9]), at, at, at > 0, (3, 5))
    if words is None:
        assert count_frames(events, **arguments).sum() == 2
        return
    with pytest.raises((TypeError, ValueError), match=f"count_frames: .*{words}"):
        count_frames(events, **{"T": 4, **arguments})


def test_frames_beyond_memory_are_refused() -> None:
    at = np.zeros(2, np.uint16)
    events = Recording(np.array([0, 9]), at, at, at > 0, (1000, 1000))
    for make in (count_frames, voxel_grid, lambda e, T: time_surface(e, T, 1.0)):
        with pytest.raises(ValueError, match=r"at most 2\^31 numbers"):
            make(events, 50_000)
    with pytest.raises(ValueError, match="tau_us must be positive"):
        time_surface(events, 1, 0.0)
    far = Recording(np.array([0, 2**61]), at, at, at > 0, (1, 1))
    with pytest.raises(ValueError, match="must be shorter"):
        count_frames(far, 4)


def test_smallest_keeps_every_value() -> None:
    for low, high, kind in ((0, 256, "int16"), (-5, 40000, "int32"), (0, 0, "uint8"), (0, 40000, "int32")):
        held = np.array([low, high], np.int32)
        assert smallest(held).dtype == kind and np.array_equal(smallest(held), held)
    with pytest.raises(ValueError, match="must fit into 32 bits"):
        smallest(np.array([2**31]))


def test_cache(tmp_path: Path) -> None:
    source, calls = tmp_path / "events", []
    source.write_bytes(b"one")

    def make() -> np.ndarray:
        calls.append(source.read_bytes())
        return np.arange(6, dtype=np.int16).reshape(2, 3)

    def ask(folder: Path | None = tmp_path / "a" / "b", **settings: Any) -> np.ndarray:
        return cached(folder, settings, [source], make)

    for _ in range(2):
        found = ask(T=1)
        assert found.dtype == np.int16 and found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(calls) == 1
    ask(T=2)
    assert len(calls) == 2
    source.write_bytes(b"two")  # another file of the same name
    ask(T=1)
    assert len(calls) == 3
    ask(None, T=1)
    assert len(calls) == 4
    kept = sorted((tmp_path / "a" / "b").iterdir())
    assert len(kept) == 3 and all(path.suffix == ".frames" for path in kept)  # no temporary file is left
    for path in kept:
        held = bytearray(path.read_bytes())
        held[-1] ^= 1
        path.write_bytes(bytes(held) if path != kept[0] else b"")
    assert ask(T=2).tolist() == [[0, 1, 2], [3, 4, 5]] and ask(T=1).dtype == np.int16 and len(calls) == 6
    assert ask(T=1) is not None and len(calls) == 6  # mended
    with pytest.raises(ValueError, match="must be a folder"):
        ask(source)
