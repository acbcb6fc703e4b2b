"""Recordings: every fault is an error or is left out and counted, never a wrong number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.data.events import Recording, recording, unwrap

GOOD = {"t": [0, 3, 3, 9], "x": [0, 4, 1, 2], "y": [0, 2, 1, 1], "p": [1, 0, 0, 1]}


def make(faults: str = "error", wraps: int | None = None, **change: Any) -> Recording:
    arrays = {name: np.asarray(change.get(name, values)) for name, values in GOOD.items()}
    return recording("toy", **arrays, size=(3, 5), faults=faults, wraps=wraps)


def rows(events: Recording) -> list[tuple[int, int, int, bool]]:
    return list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True))


@pytest.mark.parametrize("faults", ["error", "skip"])
def test_a_sound_recording_is_kept_as_it_is(faults: str) -> None:
    events = make(faults)
    assert rows(events) == [(0, 0, 0, True), (3, 4, 2, False), (3, 1, 1, False), (9, 2, 1, True)]
    assert [values.dtype for values in (events.t, events.x, events.y, events.p)] == [
        np.int64,
        np.uint16,
        np.uint16,
        np.bool_,
    ]
    assert not events.skipped and events.duration_us == 9 and len(events) == 4


@pytest.mark.parametrize(
    ("change", "name", "left", "words"),
    [
        (
            {"t": [-1, 3, 3, 9]},
            "negative",
            [3, 3, 9],
            "times must be >= 0, got 1 of 4 .*event 0",
        ),
        ({"x": [0, 5, 1, 2]}, "outside", [0, 3, 9], "pixels must lie in the sensor, got 1 of 4 .* event 1"),
        ({"y": [0, 2, 3, 65536]}, "outside", [0, 3], "pixels must lie in the sensor, got 2 of 4 .* event 2"),
        (
            {"x": [0, 4, -1, 2]},
            "outside",
            [0, 3, 9],
            "pixels .*; pass the size of the sensor, or pass faults='skip'",
        ),
        ({"t": [4, 3, 5, 2]}, "unordered", [4, 5], "times must not decrease, got 2 of 4 .* event 1; sort the events"),
        ({"t": [200, 255, 3, 4], "wraps": 256}, "wrapped", [200, 255], "times must not begin again, got 2 of 4"),
    ],
)
def test_each_fault(change: dict[str, Any], name: str, left: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=f"toy: {words}"):
        make(**change)
    events = make("skip", **change)
    assert events.t.tolist() == left
    assert dict(events.skipped) == {name: 4 - len(left)}


def test_a_small_step_back_is_no_wrap() -> None:
    assert make("skip", t=[200, 190, 201, 202], wraps=256).skipped == {"unordered": 1}


def test_faults_are_counted_once_each() -> None:
    events = make("skip", t=[-4, 3, 2, 9], x=[9, 9, 1, 2])
    assert events.t.tolist() == [2, 9] and dict(events.skipped) == {"negative": 1, "outside": 1}


def test_nothing_left_is_an_error_or_counted() -> None:
    with pytest.raises(ValueError, match=r"at least one event, got none \(an empty file\); drop it"):
        make(t=np.zeros(0, int), x=np.zeros(0, int), y=np.zeros(0, int), p=np.zeros(0, int))
    events = make("skip", x=[7, 7, 7, 7])
    assert len(events) == 0 and dict(events.skipped) == {"outside": 4, "empty": 1} and events.duration_us == 0
    assert "0 events" in repr(events)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p": [1, -1, 1, 1]}, r"p must be 0 \(OFF\) or 1 \(ON\), got -1 to 1; write p > 0"),
        ({"t": [0.0, 1.0, 2.0, 3.0]}, "t, x and y must be integers"),
        ({"x": [0, 1, 2]}, "one axis of one length"),
        ({"t": np.array([0, 1, 2, 2**63], np.uint64)}, r"below 2\^63 us"),
        ({"faults": "ignore"}, "faults must be one of 'error', 'skip'"),
    ],
)
def test_what_no_policy_mends(change: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        make(**{"faults": "skip", **change})


@pytest.mark.parametrize("size", [(0, 5), (3, 2**15), (3,), [3, 5], (3, 5.0)])
def test_sizes_that_are_none(size: Any) -> None:
    arrays = {name: np.asarray(values) for name, values in GOOD.items()}
    with pytest.raises((TypeError, ValueError), match="toy: "):
        recording("toy", **arrays, size=size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t": np.array([0, 1], np.int32)}, "t must be an array of int64, got int32"),
        ({"t": [0, 1]}, "t must be an array of int64, got list"),
        ({"p": np.array([0, 1])}, "p must be an array of bool"),
        ({"x": np.zeros(3, np.uint16)}, "one axis of one length"),
        ({"x": np.array([0, 9], np.uint16)}, "pixels must lie in the sensor, got event 1"),
        ({"t": np.array([4, 1])}, "times must not decrease, got event 1"),
        ({"t": np.array([-4, 1])}, "times must be >= 0, got event 0"),
    ],
)
def test_the_class_itself_takes_sound_arrays_only(change: dict[str, Any], words: str) -> None:
    at = np.zeros(2, np.uint16)
    held = {"t": np.array([0, 1]), "x": at, "y": at, "p": at > 0, **change}
    with pytest.raises((TypeError, ValueError), match=words):
        Recording(**held, size=(3, 5))


def test_between_counts_from_its_start() -> None:
    events = make()
    part = events.between(3, 9)
    assert part.t.tolist() == [0, 0] and part.x.tolist() == [4, 1]
    assert len(events.between(4, 4)) == 0 and events.between(0, 10).t.tolist() == [0, 3, 3, 9]
    with pytest.raises(ValueError, match="end_us must lie"):
        events.between(4, 3)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 100))
def test_unwrapping_gives_back_what_a_counter_lost(steps: list[int], start: int) -> None:
    times = start + np.cumsum(steps)
    wrapped = times % 128
    assert (unwrap(wrapped, 128) - wrapped[0] == times - times[0]).all()
