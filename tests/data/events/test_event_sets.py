"""Sets of recordings: their files, labels and splits; options; nothing silently left out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import event_files as files
import event_sets as sets
from bitspike.data import load
from bitspike.data.events import (
    FrameOptions,
    apart,
    cifar10_dvs,
    count_frames,
    denoise,
    drop_hot_pixels,
    names_digest,
    read_aedat3,
    read_bin,
    read_shd,
    time_surface,
    voxel_grid,
)
from bitspike.data.group_split import carve_groups


def frames(found: Any, label: int, wanted: np.ndarray) -> bool:
    """Whether a part holds this one with this label."""
    images = found.images.numpy()[found.labels.numpy() == label]
    return any(np.array_equal(image, wanted) for image in images)


def test_nmnist_frames_labels_and_parts(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    splits = load("nmnist", tmp_path, 8, T=5, size=17)
    assert splits.train.images.shape == (32, 5, 2, 17, 17) and splits.train.images.dtype == torch.uint8
    assert (len(splits.validation), len(splits.test)) == (8, 20) and splits.test.name == "nmnist/test"
    for digit in (0, 7):
        path = sorted((tmp_path / "nmnist" / "Test" / str(digit)).iterdir())[1]
        assert frames(splits.test, digit, count_frames(read_bin(path), 5, size=(17, 17)))


@pytest.mark.parametrize("options", [{"by": "count"}, {"step_us": 20_000}, {"T": 3, "by": "time"}])
def test_options_are_those_of_the_frames(tmp_path: Path, options: dict[str, Any]) -> None:
    sets.nmnist(tmp_path)
    splits = load("nmnist", tmp_path, 8, **options)
    events = read_bin(sorted((tmp_path / "nmnist" / "Test" / "4").iterdir())[0])
    how = {"T": 10, **options}
    start = {"start_us": int(events.t[0])} if "step_us" in options else {}
    assert frames(splits.test, 4, count_frames(events, **how, **start))


def test_gesture_trials(tmp_path: Path) -> None:
    sets.gesture(tmp_path)
    splits = load("dvs_gesture", tmp_path, 11, T=4, by="count", validation_by="class")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (33, 11, 22)
    assert [len(load("dvs_gesture", tmp_path, 11).validation)] == [22]  # one of two persons
    events = read_aedat3(tmp_path / "DvsGesture" / "user24_lab.aedat").between(20_500, 29_500)
    assert frames(splits.test, 2, count_frames(events, 4, "count"))
    assert splits.test.labels.tolist() == [*range(11)] * 2


def test_gesture_persons_are_apart(tmp_path: Path) -> None:
    sets.gesture(tmp_path, (("user01",), ("user24", "user01")))
    with pytest.raises(ValueError, match="must share no persons, got user01; split by persons"):
        load("dvs_gesture", tmp_path)


def test_gesture_files_that_lack_something(tmp_path: Path) -> None:
    sets.gesture(tmp_path)
    folder = tmp_path / "DvsGesture"
    table = folder / "user24_led_labels.csv"
    text = table.read_text()
    table.write_text(text + "3,900000,900001\n")
    with pytest.raises(ValueError, match=r"trial 3 of user24_led.aedat must hold events"):
        load("dvs_gesture", tmp_path)
    with pytest.warns(UserWarning, match="no events and 1 empty recordings that are left out"):
        assert len(load("dvs_gesture", tmp_path, faults="skip").test) == 22
    table.unlink()
    with pytest.raises(ValueError, match="the file must exist"):
        load("dvs_gesture", tmp_path)
    (folder / "trials_to_test.txt").write_text("../x.aedat\n")
    with pytest.raises(ValueError, match="must name files, each once"):
        load("dvs_gesture", tmp_path)


def test_cifar10_dvs_split_and_picture(tmp_path: Path) -> None:
    sets.cifar10_dvs(tmp_path)
    splits = load("cifar10_dvs", tmp_path, 8, T=2)
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (30, 20)
    path = tmp_path / "cifar10_dvs" / "cat" / "cifar10_cat_900.aedat"
    held = sorted(files.draw(80, (128, 128), 10 * 3 + 3))
    wanted = np.zeros((2, 2, 128, 128), int)
    for e in held:
        wanted[(e.t - held[0].t) * 2 // (held[-1].t - held[0].t + 1), e.p, 127 - e.x, 127 - e.y] += 1
    assert frames(splits.test, 3, wanted) and not frames(splits.train, 3, wanted)
    path.unlink()  # a missing file moves no other one
    assert len(load("cifar10_dvs", tmp_path, 8, T=2).test) == 19


def test_cifar10_dvs_committed_split() -> None:
    names = list(cifar10_dvs.held_out())
    assert len(set(names)) == 1000 and names_digest(names) == cifar10_dvs.TEST_DIGEST


def test_cifar10_dvs_names_that_could_be_taken_for_another(tmp_path: Path) -> None:
    sets.cifar10_dvs(tmp_path)
    folder = tmp_path / "cifar10_dvs" / "cat"
    (folder / "copy_of_900.aedat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"each with a number of its own, got copy_of_900|got cifar10_cat_900"):
        load("cifar10_dvs", tmp_path)


def test_ncaltech101_split(tmp_path: Path) -> None:
    sets.ncaltech101(tmp_path)
    splits = load("ncaltech101", tmp_path, 6, T=2, size=30)
    assert splits.train.classes == ("BACKGROUND_Google", "accordion", "yin_yang")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (48, 6, 6)
    path = tmp_path / "Caltech101" / "accordion" / "image_0020.bin"
    assert frames(splits.test, 1, count_frames(read_bin(path, (180, 240)), 2, size=(30, 30)))
    path.unlink()
    (path.parent / "image_0010.bin").unlink()
    with pytest.raises(ValueError, match="every class must have test recordings, got none of accordion"):
        load("ncaltech101", tmp_path)


def test_shd_counts(tmp_path: Path) -> None:
    sets.shd(tmp_path)
    splits = load("shd", tmp_path, 8, T=20, size=70)
    assert splits.test.images.shape == (20, 20, 70) and len(splits.train.classes) == 20
    one = list(read_shd(tmp_path / "SHD" / "shd_test.h5"))[3]
    wanted = count_frames(one.events, 20, size=(1, 70))[:, 1, 0]
    assert frames(splits.test, 3, wanted)
    assert load("shd", tmp_path, 8).train.images.shape[1:] == (100, 700)
    assert (splits.train.images.sum((1, 2)) == 50).all()


def test_skipped_events_are_said(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    path = next((tmp_path / "nmnist" / "Train" / "3").iterdir())
    path.write_bytes(path.read_bytes() + struct.pack("BBBBB", 200, 3, 127, 255, 255) + b"ab")
    with pytest.raises(ValueError, match="must hold whole events"):
        load("nmnist", tmp_path)
    with pytest.warns(UserWarning, match="1 truncated, 1 outside events and 0 empty"):
        assert len(load("nmnist", tmp_path, 8, faults="skip").train) == 32
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="no events and 1 empty recordings"):
        assert len(load("nmnist", tmp_path, 8, faults="skip").train) == 31


def test_the_same_recording_in_both_parts_is_found(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    train = next((tmp_path / "nmnist" / "Train" / "3").iterdir())
    next((tmp_path / "nmnist" / "Test" / "5").iterdir()).write_bytes(train.read_bytes())
    with pytest.raises(ValueError, match="no sequence may stand in two parts"):
        load("nmnist", tmp_path)


def test_the_same_recording_in_training_and_validation_part_is_found(tmp_path: Path) -> None:
    """Of two copies in one class every draw that parts them is refused."""
    sets.nmnist(tmp_path)
    first, second, *_ = sorted((tmp_path / "nmnist" / "Train" / "3").iterdir())
    second.write_bytes(first.read_bytes())
    refused = 0
    for seed in range(6):
        try:
            splits = load("nmnist", tmp_path, 10, seed=seed)
        except ValueError as error:
            assert "no sequence may stand in two parts, got 1 in both 'train' and 'validation'" in " ".join(
                str(error).split()
            )
            refused += 1
            continue
        rows = [{x.numpy().tobytes() for x in part.images} for part in (splits.train, splits.validation)]
        assert not rows[0] & rows[1]
    assert 0 < refused < 6


def test_capitals_in_the_end_of_a_name_hide_no_file(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    path = sorted((tmp_path / "nmnist" / "Train" / "3").iterdir())[0]
    path.rename(path.with_suffix(".BIN"))
    splits = load("nmnist", tmp_path, 10)
    assert len(splits.train) + len(splits.validation) == 40


def test_the_cache_of_a_set(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    cache = tmp_path / "cache"
    first = load("nmnist", tmp_path, 8, cache=cache)
    assert len(list(cache.iterdir())) == 2
    again = load("nmnist", tmp_path, 8, cache=str(cache))
    assert first.digest() == again.digest() == load("nmnist", tmp_path, 8).digest()
    assert load("nmnist", tmp_path, 8, cache=cache, T=5).train.steps == 5 and len(list(cache.iterdir())) == 4
    folder = tmp_path / "nmnist" / "Train"
    (folder / "0").rename(folder / "x")
    (folder / "1").rename(folder / "0")
    (folder / "x").rename(folder / "1")  # other labels for the same bytes
    swapped = load("nmnist", tmp_path, 8, cache=cache)
    assert swapped.digest() == load("nmnist", tmp_path, 8).digest() != first.digest()
    with pytest.raises(ValueError, match="cache must be left out where faults are skipped"):
        load("nmnist", tmp_path, cache=cache, faults="skip")


def test_labels_beyond_a_byte_are_kept(tmp_path: Path) -> None:
    """They ride with the frames in one array."""
    from bitspike.data.events.options import frames_of

    at = np.zeros(1, np.uint16)
    from bitspike.data.events import Recording

    one = Recording(np.zeros(1, np.int64), at, at, at == 0, (1, 1))
    labels = [0, 127, 128, 300, 2**20]
    found = frames_of("toy", FrameOptions(T=1), [], lambda: [(one, label) for label in labels], (1, 1))
    assert found[1].tolist() == labels and found[0].tolist() == [[[[[0]], [[1]]]]] * 5


def persons_of(part: Any, folder: Path, names: tuple[str, ...], **options: Any) -> set[str]:
    """Whose recordings a part of DVS128 Gesture holds, by their frames."""
    found = set()
    for name in names:
        for light in ("led", "lab"):
            whole = read_aedat3(folder / f"{name}_{light}.aedat")
            for k in range(sets.GESTURES):
                trial = whole.between(10_000 * k + 500, 10_000 * k + 9500)
                if frames(part, k, count_frames(trial, **options)):
                    found.add(name)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_no_person_stands_in_training_and_validation_part(seed: int, tmp_path: Path) -> None:
    names = ("user01", "user02", "user03", "user04", "user05")
    sets.gesture(tmp_path, (names, ("user24",)))
    options = {"T": 2, "size": (32, 32)}
    splits = load("dvs_gesture", tmp_path, 0.4, seed, T=2, size=32, cache=tmp_path / "cache")
    held, kept = (persons_of(p, tmp_path / "DvsGesture", names, **options) for p in (splits.validation, splits.train))
    assert len(held) == 2 and not held & kept and held | kept == set(names)
    again = load("dvs_gesture", tmp_path, 0.4, seed, T=2, size=32, cache=tmp_path / "cache")
    assert again.digest() == splits.digest()  # persons come out of the cache, too
    mixed = load("dvs_gesture", tmp_path, 0.4, seed, T=2, size=32, validation_by="class")
    assert len(persons_of(mixed.validation, tmp_path / "DvsGesture", names, **options)) > 2


def test_speakers_stand_on_one_side(tmp_path: Path) -> None:
    sets.shd(tmp_path)
    splits = load("shd", tmp_path, 40, T=5, size=70)
    said = {one.speaker: [] for one in read_shd(tmp_path / "SHD" / "shd_train.h5")}
    for one in read_shd(tmp_path / "SHD" / "shd_train.h5"):
        wanted = count_frames(one.events, 5, size=(1, 70))[:, 1, 0]
        said[one.speaker].append(frames(splits.validation, one.label, wanted))
    assert sorted(map(any, said.values())) == sorted(map(all, said.values())) == [False] * 4 + [True] * 2


def test_files_that_do_not_say_who_speaks(tmp_path: Path) -> None:
    sets.shd(tmp_path)
    import h5py

    with h5py.File(tmp_path / "SHD" / "shd_train.h5", "r+") as file:
        del file["extra/speaker"]
    splits = load("shd", tmp_path, 40, T=5)
    assert len(splits.validation) == 40 and splits.validation.labels.bincount().tolist() == [2] * 20
    with pytest.raises(ValueError, match="do not say which speakers were recorded, got 'group'"):
        load("shd", tmp_path, 40, T=5, validation_by="group")


@pytest.mark.parametrize("number", [-1, -2, 2**28 - 1, 2**40])
def test_files_that_say_badly_who_speaks(number: int, tmp_path: Path) -> None:
    """A number beyond what is kept would come back as another speaker's, or as none's: then the split is by class."""
    sets.shd(tmp_path)
    import h5py

    with h5py.File(tmp_path / "SHD" / "shd_train.h5", "r+") as file:
        speakers = file["extra/speaker"][:].astype(np.int64)
        del file["extra/speaker"]
        file["extra/speaker"] = np.where(np.arange(120) == 7, number, speakers)
    with pytest.raises(ValueError, match=rf"who was recorded must be said of all .*got {number} of recording 7"):
        load("shd", tmp_path, 40, T=5)


def test_one_person_alone_cannot_be_split_by(tmp_path: Path) -> None:
    sets.gesture(tmp_path, (("user01",), ("user24",)))
    with pytest.raises(ValueError, match=r"at least two persons to keep apart, got 1; set validation_by='class'"):
        load("dvs_gesture", tmp_path)
    with pytest.raises(ValueError, match="validation_by must be one of 'group', 'class', got 'person'"):
        load("dvs_gesture", tmp_path, validation_by="person")
    with pytest.raises(ValueError, match="an option of nmnist must be one of"):
        load("nmnist", tmp_path, validation_by="class")


def test_a_class_of_one_person_is_not_left_without_training() -> None:
    labels, groups = torch.tensor([0, 1, 0, 2]), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="every class must have training samples of persons"):
        carve_groups(labels, groups, 2, 0, "persons")


def test_forms_of_frames(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    events = read_bin(sorted((tmp_path / "nmnist" / "Test" / "4").iterdir())[0])
    cache = tmp_path / "cache"
    for options, wanted in (
        ({"form": "surface", "tau_us": 5e4}, time_surface(events, 3, 5e4)),
        ({"form": "surface", "tau_us": 5e4, "by": "count"}, time_surface(events, 3, 5e4, "count")),
        ({"form": "voxels"}, voxel_grid(events, 3, channels=2)),
        ({"noise_us": 10**6}, count_frames(denoise(events, 10**6), 3)),
        ({"hot_hz": 2 * 1e6 / events.duration_us}, count_frames(drop_hot_pixels(events, 2e6 / events.duration_us), 3)),
    ):
        for _ in range(2):
            splits = load("nmnist", tmp_path, 8, T=3, cache=cache, **options)
            assert frames(splits.test, 4, wanted), options
    sets.shd(tmp_path)
    one = next(read_shd(tmp_path / "SHD" / "shd_test.h5"))
    wanted = time_surface(one.events, 4, 5e4, size=(1, 70))[:, 1, 0]
    assert frames(load("shd", tmp_path, 20, T=4, size=70, form="surface", tau_us=5e4).test, 0, wanted)


def test_what_a_filter_leaves_nothing_of_is_a_fault(tmp_path: Path) -> None:
    sets.nmnist(tmp_path)
    with pytest.raises(ValueError, match=r"recording 0: .*events that the filters leave, got none, after 60 noise; w"):
        load("nmnist", tmp_path, 8, noise_us=1)
    path = sorted((tmp_path / "nmnist" / "Train" / "3").iterdir())[0]
    lonely = [e for e in files.draw(60, (34, 34), 3)][:1]
    path.write_bytes(files.bin40(lonely))
    with pytest.warns(UserWarning, match="got no events and 1 empty recordings"):
        assert len(load("nmnist", tmp_path, 8, noise_us=10**6, faults="skip").train) == 31


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"T": 0}, "T must lie"),
        ({"by": "events"}, "by must be one of"),
        ({"step_us": 0}, "step_us must lie"),
        ({"step_us": 9, "by": "count"}, "step_us must be left out by count"),
        ({"size": 35}, r"size must lie in \[1, 34\]"),
        ({"faults": "ignore"}, "faults must be one of"),
        ({"form": "count"}, "form must be one of 'counts'"),
        ({"form": "surface"}, "tau_us must be given where form is 'surface'"),
        ({"tau_us": 3.0}, "tau_us must be left out where form is 'counts'"),
        ({"form": "surface", "tau_us": 0.0}, "tau_us must be"),
        ({"form": "voxels", "by": "count"}, "by and step_us must be left out where form is 'voxels'"),
        ({"form": "voxels", "step_us": 9}, "by and step_us must be left out where form is 'voxels'"),
        ({"form": "surface", "tau_us": 1e10}, r"tau_us must lie in \[0, 10+\]"),
        ({"hot_hz": -1.0}, "hot_hz must be"),
        ({"hot_hz": 1e300}, "hot_hz must lie"),
        ({"noise_us": 0}, "noise_us must lie"),
        ({"steps": 5}, "an option of nmnist must be one of 'T'"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    sets.nmnist(tmp_path)
    with pytest.raises(ValueError, match=words):
        load("nmnist", tmp_path, **options)


@pytest.mark.parametrize("name", list(sets.WRITERS))
def test_a_root_without_the_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"load_{name}: .* must hold .*copy them there or pass another root"):
        load(name, tmp_path)


def test_apart() -> None:
    apart("toy", ["a"], ["b"])
    with pytest.raises(ValueError, match="must share no speakers, got 1, 2, 3, 4, 5 and 2 more"):
        apart("toy", range(9), range(1, 8), "speakers")
