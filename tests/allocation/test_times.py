"""The table of times: linear between what was measured, slopes that see past flat stretches, files, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.allocation.times import Times, mean_over, nested, read_times
from bitspike.allocation.timing import Timed, by_layer


def table(**given: Any) -> Times:
    """Two layers: "a" is 1 + w·s + 10·T, "b" flat from 3 weight bits on."""
    axes: dict[str, tuple[int, ...]] = {"weights": (1, 2, 3, 6), "spikes": (1, 4), "steps": (1, 2)}
    w, s, t = np.meshgrid(*(np.array(axis, float) for axis in axes.values()), indexing="ij")
    layers = {"a": nested(1 + w * s + 10 * t), "b": nested(np.minimum(w, 3) + 0 * s * t)}
    known: dict[str, Any] = {
        "machine": {"cpu": "this", "threads": 1},
        "network": "abc",
        "reference_ms": 0.5,
        "rest": 2.0,
        "layers": layers,
        "fires": {"a": ("n",), "b": ()},
        **axes,
        **given,
    }
    return Times(**known)


@pytest.mark.parametrize(
    ("place", "units"),
    [((1, 1, 1), 12), ((6, 4, 2), 45), ((2.5, 1, 1), 13.5), ((4.5, 4, 1), 29), ((2, 2.5, 1.5), 21), ((9, 4, 7), 45)],
)
def test_times_are_linear_between_knots_and_end_at_the_ends(place: Any, units: float) -> None:
    assert table().at("a", place) == pytest.approx(0.5 * units)


def test_slopes_are_those_of_the_steepest_chord_below() -> None:
    assert table().slopes("a", (3, 4, 2)) == pytest.approx((0.5 * 4, 0.5 * 3, 0.5 * 10))
    assert table().slopes("b", (6, 1, 1)) == pytest.approx((0.5 * 2 / 5, 0, 0))  # past the flat stretch, to 1 bit
    assert table().slopes("a", (1, 1, 1)) == pytest.approx((0.5, 0.5, 5))  # at the lower end the chord above
    single = table(steps=(1,), layers={"a": nested(np.ones((4, 2, 1))), "b": nested(np.ones((4, 2, 1)))})
    assert single.slopes("a", (2, 2, 1)) == (0, 0, 0)


def test_what_nothing_is_learned_of_has_the_mean() -> None:
    even = mean_over(table(), "a", ("weights", "steps"))
    assert even.at("a", (1, 4, 1)) == even.at("a", (6, 4, 2)) == pytest.approx(0.5 * (1 + 3 * 4 + 15))
    assert even.layers["b"] == table().layers["b"]


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    table().write(tmp_path / "t.json")
    assert read_times(tmp_path / "t.json") == table()
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "of version 1"),
        ({"reference_ms": 0.0}, "reference_ms"),
        ({"spikes": [4, 1]}, "spikes must be integers"),
        ({"steps": []}, "steps must be integers"),
        ({"steps": [1, 2, 3]}, "the times of a"),
        ({"fires": {}}, "the same layers"),
        ({"layers": {}, "fires": {}}, "one at least"),
        ({"layers": {"a": [[[-1.0] * 2] * 2] * 4, "b": [[[1.0] * 2] * 2] * 4}}, "not be negative"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**table().as_dict(), **change}))
    with pytest.raises(ValueError, match=words):
        read_times(path)
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=r"t\.json"):
        read_times(path)


def test_a_table_of_another_machine_or_network_is_refused(refuses: Any) -> None:
    table().check("here", {"cpu": "this", "threads": 1}, "abc")
    with refuses("here", "cpu 'other'", "'this'"):
        table().check("here", {"cpu": "other", "threads": 1}, "abc")
    with refuses("here", "library 'x'", "None"):
        table().check("here", {"cpu": "this", "threads": 1, "library": "x"}, "abc")
    with refuses("here", "of this network"):
        replace(table(), network="abd").check("here", table().machine, "abc")


def test_what_runs_behind_a_synapse_is_its_own() -> None:
    """What runs before the first one belongs to none."""
    groups = ((("in",), 1.0), (("a", "a.fire"), 2.0), (("sum",), 4.0), (("b",), 8.0))
    found = by_layer(Timed(20.0, groups, 0.1), ["a", "b", "c"])
    assert found == {"a": (6.0, (("a", "a.fire"), ("sum",))), "b": (8.0, (("b",),))}
