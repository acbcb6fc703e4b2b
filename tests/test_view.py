"""Pictures of recordings: what they show, which files are refused, nothing half written."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import event_files
from bitspike.cli import main
from bitspike.data.events import count_frames, read_bin, read_events
from bitspike.report import events as pictures
from bitspike.report.events import colours, event_gif
from bitspike.report.figure import new_figure

EVENTS = event_files.draw(300, (34, 34), span=60_000)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    (tmp_path / "five <b>.bin").write_bytes(event_files.bin40(EVENTS))
    return tmp_path / "five <b>.bin"


def test_a_page_holds_the_frames_and_loads_nothing(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, told = tmp_path / "a.html", tmp_path / "a.json"
    main(["view", str(recording), "-o", str(out), "--T", "7", "--size", "17", "17", "--json", str(told)])
    facts, page, whole = json.loads(told.read_text()), out.read_text(encoding="utf-8"), read_bin(recording)
    assert facts["events"] == facts["shown"] == 300 and facts["steps"] == 7 and facts["bytes"] == out.stat().st_size
    frames = count_frames(whole, 7, step_us=facts["step_us"], start_us=facts["start_us"], size=(17, 17))
    (data,) = re.findall(r'atob\("([^"]+)"\)', page)
    assert base64.b64decode(data) == colours(frames).tobytes()
    (picture,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "://" not in page and "five <b>" not in page and "five &lt;b&gt;" in page
    assert "300 of 300 events" in capsys.readouterr().out


def test_a_png_of_steps_from_the_middle(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, told = tmp_path / "a.png", tmp_path / "a.json"
    span = ["--start-us", "10000", "--end-us", "20001", "--step-us", "1000"]
    main(["view", str(recording), "-o", str(out), *span, "--json", str(told)])
    facts = json.loads(told.read_text())
    assert out.read_bytes().startswith(b"\x89PNG") and facts["steps"] == 11
    assert facts["shown"] == sum(10_000 <= event.t < 20_001 for event in EVENTS)


def test_the_picture_shows_the_numbers_of_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raster, rates and frames of the figure itself against counts event by event."""
    pytest.importorskip("matplotlib")
    drawn: list[Any] = []
    monkeypatch.setattr(pictures, "new_figure", lambda *size: drawn.append(new_figure(*size)) or drawn[-1])
    path = tmp_path / "a$_$.bin"  # no formula
    path.write_bytes(event_files.bin40(EVENTS))
    span = ["--start-us", "5000", "--T", "9", "--step-us", "4001", "--size", "17", "2"]
    main(["view", str(path), "-o", str(tmp_path / "a.png"), *span])
    shown = [event for event in EVENTS if 5000 <= event.t < 5000 + 9 * 4001]
    top, bottom = drawn[0].subfigs
    assert "a$_$.bin: " + str(len(shown)) in drawn[0].get_suptitle()
    raster, rates = bottom.axes
    grid = np.zeros((256, 400))
    for event in shown:
        grid[(event.y * 34 + event.x) * 256 // 34**2, (event.t - 5000) * 400 // (9 * 4001)] += 1
    np.testing.assert_allclose(raster.images[0].get_array(), np.log1p(grid))
    assert raster.images[0].get_extent() == [5.0, 5 + 9 * 4.001, 34**2, 0]
    for p, stairs in enumerate(rates.patches):
        counts = [sum(e.p == p and (e.t - 5000) // 4001 == k for e in shown) for k in range(9)]
        np.testing.assert_allclose(stairs.get_data().values, np.array(counts) / 4001e-6)
        np.testing.assert_allclose(stairs.get_data().edges, 5 + np.arange(10) * 4.001)
    places = np.unique([round(k * 8 / 7) for k in range(8)])
    cells = Counter(((e.t - 5000) // 4001, e.y // 2, e.x // 17, e.p) for e in shown)
    full = sorted(cells.values())[-(-99 * len(cells) // 100) - 1]
    for axes, k in zip(top.axes, places, strict=True):
        for y, x in np.ndindex(17, 2):
            off, on = (min(cells[k, y, x, p] / full, 1.0) for p in (0, 1))
            light = np.array([1 - off, 1 - min(on + off, 1.0), 1 - on])
            np.testing.assert_array_equal(axes.images[0].get_array()[y, x], np.rint(255 * light))


def test_frames_that_no_file_should_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="set --size"):
        event_gif(np.broadcast_to(np.int32(0), (1000, 2, 200, 200)))


def test_a_gif_has_every_frame(recording: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    out = tmp_path / "a.gif"
    main(["view", str(recording), "-o", str(out), "--T", "5"])
    with image.open(out) as film:
        assert film.n_frames == 5 and film.size == (34 * 7, 34 * 7) and film.info["loop"] == 0
    assert event_gif(np.zeros((2, 2, 1, 300), int)).startswith(b"GIF8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.bin", "-o", "a.png"], "no such file"),
        (["film.mp4", "-o", "a.png"], "end of the name"),
        (["cut.bin", "-o", "a.png"], "whole events of 5 bytes"),
        (["five <b>.bin", "-o", "a.jpg"], "'.png', '.gif', '.html'"),
        (["five <b>.bin", "-o", "a.png", "--end-us", "1"], "an event to draw"),
        (["five <b>.bin", "-o", "a.png", "--start-us", "0", "--step-us", "1", "--T", "2"], "an event to draw"),
        (["five <b>.bin", "-o", "a.png", "--step-us", "1"], "at most 1000 steps"),
        (["five <b>.bin", "-o", "a.png", "--size", "35", "34"], "height of frames"),
        (["five <b>.bin", "-o", "a.png", "--sensor", "2", "2"], "in the sensor"),
        (["plain.npz", "-o", "a.png"], "--sensor"),
    ],
)
def test_wrong_files_are_refused_in_a_line(
    arguments: list[str], words: str, recording: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(recording.parent)
    Path("film.mp4").touch()
    Path("cut.bin").write_bytes(recording.read_bytes()[:-1])
    np.savez("plain.npz", **{name: np.array([getattr(event, name) for event in EVENTS]) for name in "txyp"})
    before = sorted(Path.cwd().iterdir())
    with pytest.raises(SystemExit) as caught:
        main(["view", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and words in line, line
    assert sorted(Path.cwd().iterdir()) == before


def test_readers_are_found_by_the_name(tmp_path: Path) -> None:
    events = event_files.draw(50, (34, 34), span=60_000)
    columns = {name: np.array([getattr(event, name) for event in events]) for name in "txyp"}
    np.savez(tmp_path / "a.npz", **columns)
    rows = "".join(f"{event.t},{event.x},{event.y},{event.p}\n" for event in events)
    (tmp_path / "a.CSV").write_text("t,x,y,p\n" + rows)
    (tmp_path / "a.bin").write_bytes(event_files.bin40(events))
    (tmp_path / "two.aedat").write_bytes(event_files.aedat2(events))
    (tmp_path / "three.aedat").write_bytes(event_files.aedat3(events))
    for name in ("a.npz", "a.CSV", "a.bin", "two.aedat", "three.aedat"):
        found = read_events(tmp_path / name, (34, 34) if name in ("a.npz", "a.CSV") else None)
        for key in "txyp":
            np.testing.assert_array_equal(getattr(found, key), columns[key], err_msg=name)
