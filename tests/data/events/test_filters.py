"""Filters of noise against their definitions, event by event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.data.events import Recording, denoise, drop_hot_pixels, recording


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, height, width = draw(st.integers(1, 80)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    t = np.sort(rng.integers(0, draw(st.integers(1, 200)), count))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    return recording("toy", t, x, y, rng.integers(0, 2, count), (height, width))


@given(recordings(), st.integers(1, 60))
def test_denoise_is_its_definition(events: Recording, window: int) -> None:
    kept = []
    for i in range(len(events)):
        near = [
            j
            for j in range(i)
            if max(abs(int(events.x[i]) - int(events.x[j])), abs(int(events.y[i]) - int(events.y[j]))) == 1
            and events.t[i] - events.t[j] <= window
        ]
        if near:
            kept.append(i)
    found = denoise(events, window)
    assert found.t.tolist() == events.t[kept].tolist() and found.x.tolist() == events.x[kept].tolist()
    assert found.skipped.get("noise", 0) == len(events) - len(kept)


@given(recordings(), st.floats(1, 1e6))
def test_hot_pixels_are_their_definition(events: Recording, rate: float) -> None:
    spot = [(int(x), int(y)) for x, y in zip(events.x, events.y, strict=True)]
    hot = {s for s in spot if spot.count(s) > 1 and spot.count(s) > rate * events.duration_us / 1e6}
    found = drop_hot_pixels(events, rate)
    assert found.t.tolist() == [int(t) for t, s in zip(events.t, spot, strict=True) if s not in hot]
    assert found.skipped.get("hot pixel", 0) == len(events) - len(found)


def test_filters_add_up() -> None:
    at = np.array([0, 1, 0, 0, 0, 3], np.uint16)
    events = Recording(np.array([0, 5, 6, 7, 8, 900]), at, at * 0, at > 0, (1, 4))
    found = denoise(drop_hot_pixels(events, 4000.0), 10)
    assert dict(found.skipped) == {"hot pixel": 4, "noise": 2} and len(found) == 0
    assert len(denoise(found, 10)) == 0 and len(drop_hot_pixels(found, 1.0)) == 0  # nothing stays nothing


def test_bad_arguments() -> None:
    at = np.zeros(1, np.uint16)
    events = Recording(np.zeros(1, np.int64), at, at, at > 0, (1, 1))
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rate_hz must be positive"):
            drop_hot_pixels(events, rate)
    with pytest.raises(ValueError, match="window_us must lie"):
        denoise(events, 0)
