"""Readers of event files, on files written to their published layouts; damaged ones are refused or counted."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import event_files as files
from bitspike.data.events import (
    Recording,
    read_aedat2,
    read_aedat3,
    read_aedat4,
    read_bin,
    read_csv_events,
    read_hdf5_events,
    read_npz_events,
    read_shd,
    read_trials,
)
from event_files import Event


def rows(events: Recording) -> list[Event]:
    columns = (events.t, events.x, events.y, events.p.astype(int))
    return [Event(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def put(folder: Path, data: bytes, name: str = "file") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("size", [(34, 34), (180, 240), (1, 1)])
def test_bin(tmp_path: Path, size: tuple[int, int]) -> None:
    events = files.draw(700, size, span=2**23)
    assert rows(read_bin(put(tmp_path, files.bin40(events)), size)) == events


def test_bin_counts_on_after_its_marks(tmp_path: Path) -> None:
    held = [Event(5, 1, 2, 1), Event(8000, 0, 240, 0), Event(20, 3, 4, 0), Event(8100, 0, 240, 1), Event(1, 0, 0, 1)]
    found = read_bin(put(tmp_path, files.bin40(held)))
    assert rows(found) == [Event(5, 1, 2, 1), Event(20 + 8192, 3, 4, 0), Event(1 + 16384, 0, 0, 1)]
    with pytest.raises(ValueError, match="at most 240 rows, got 241"):
        read_bin(tmp_path / "file", (241, 10))


@pytest.mark.parametrize("unwrapped", [False, True])
@pytest.mark.parametrize(("layout", "size"), [("dvs128", None), ("davis", (260, 346)), ("davis", (180, 240))])
def test_aedat2(tmp_path: Path, layout: str, size: Any, unwrapped: bool) -> None:
    events = files.draw(500, size or (128, 128), span=2**32)
    path = put(tmp_path, files.aedat2(events, layout))
    found = read_aedat2(path, layout, size, unwrapped=unwrapped)
    assert rows(found) == events and found.size == (size or (128, 128)) and not found.skipped
    other = read_aedat2(path, layout, size, on=1 if layout == "dvs128" else 0)
    assert (other.p != found.p).all()


def test_aedat2_passes_over_what_is_no_pixel(tmp_path: Path) -> None:
    head = b"#!AER-DAT2.0\r\n"
    body = struct.pack(">IIIIII", 1 << 15, 3, 2 * 5, 4, 1 << 15 | 7, 5)
    found = read_aedat2(put(tmp_path, head + body))
    assert rows(found) == [Event(4, 5, 0, 1)] and found.skipped == {"other": 2}
    body = struct.pack(">IIIIII", 1 << 31, 3, 2**22 + 2**11, 4, 1 << 10, 5)
    found = read_aedat2(put(tmp_path, head + body), "davis", (180, 240))
    assert rows(found) == [Event(4, 0, 1, 1)] and found.skipped == {"other": 2}


def test_aedat2_an_event_that_begins_like_a_comment(tmp_path: Path) -> None:
    """0x23 is "#": row 140 of a DAVIS, with a line end later in the file."""
    events = [Event(10, 3, 140, 0), Event(0x0A0A0A, 3, 140, 1)]
    for head in ("#!AER-DAT2.0\r\n", "#!AER-DAT2.0\r\n#End Of ASCII Header\r\n"):
        data = files.aedat2(events, "davis", head)
        assert data[len(head) : len(head) + 1] == b"#"
        assert rows(read_aedat2(put(tmp_path, data), "davis", (260, 346))) == events


def test_aedat2_wraps(tmp_path: Path) -> None:
    events = [Event(2**32 - 5, 1, 1, 1), Event(2**32 + 5, 2, 2, 0), Event(2**32 + 9, 3, 3, 0)]
    path = put(tmp_path, files.aedat2(events))
    with pytest.raises(ValueError, match="times must not begin again, got 2 of 3"):
        read_aedat2(path)
    assert rows(read_aedat2(path, unwrapped=True)) == events
    found = read_aedat2(path, faults="skip")
    assert rows(found) == events[:1] and found.skipped == {"wrapped": 2}


def test_aedat2_an_event_that_comes_late_across_a_wrap(tmp_path: Path) -> None:
    """It does not lie 71 minutes ahead."""
    path = put(tmp_path, files.aedat2([Event(2**32 + dt, 1, 1, 1) for dt in (-5, 1, -1, 2)]))
    with pytest.raises(ValueError, match="times must not decrease, got 1 of 4"):
        read_aedat2(path, unwrapped=True)
    found = read_aedat2(path, faults="skip", unwrapped=True)
    assert (found.t - 2**32).tolist() == [-5, 1, 2] and found.skipped == {"unordered": 1}


@pytest.mark.parametrize("faults", ["error", "skip"])
def test_aedat2_a_davis_is_no_dvs128(tmp_path: Path, faults: str) -> None:
    path = put(tmp_path, files.aedat2(files.draw(50, (128, 128)), "davis"))
    with pytest.raises(ValueError, match="addresses of 'dvs128' must have no bits above 15"):
        read_aedat2(path, faults=faults)


@pytest.mark.parametrize("each", [1, 7, 1000])
def test_aedat3(tmp_path: Path, each: int) -> None:
    events = files.draw(300, (128, 128), span=2**33)  # over several overflows of 31 bits
    found = read_aedat3(put(tmp_path, files.aedat3(events, each)))
    assert rows(found) == events and not found.skipped
    found = read_aedat3(put(tmp_path, files.aedat3(events, each, invalid=(0, 5, 299))))
    assert rows(found) == [e for k, e in enumerate(events) if k not in (0, 5, 299)] and found.skipped == {"invalid": 3}


def test_aedat3_one_source(tmp_path: Path) -> None:
    events = files.draw(20, (128, 128))
    one, two = files.aedat3(events[:10]), files.aedat3(events[10:], source=2)
    both = one + two.split(b"#!END-HEADER\r\n")[1]
    path = put(tmp_path, both)
    with pytest.raises(ValueError, match="must come from one source, got 1 and 2; name it"):
        read_aedat3(path)
    assert rows(read_aedat3(path, source=1)) == events[:10] and rows(read_aedat3(path, source=2)) == events[10:]
    with pytest.raises(ValueError, match="at least one event"):
        read_aedat3(path, source=3)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [(8, 5, "PACKET"), (16, 10**6, "PACKET"), (20, -1, "PACKET"), (4, 16, "PACKET"), (12, -1, "PACKET")],
)
def test_aedat3_damaged_headers(tmp_path: Path, place: int, value: int, words: str) -> None:
    data = bytearray(files.aedat3(files.draw(10, (128, 128)), special=False))
    start = data.index(b"#!END-HEADER\r\n") + 14
    struct.pack_into("<i", data, start + place, value)
    with pytest.raises(ValueError, match="a packet must hold as many events as it has room for"):
        read_aedat3(put(tmp_path, bytes(data)), faults="skip")


def test_aedat3_a_time_above_31_bits_is_no_overflow(tmp_path: Path) -> None:
    data = bytearray(files.aedat3([Event(3, 1, 1, 1), Event(4, 2, 2, 0)], special=False))
    data[-1] = 0x80
    with pytest.raises(ValueError, match="times must be >= 0"):
        read_aedat3(put(tmp_path, bytes(data)))
    assert read_aedat3(tmp_path / "file", faults="skip").skipped == {"negative": 1}


@pytest.mark.parametrize("each", [1, 64, 1000])
def test_aedat4(tmp_path: Path, each: int) -> None:
    events = files.draw(200, (260, 346))
    begin = 1_600_000_000_000_000  # Unix time
    held = [e._replace(t=e.t + begin) for e in events]
    found = read_aedat4(put(tmp_path, files.aedat4(held, each=each)))
    assert rows(found) == [e._replace(t=e.t - events[0].t) for e in events] and found.size == (260, 346)


def test_aedat4_compressed(tmp_path: Path) -> None:
    frame = pytest.importorskip("lz4.frame")
    events = files.draw(200, (260, 346))
    held = files.aedat4(events, compress=frame.compress, compression=1)
    assert rows(read_aedat4(put(tmp_path, held))) == [e._replace(t=e.t - events[0].t) for e in events]
    with pytest.raises(ValueError, match=r"packets must be LZ4 frames|one flatbuffer"):
        read_aedat4(put(tmp_path, files.aedat4(events, compression=1)))
    twice = files.aedat4(events, compress=lambda data: 2 * frame.compress(data), compression=1)
    with pytest.raises(ValueError, match="a packet must be one LZ4 frame, got"):
        read_aedat4(put(tmp_path, twice))


def test_aedat4_up_to_its_table_of_packets(tmp_path: Path) -> None:
    """A file that ends between two packets, before the place of the table that its header gives, lacks some."""
    events = files.draw(30, (9, 9))
    data = files.aedat4(events, (9, 9), each=10)
    short = len(files.aedat4(events[:20], (9, 9), each=10))
    place = data.index(struct.pack("<q", -1))

    def told(end: int) -> bytes:
        return data[:place] + struct.pack("<q", end) + data[place + 8 :]

    assert len(read_aedat4(put(tmp_path, told(len(data)) + b"table"))) == 30
    path = put(tmp_path, told(len(data))[:short])
    with pytest.raises(ValueError, match="the last packet must be whole, got 0 bytes"):
        read_aedat4(path)
    found = read_aedat4(path, faults="skip")
    assert len(found) == 20 and found.skipped == {"truncated": 1}
    with pytest.raises(ValueError, match=r"the table of packets at .* must stand behind a whole packet"):
        read_aedat4(put(tmp_path, told(short + 9)))


def test_aedat4_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lz4", None)
    monkeypatch.setitem(__import__("sys").modules, "lz4.frame", None)
    with pytest.raises(ImportError, match=r"lz4 must be installed.*pip install bitspike\[events\]"):
        read_aedat4(put(tmp_path, files.aedat4(files.draw(3, (9, 9)), compression=1)))


def test_aedat4_streams(tmp_path: Path) -> None:
    events = files.draw(30, (9, 9))
    two = files.xml((9, 9)) + files.xml((9, 9), 1)
    frames = files.xml((9, 9)) + files.xml((9, 9), 1, "FRME")
    assert len(read_aedat4(put(tmp_path, files.aedat4(events, streams=frames)))) == 30
    path = put(tmp_path, files.aedat4(events, streams=two))
    with pytest.raises(ValueError, match="there must be one stream of events, got 0, 1; name one"):
        read_aedat4(path)
    assert len(read_aedat4(path, stream=0)) == 30
    with pytest.raises(ValueError, match="stream 5 must hold events"):
        read_aedat4(path, stream=5)
    path = put(tmp_path, files.aedat4(events, size=None))
    with pytest.raises(ValueError, match="size must be given"):
        read_aedat4(path)
    assert read_aedat4(path, (9, 9)).size == (9, 9)
    with pytest.raises(ValueError, match=r"NONE or LZ4, got ZSTD; convert"):
        read_aedat4(put(tmp_path, files.aedat4(events, compression=3)))


def test_aedat4_damaged_anywhere(tmp_path: Path) -> None:
    """Whatever byte is wrong: a clear error, or events inside the sensor, never another kind of failure."""
    data = files.aedat4(files.draw(5, (9, 9)), (9, 9))
    rng = np.random.default_rng(0)
    for _ in range(400):
        held = bytearray(data)
        for place in rng.integers(14, len(data), 3):
            held[place] = rng.integers(256)
        try:
            found = read_aedat4(put(tmp_path, bytes(held)), faults="skip")
        except ValueError:
            continue
        assert len(found) <= 5


READERS: dict[str, Any] = {
    "bin": (read_bin, lambda e: files.bin40(e), (34, 34)),
    "aedat2": (lambda path, size, faults="error": read_aedat2(path, faults=faults), files.aedat2, (34, 34)),
    "aedat3": (read_aedat3, lambda e: files.aedat3(e, special=False), (34, 34)),
    "aedat4": (read_aedat4, lambda e: files.aedat4(e, (34, 34), each=9), (34, 34)),
}


@pytest.mark.parametrize("kind", list(READERS))
def test_every_length_of_a_cut_file(kind: str, tmp_path: Path) -> None:
    """A file that ends early is refused, or gives a beginning of its events and says that something is missing."""
    read, write, size = READERS[kind]
    events = files.draw(12, size)
    data = write(events)
    whole = rows(read(put(tmp_path, data), size))
    lost = 0
    for end in range(14, len(data)):
        path = put(tmp_path, data[:end])
        try:
            found = read(path, size, faults="skip")
        except ValueError as error:
            assert kind != "bin" and "header must" in str(error), error
            continue
        assert rows(found) == whole[: len(found)]
        if not found.skipped.keys() & {"truncated", "empty"}:
            continue  # it ends between two events or packets, which nothing tells
        lost += 1
        with pytest.raises(ValueError, match=r"must hold whole events|must be whole|at least one event"):
            read(path, size)
    assert lost > 20


@pytest.mark.parametrize("kind", list(READERS))
def test_faults_of_events(kind: str, tmp_path: Path) -> None:
    read, write, _ = READERS[kind]
    good = [Event(10, 1, 1, 1), Event(20, 2, 2, 0), Event(30, 3, 3, 1)]
    early = put(tmp_path, write([good[0], good[2], good[1]]))
    with pytest.raises(ValueError, match=r"file: times must not decrease, got 1 of 3"):
        read(early, (34, 34))
    found = read(early, (34, 34), faults="skip")
    assert [row.x for row in rows(found)] == [1, 3] and found.skipped == {"unordered": 1}
    if kind != "aedat2":  # its sensor is known
        outside = put(tmp_path, write([good[0], Event(20, 40, 2, 0), good[2]]))
        with pytest.raises(ValueError, match="pixels must lie in the sensor, got 1 of 3"):
            read(outside, (34, 34))
        assert read(outside, (34, 34), faults="skip").skipped == {"outside": 1}
    with pytest.raises(ValueError, match="faults must be one of"):
        read(early, (34, 34), faults="ignore")


@pytest.mark.parametrize("kind", list(READERS))
def test_no_file_and_no_events(kind: str, tmp_path: Path) -> None:
    read, write, size = READERS[kind]
    with pytest.raises(ValueError, match="the file must exist, got no such file"):
        read(tmp_path / "none", size)
    with pytest.raises(ValueError, match="the file must be readable"):
        read(tmp_path, size)
    with pytest.raises(ValueError, match="at least one event, got none"):
        read(put(tmp_path, write([])), size)
    assert read(tmp_path / "file", size, faults="skip").skipped == {"empty": 1}
    if kind != "bin":
        with pytest.raises(ValueError, match="the first line must be #!AER-DAT"):
            read(put(tmp_path, b"#!AER-DAT9.9\r\n" + bytes(80)), size)


def test_bin_refuses_times_that_begin_again(tmp_path: Path) -> None:
    path = put(tmp_path, files.bin40([Event(2**23 - 3, 0, 0, 1), Event(2, 0, 0, 1)]))
    with pytest.raises(ValueError, match="times must not begin again"):
        read_bin(path)


def test_trials(tmp_path: Path) -> None:
    text = "class,startTime_usec,endTime_usec\r\n1,100,200\r\n11,200,7000\r\n"
    assert [tuple(t) for t in read_trials(put(tmp_path, text.encode()))] == [(1, 100, 200), (11, 200, 7000)]
    for bad, words in (
        ("klass,a,b\n1,2,3", "the header must be"),
        (text + "12,1,2", "line 4 must be a class of 1 to 11"),
        (text + "1,5,5", "a start before its end"),
        (text + "1,5", "line 4 must be three whole numbers"),
        (text + "1,5,-6", "three whole numbers"),
        (text.splitlines()[0], "must hold a trial"),
    ):
        with pytest.raises(ValueError, match=words):
            read_trials(put(tmp_path, bad.encode()))


def spoken(path: Path, times: list[list[float]], units: list[list[int]], speakers: Any = None, count: int = 0) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, held, kind in (("times", times, "f2"), ("units", units, "u2")):
            rows = file.create_dataset(f"spikes/{name}", (len(held),), dtype=h5py.vlen_dtype(np.dtype(kind)))
            for k, row in enumerate(held):
                rows[k] = np.array(row, kind)
        file["labels"] = np.arange(count or len(times), dtype=np.uint16) % 20
        if speakers is not None:
            file["extra/speaker"] = np.array(speakers, np.uint8)
    return path


def test_shd(tmp_path: Path) -> None:
    path = spoken(tmp_path / "a.h5", [[0.0, 0.25, 0.5], [1.0]], [[0, 699, 3], [7]], [4, 5])
    first, second = read_shd(path)
    assert rows(first.events) == [Event(0, 0, 0, 1), Event(250_000, 699, 0, 1), Event(500_000, 3, 0, 1)]
    assert first.events.size == (1, 700) and (first.label, first.speaker) == (0, 4)
    assert (len(second.events), second.label, second.speaker) == (1, 1, 5)
    assert [one.speaker for one in read_shd(spoken(tmp_path / "b.h5", [[0.5]], [[1]]))] == [-1]
    path = spoken(tmp_path / "c.h5", [[0.5], [0.5, 0.25], []], [[700], [1, 2], []])
    with pytest.raises(ValueError, match=r"\(0\): pixels must lie"):
        list(read_shd(path))
    lost = [dict(one.events.skipped) for one in read_shd(path, "skip")]
    assert lost == [{"outside": 1, "empty": 1}, {"unordered": 1}, {"empty": 1}]
    with pytest.raises(ValueError, match="must be equally many"):
        list(read_shd(spoken(tmp_path / "d.h5", [[0.5]], [[1]], count=2)))
    with pytest.raises(ValueError, match="finite"):
        list(read_shd(spoken(tmp_path / "e.h5", [[float("nan")]], [[1]]), "skip"))
    with pytest.raises(ValueError, match="the file must exist"):
        list(read_shd(tmp_path / "none"))
    with pytest.raises(ValueError, match="sound HDF5"):
        list(read_shd(put(tmp_path, b"no")))


def columns(events: list[Event]) -> dict[str, np.ndarray]:
    return {name: np.array([getattr(e, name) for e in events]) for name in Event._fields}


@pytest.mark.parametrize("unit", ["us", "ms", "s", "ns"])
def test_generic_files(tmp_path: Path, unit: str) -> None:
    events = files.draw(50, (7, 9))
    held = columns(events)
    factor = {"us": 1, "ms": 1e-3, "s": 1e-6, "ns": 1000}[unit]
    held["t"] = held["t"] * factor
    np.savez(tmp_path / "a.npz", **held)
    assert rows(read_npz_events(tmp_path / "a.npz", (7, 9), unit=unit)) == events
    text = "p,t,extra,x,y\n" + "".join(
        f"{p},{t!r},q,{x},{y}\n" for t, x, y, p in zip(*(held[c].tolist() for c in "txyp"), strict=True)
    )
    assert rows(read_csv_events(put(tmp_path, text.encode()), (7, 9), unit=unit)) == events
    bare = "".join(f"{t!r}  {x} {y} {p}\n" for t, x, y, p in zip(*(held[c].tolist() for c in "txyp"), strict=True))
    found = read_csv_events(put(tmp_path, bare.encode()), (7, 9), names=None, separator=" ", unit=unit)
    assert rows(found) == events
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in held.items():
            file[f"events/{name}"] = values
    assert rows(read_hdf5_events(tmp_path / "a.h5", (7, 9), unit=unit)) == events


def test_off_may_be_minus_one(tmp_path: Path) -> None:
    held = columns(files.draw(50, (7, 9)))
    np.savez(tmp_path / "a.npz", **{**held, "p": 2 * held["p"] - 1})
    assert read_npz_events(tmp_path / "a.npz", (7, 9)).p.tolist() == [bool(p) for p in held["p"]]
    np.savez(tmp_path / "a.npz", **{**held, "p": np.arange(50) % 3 - 1})
    with pytest.raises(ValueError, match=r"p must be 0 \(OFF\) or 1 \(ON\), got -1 to 1"):
        read_npz_events(tmp_path / "a.npz", (7, 9))


def test_generic_files_that_do_not_fit(tmp_path: Path) -> None:
    held = columns(files.draw(5, (7, 9)))

    def npz(words: str, change: dict[str, Any], **more: Any) -> None:
        np.savez(tmp_path / "a.npz", **{**held, **change})
        with pytest.raises((TypeError, ValueError), match=words):
            read_npz_events(tmp_path / "a.npz", (7, 9), **more)

    npz("whole microseconds, got fractions; pass the unit", {"t": held["t"] + 0.5})
    npz("columns and rows must be integers", {"x": held["x"] * 1.0})
    npz("one axis of one length", {"x": held["x"][:3]})
    npz("finite and below", {"t": np.full(5, np.inf)})
    npz("unit must be one of", {}, unit="minutes")
    npz("names must be four", {}, names=("t", "x", "y", "y"))
    npz("must hold 'q'", {}, names=("q", "x", "y", "p"))

    def csv(words: str, text: str, **more: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=words):
            read_csv_events(put(tmp_path, text.encode()), (7, 9), **more)

    csv("the first line must name t, x, y, p", "a,b\n")
    csv("the first line must name", "")
    csv("must name 'p' once", "t,x,y,p,p\n1,0,0,1,0\n")
    csv("line 3 must have 4 cells, got '1,2,3", "t,x,y,p\n1,2,3,1\n1,2,3\n")
    csv("cells of 't' in lines 2 to 2 must be whole numbers", "t,x,y,p\n1.5,2,3,1\n")
    csv("cells of 'x' in lines 2 to 2 must be whole", f"t,x,y,p\n1,{2**70},3,1\n")
    csv("without _", "t,x,y,p\n1_0,2,3,1\n")
    csv("at least one event", "t,x,y,p\n")
    csv("separator must be one character", "t,x,y,p\n", separator="::")
    csv("the first line must name", "1,2,3,1\n")
    with pytest.raises(ValueError, match="the file must exist"):
        read_csv_events(tmp_path / "none", (7, 9))
