"""Spoken digits: both layouts, the split of the set and by speaker, what is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sound_files as files
from bitspike.data import DATASETS, SequenceSet, Splits, load
from bitspike.data.sound import SoundOptions, fsdd_constants
from bitspike.testing import check_dataset

SMALL = {"T": 3, "stack": 2, "mels": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    files.fsdd(folder)
    return folder


def table(root: Path, **options: Any) -> dict[tuple[int, int, int], torch.Tensor]:
    """(digit, speaker, number) → what the set should hold of that recording."""
    mean, std = fsdd_constants(root, **SMALL, **options)
    found = {}
    for key in ((d, s, n) for d in range(10) for s in range(3) for n in files.NUMBERS):
        own = SoundOptions(**SMALL).spectra("x", files.spoken(*key), 8000)
        found[key] = torch.from_numpy(((own - mean) / std).astype(np.float32)).reshape(3, 1, 2, 6)
    return found


def keys(part: SequenceSet, wanted: dict[tuple[int, int, int], torch.Tensor]) -> set[tuple[int, int, int]]:
    """Which recordings a part holds; their labels are right."""
    known = {x.numpy().tobytes(): key for key, x in wanted.items()}
    found = [known[row.numpy().tobytes()] for row in part.images]
    assert [digit for digit, _, _ in found] == part.labels.tolist() and len(set(found)) == len(found)
    return set(found)


def parts(splits: Splits) -> tuple[SequenceSet, ...]:
    found = splits.train, splits.validation, splits.test
    assert all(isinstance(part, SequenceSet) for part in found)
    return found  # type: ignore[return-value]


def test_the_split_is_the_set_s_own(root: Path) -> None:
    splits = load("fsdd", root, 24, **SMALL)
    train, validation, test = parts(splits)
    assert (len(train), len(validation), len(test)) == (96, 24, 60)
    assert train.step_shape == (1, 2, 6) and train.steps == 3 and train.classes[7] == "seven"
    wanted = table(root)
    held = keys(test, wanted)
    assert held == {(d, s, n) for d in range(10) for s in range(3) for n in (0, 4)}
    assert keys(train, wanted) | keys(validation, wanted) == wanted.keys() - held


def test_speakers_are_kept_apart(root: Path) -> None:
    wanted = table(root, test_speakers=["bob"])
    splits = load("fsdd", root, 60, test_speakers=["bob"], **SMALL)
    train, validation, test = ({s for _, s, _ in keys(part, wanted)} for part in parts(splits))
    assert test == {1} and len(train) == len(validation) == 1 and train | validation == {0, 2}
    assert len(splits.test) == 60
    by_class = load("fsdd", root, 20, test_speakers=["bob"], validation_by="class", **SMALL)
    assert len(by_class.validation) == 20
    assert {s for _, s, _ in keys(parts(by_class)[1], wanted)} == {0, 2}
    grouped = load("fsdd", root, 40, validation_by="group", **SMALL)
    assert len({s for _, s, _ in keys(parts(grouped)[1], table(root))}) == 1


def test_constants_are_of_what_is_not_tested_on(root: Path, tmp_path: Path) -> None:
    splits = load("fsdd", root, 30, **SMALL)
    x = torch.cat([splits.train.images, splits.validation.images]).flatten(0, 3).double()
    torch.testing.assert_close(x.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(6, dtype=torch.float64), atol=1e-6, rtol=0)
    before = fsdd_constants(root, **SMALL)
    files.fsdd(tmp_path)
    loud = np.random.default_rng(9).integers(-30000, 30000, 900).astype(np.int16)
    files.write_wav(tmp_path / "fsdd" / "recordings" / "3_bob_4.wav", loud)  # tested on
    for one, other in zip(before, fsdd_constants(tmp_path, **SMALL), strict=True):
        np.testing.assert_array_equal(one, other)
    files.write_wav(tmp_path / "fsdd" / "recordings" / "3_bob_5.wav", loud)
    assert (before[0] != fsdd_constants(tmp_path, **SMALL)[0]).any()


def test_the_archive_is_the_files(root: Path, tmp_path: Path) -> None:
    path = files.packed(tmp_path)
    wanted = load("fsdd", root, 24, **SMALL).digest()
    assert load("fsdd", tmp_path, 24, **SMALL).digest() == wanted
    assert load("fsdd", path.parent, 24, **SMALL).digest() == wanted
    assert load("fsdd", root / "fsdd" / "recordings", 24, **SMALL).digest() == wanted


def test_ragged_recordings(root: Path) -> None:
    splits = load("fsdd", root, 24, T=7, stack=2, mels=6, fit="ragged")
    train = splits.train
    assert isinstance(train, SequenceSet) and train.lengths is not None and len(train.lengths.unique()) > 2
    seen = torch.cat([p.images[k, :n].flatten(0, 2) for p in parts(splits)[:2] for k, n in enumerate(p.lengths)])
    torch.testing.assert_close(seen.double().mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="no recording may last more than T = 2 steps"):
        load("fsdd", root, 24, T=2, stack=2, mels=6, fit="ragged")


def test_the_cache(root: Path, tmp_path: Path) -> None:
    plain = load("fsdd", root, 24, **SMALL).digest()
    for _ in range(2):
        assert load("fsdd", root, 24, cache=tmp_path, **SMALL).digest() == plain
    assert len(list(tmp_path.iterdir())) == 1
    speakers = load("fsdd", root, 60, cache=tmp_path, test_speakers=["ann"], **SMALL)  # of the same spectra
    assert speakers.digest() == load("fsdd", root, 60, test_speakers=["ann"], **SMALL).digest()
    assert len(list(tmp_path.iterdir())) == 1
    load("fsdd", root, 24, cache=tmp_path, **{**SMALL, "mels": 7})
    assert len(list(tmp_path.iterdir())) == 2


def test_equal_recordings_in_two_parts_are_refused(tmp_path: Path) -> None:
    files.fsdd(tmp_path)
    folder = tmp_path / "fsdd" / "recordings"
    (folder / "3_bob_4.wav").write_bytes((folder / "3_bob_12.wav").read_bytes())
    with pytest.raises(ValueError, match="no sequence may stand in two parts"):
        load("fsdd", tmp_path, 24, **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_speakers": ["tom"]}, "a test speaker must be one of 'ann', 'bob', 'eve', got 'tom'"),
        ({"test_speakers": "bob"}, "test_speakers must be a list of names"),
        ({"test_speakers": []}, "must name one to 2 of 3 speakers"),
        ({"test_speakers": ["ann", "bob", "eve"]}, "must name one to 2 of 3 speakers"),
        ({"test_speakers": ["ann", "ann"]}, "each once"),
        ({"test_speakers": ["ann", "bob"]}, "at least two speakers to keep apart"),
        ({"validation_by": "speaker"}, "validation_by must be one of"),
        ({"fit": "pad"}, "fit must be one of"),
    ],
)
def test_options_are_refused(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        load("fsdd", root, 24, **{**SMALL, **options})


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    files.fsdd(tmp_path)
    folder = tmp_path / "fsdd" / "recordings"
    for name, rate, words in (
        ("nine_bob_3.wav", 8000, "names must be DIGIT_SPEAKER_NUMBER.wav"),
        ("3_bob_99.wav", 16000, "must have 8000 samples a second, got 16000"),
        ("3_bob_012.wav", 8000, "each with a number of its own, got 3_bob_12"),
        ("3_bob_99.WAV", 8000, "names must be DIGIT_SPEAKER_NUMBER.wav.* got 3_bob_99.WAV"),
        ("3_Bob_99.wav", 8000, "must not differ in capital letters alone.* got Bob, ann, bob, eve"),
    ):
        files.write_wav(folder / name, files.spoken(0, 0, 99), rate)
        with pytest.raises(ValueError, match=words):
            load("fsdd", tmp_path, 24, **SMALL)
        (folder / name).unlink()
    for path in folder.glob("*_[04].wav"):
        path.unlink()
    with pytest.raises(ValueError, match="recordings to train on and to test on, got 120 and 0"):
        load("fsdd", tmp_path, 24, **SMALL)
    with pytest.raises(ValueError, match="must hold fsdd"):
        load("fsdd", tmp_path / "fsdd" / "nowhere", 24, **SMALL)


def test_renamed_files_are_not_answered_with_old_spectra(tmp_path: Path) -> None:
    """In the order of their names the contents stay as they are; in the order of recordings they do not."""
    files.fsdd(tmp_path)
    folder = tmp_path / "fsdd" / "recordings"
    for number, name in enumerate(("0_abe-x_7.wav", "0_abe_7.wav")):
        files.write_wav(folder / name, files.spoken(7, number, 99))
    load("fsdd", tmp_path, 24, cache=tmp_path / "kept", **SMALL)
    (folder / "0_abe_7.wav").rename(folder / "0_abe_8.wav")
    (folder / "0_abe-x_7.wav").rename(folder / "0_abe_7.wav")
    found, fresh = (load("fsdd", tmp_path, 24, **SMALL, **more) for more in ({"cache": tmp_path / "kept"}, {}))
    for one, other in zip(parts(found), parts(fresh), strict=True):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": np.zeros(7, np.uint8)}, "every recording have its numbers"),
        ({"labels": np.full(180, 10, np.uint8)}, "digits 0 to 9"),
        ({"speakers": np.full(180, 3, np.uint8)}, r"speakers must lie in \[0, 2\]"),
        ({"indices": np.zeros(180, np.uint8)}, "each with a number of its own"),
        ({"offsets": np.arange(181)}, "its offsets rise from 0"),
        ({"offsets": np.zeros(181, np.int64)}, "its offsets rise from 0"),
        ({"delta_lo": np.zeros(9, np.uint8)}, "its bytes must be uint8"),
        ({"speaker_names": np.array([255, 255], np.uint8)}, "must be UTF-8"),
    ],
)
def test_damaged_archives_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], words: str) -> None:
    files.packed(tmp_path, **changed)
    with pytest.raises(ValueError, match=words):
        load("fsdd", tmp_path, 24, **SMALL)


@pytest.mark.parametrize("more", [{}, {"test_speakers": ["eve"]}, {"fit": "crop"}, {"fit": "ragged", "T": 14}])
def test_the_set_conforms(root: Path, more: dict[str, Any]) -> None:
    assert DATASETS["fsdd"].groups == "speakers"
    check_dataset("fsdd", root, 40, **{**SMALL, "validation_by": "class", **more})


@pytest.mark.data
def test_the_real_set() -> None:
    splits = load("fsdd", os.environ["BITSPIKE_DATA"], T=8, stack=4)
    assert [len(part) for part in parts(splits)] == [2430, 270, 300]
    assert torch.bincount(splits.test.labels).tolist() == [30] * 10
    apart = load("fsdd", os.environ["BITSPIKE_DATA"], T=8, stack=4, test_speakers=["theo", "lucas"])
    assert [len(part) for part in parts(apart)] == [1500, 500, 1000]
