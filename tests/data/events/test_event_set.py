"""Event recordings: an independent count, strict files, nothing unpickled."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.data import EventSet, load_events

RNG = np.random.default_rng(0)
COUNTS = (40, 0, 1, 75)


def members(counts: tuple[int, ...] = COUNTS, size: tuple[int, int] = (6, 5)) -> dict[str, np.ndarray]:
    """Random recordings in the layout of the files."""
    rng, total = np.random.default_rng(1), sum(counts)
    return {
        "x": rng.integers(0, size[1], total).astype(np.uint8),
        "y": rng.integers(0, size[0], total).astype(np.uint8),
        "p_bits": np.packbits(rng.integers(0, 2, total).astype(bool)),
        "dt": rng.integers(0, 900, total).astype(np.uint16),
        "offsets": np.cumsum([0, *counts]),
        "labels": (np.arange(len(counts)) % 3).astype(np.uint8),
        "sample_ids": np.arange(len(counts)),
    }


def counted(held: dict[str, np.ndarray], chosen: list[int], T: int, step_us: int, size: tuple[int, int]) -> np.ndarray:
    """Event by event."""
    frames = np.zeros((T, len(chosen), 2, *size), dtype=np.uint8)
    bits = np.unpackbits(held["p_bits"])
    for place, number in enumerate(chosen):
        now = 0
        for event in range(held["offsets"][number], held["offsets"][number + 1]):
            now += int(held["dt"][event])
            if now // step_us < T:
                frames[now // step_us, place, bits[event], held["y"][event], held["x"][event]] += 1
    return frames


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "toy.npz", **members())
    return tmp_path / "toy.npz"


@pytest.mark.parametrize(("chosen", "T", "step_us"), [([0, 1, 2, 3], 40, 1000), ([3, 0, 3], 7, 977), ([1], 1, 1)])
def test_frames_count_every_event(file: Path, chosen: list[int], T: int, step_us: int) -> None:
    data = load_events(file, (6, 5), 3)
    assert len(data) == 4 and data.labels.tolist() == [0, 1, 2, 0] and data.size == (6, 5) and data.classes == 3
    frames = data.frames(chosen, T, step_us)
    assert frames.dtype == torch.uint8 and frames.shape == (T, len(chosen), 2, 6, 5)
    assert np.array_equal(frames.numpy(), counted(members(), chosen, T, step_us, (6, 5)))
    if len(chosen) > 1:
        assert frames.sum() > 5 and frames.max() > 1


@given(st.integers(1, 50), st.integers(1, 3000))
def test_long_enough_frames_lose_nothing(T: int, step_us: int) -> None:
    """Steps of another length only regroup events; a batch is its recordings one by one."""
    held = members()
    total = torch.from_numpy(held["dt"].astype(np.int64))
    times = torch.cat([part.cumsum(0) for part in total.split(COUNTS)])
    place = [torch.from_numpy(held[name]) for name in ("x", "y")]
    p = torch.from_numpy(np.unpackbits(held["p_bits"], count=len(total)).astype(bool))
    ends, labels = torch.from_numpy(held["offsets"]), torch.zeros(4, dtype=torch.int64)
    data = EventSet(*place, p, times, ends, labels, (6, 5), 1)
    frames = data.frames(range(4), T, step_us)
    assert int(frames.sum()) == int((times < T * step_us).sum())
    assert torch.equal(frames, torch.cat([data.frames([n], T, step_us) for n in range(4)], 1))


def test_times_start_again_with_every_recording(file: Path) -> None:
    data = load_events(file, (6, 5), 3)
    held = members()
    for number in range(4):
        events = slice(held["offsets"][number], held["offsets"][number + 1])
        wanted = np.cumsum(held["dt"][events].astype(np.int64))
        assert data.time_us[events].tolist() == wanted.tolist()
    assert data.time_us.dtype == torch.int64


def test_more_events_than_a_byte_holds_are_refused() -> None:
    where = torch.zeros(256, dtype=torch.uint8)
    p, times, ends = torch.ones(256, dtype=torch.bool), torch.arange(256), torch.tensor([0, 256])
    data = EventSet(where, where, p, times, ends, torch.tensor([0]), (1, 1), 1)
    with pytest.raises(ValueError, match=r"recording 0 must have at most 255 events of a pixel in a step, got 256"):
        data.frames([0], T=1)
    assert data.frames([0], T=2, step_us=200).flatten().tolist() == [0, 200, 0, 56]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.tensor([0, 3])}, r"EventSet: x must lie in \[0, 2\], got 0 to 3; pass the size of the sensor"),
        ({"y": torch.tensor([0, 2])}, r"y must lie in \[0, 1\]"),
        ({"y": torch.tensor([0, -1])}, r"y must lie in \[0, 1\], got -1 to 0"),
        ({"time_us": torch.tensor([-1, 5])}, "time_us must be >= 0, got -1"),
        ({"time_us": torch.tensor([5])}, r"must be \[E\], .* got \[2, 2, 2, 1\], 2 and 1"),
        ({"offsets": torch.tensor([0, 1])}, "offsets must rise from 0 to 2, the number of events, got 0 to 1"),
        ({"offsets": torch.tensor([0, 1, 2])}, r"offsets \[N \+ 1\] and labels \[N\]"),
        ({"p": torch.tensor([1, -1])}, r"p must be a torch\.bool tensor, got torch.int64; write p > 0"),
    ],
)
def test_events_that_would_be_counted_in_another_place(change: dict[str, torch.Tensor], words: str) -> None:
    """A pixel behind the last column is the next row's, a time below 0 the last step, a polarity of -1 another row."""
    where, p = torch.tensor([0, 1]), torch.tensor([True, False])
    held = {"x": where, "y": where, "p": p, "time_us": where, "offsets": torch.tensor([0, 2])}
    rest = {"labels": torch.tensor([0]), "size": (2, 3), "classes": 1}
    assert EventSet(**held, **rest).frames([0], T=1).sum() == 2  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=words):
        EventSet(**{**held, **change}, **rest)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float"):
        EventSet(**held, **rest).frames([0.5])  # type: ignore[arg-type,list-item]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "at least one"),
        (([4],), r"indices must lie in \[0, 3\], got 4"),
        (([-1],), r"indices must lie"),
        (([0], 0), "T must lie"),
        (([0], 1, 0), "step_us must lie"),
    ],
)
def test_bad_frames(file: Path, arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_events(file, (6, 5), 3).frames(*arguments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros(116, np.int64)}, "members must have one axis: x, y, p_bits uint8, dt uint16"),
        ({"dt": np.zeros(116, np.int32)}, "members must have one axis"),
        ({"y": np.zeros((116, 1), np.uint8)}, "members must have one axis"),
        ({"labels": np.zeros(4)}, "members must have one axis"),
        ({"offsets": np.zeros(5)}, "members must have one axis"),
        ({"x": np.zeros(115, np.uint8)}, "must be of one length, p_bits a bit each, got 115, 116, 116 and 15 bytes"),
        ({"p_bits": np.zeros(14, np.uint8)}, "must be of one length"),
        ({"p_bits": np.zeros(16, np.uint8)}, "must be of one length"),
        (
            {"offsets": np.array([0, 40, 40, 41])},
            r"must be \[N \+ 1\] and \[N\], N >= 1, got 4 and 4",
        ),
        ({"offsets": np.zeros(1, int), "labels": np.zeros(0, int)}, "N >= 1"),
        ({"offsets": np.array([0, 40, 39, 41, 116])}, "offsets must rise from 0 to 116"),
        ({"offsets": np.array([1, 40, 40, 41, 116])}, "offsets must rise from 0 to 116"),
        (
            {"offsets": np.array([0, 40, 40, 41, 115])},
            "from 0 to 116, the number of events, got 0 to 115",
        ),
        ({"offsets": np.array([0, 40, 40, 41, 2**64 - 1], np.uint64)}, "offsets must rise"),
        ({"labels": np.array([0, 1, 2, 3])}, r"labels must lie in \[0, 2\], got 0 to 3"),
        ({"labels": np.array([0, 1, 2, -1])}, "labels must lie"),
        ({"x": np.full(116, 5, np.uint8)}, r"x must lie in \[0, 4\], got 5 to 5; pass the size"),
        ({"y": np.full(116, 6, np.uint8)}, r"y must lie in \[0, 5\]"),
    ],
)
def test_members_that_do_not_fit(file: Path, change: dict[str, np.ndarray], words: str) -> None:
    np.savez(file, **{**members(), **change})
    with pytest.raises(ValueError, match=words) as caught:
        load_events(file, (6, 5), 3)
    assert str(caught.value).startswith("load_events ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(6,), [6, 5], 6, "65"])
def test_bad_sizes(file: Path, size: Any) -> None:
    with pytest.raises(TypeError, match=r"load_events: size must be \(H, W\)"):
        load_events(file, size)
    with pytest.raises(ValueError, match="a side of the sensor"):
        load_events(file, (6, 257))
    with pytest.raises(ValueError, match="classes"):
        load_events(file, (6, 5), 0)


def test_other_files(tmp_path: Path, file: Path) -> None:
    lacking = {name: value for name, value in members().items() if name != "dt"}
    np.savez(tmp_path / "lacking.npz", **lacking)
    np.savez(tmp_path / "objects.npz", **{**members(), "labels": np.array([Bomb(tmp_path / "ran")] * 4)})
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:500])
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(members()))
    for name, words in (
        ("lacking", "must hold 'dt'"),
        ("objects", "without pickled objects"),
        ("cut", "the archive must be sound"),
        ("pickle", "the archive must be sound"),
        ("none", "the file must exist"),
    ):
        with pytest.raises(ValueError, match=words):
            load_events(tmp_path / f"{name}.npz", (6, 5), 3)
    assert not (tmp_path / "ran").exists()


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.data
def test_the_real_recordings() -> None:
    folder = Path(os.environ["BITSPIKE_DATA"]) / "nmnist"
    data = load_events(folder / "nmnist_test100.npz")
    assert len(data) == 100 and len(data.x) == 385_596
    assert torch.bincount(data.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    assert (data.offsets.diff().min(), data.offsets.diff().max()) == (1069, 6326)
    last = data.time_us[data.offsets[1:] - 1]
    assert int(last.min()) >= 296_841 and int(last.max()) <= 336_040
    frames = data.frames(range(0, 100, 10))
    assert frames.shape == (300, 10, 2, 34, 34) and frames.max() <= 3
    inside = [int((data.time_us[data.offsets[n] : data.offsets[n + 1]] < 300_000).sum()) for n in range(0, 100, 10)]
    assert frames.sum((0, 2, 3, 4)).tolist() == inside
