"""Sets of sequences: what they keep, what they refuse, and where they come from."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitspike.data import Batches, SequenceSet, Splits, gather, load, source
from bitspike.data.arrays import load_arrays

NAMES = ("left", "right")


def sequences(dtype: torch.dtype = torch.uint8, **given: Any) -> SequenceSet:
    x = torch.arange(6 * 4 * 3).reshape(6, 4, 3).to(dtype)
    return SequenceSet(**{"images": x, "labels": torch.arange(6) % 2, "classes": NAMES, "name": "toy", **given})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float32])
def test_samples_stay_what_they_are_until_a_batch(dtype: torch.dtype) -> None:
    data = sequences(dtype)
    assert data.to("cpu").images.dtype == dtype and (data.steps, data.step_shape) == (4, (3,))
    batches = list(Batches(data, 4))
    assert [x.shape for x, _ in batches] == [(4, 4, 3), (2, 4, 3)]
    whole = torch.cat([x for x, _ in batches])
    assert whole.dtype == torch.float32 and torch.equal(whole, data.images.float())
    assert torch.equal(data.subset([3, 1]).images, data.images[[3, 1]])


def test_top_is_what_maps_to_one() -> None:
    x, _ = next(iter(Batches(sequences(top=4), 6)))
    assert torch.equal(x, sequences().images.float() / 4)
    assert torch.equal(sequences(top=4).ends(), torch.tensor([0.0, 71 / 4]))


def test_the_digest_sees_all_that_matters_and_not_the_name() -> None:
    seen = {
        sequences().digest(),
        sequences(torch.int16).digest(),
        sequences(top=2).digest(),
        sequences(labels=torch.zeros(6, dtype=torch.int64)).digest(),
        sequences(images=sequences().images.reshape(6, 2, 6)).digest(),
        sequences(images=sequences().images.flip(1)).digest(),
        sequences(classes=("up", "down")).digest(),
    }
    assert len(seen) == 7 and sequences(name="other").digest() in seen


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": torch.zeros(6, 4)}, r"must be \[N, T, \.\.\.\]"),
        ({"images": torch.zeros(6, 0, 3)}, "without an empty axis"),
        ({"images": torch.zeros(6, 4, 3, dtype=torch.float64)}, "tensor .* of uint8, int8"),
        ({"images": torch.full((6, 4, 3), float("nan"))}, "finite"),
        ({"images": torch.full((6, 4, 3), 2**24 + 1, dtype=torch.int32)}, r"within ±2\^24"),
        ({"labels": torch.arange(6)}, r"labels must lie in \[0, 1\]"),
        ({"labels": torch.arange(5) % 2}, "equally many"),
        ({"labels": torch.zeros(6, 3)}, "a value for every name"),
        ({"top": 0}, "top"),
    ],
)
def test_what_is_wrong_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        sequences(**given)


def test_parts_must_have_the_same_steps_and_dtype() -> None:
    for other in (sequences(torch.int16), sequences(images=sequences().images[:, :2]), sequences(top=2)):
        with pytest.raises(ValueError, match="parts must share"):
            Splits(sequences(), sequences(), other)


def test_stills_are_not_augmented_as_sequences_nor_the_other_way_round() -> None:
    frames = sequences(images=torch.zeros(6, 4, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="have a time axis"):
        Batches(frames, 2, augment="shift")


def arrays(dtype: Any = np.uint8, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 100, (count, 5, 2, 6)).astype(dtype)
    return x, np.arange(count) % 4


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.uint8, torch.uint8),
        (np.int64, torch.uint8),
        (np.uint16, torch.uint8),
        (np.bool_, torch.uint8),
        (np.float64, torch.float32),
        (np.float16, torch.float32),
    ],
)
@pytest.mark.parametrize("place", ["archive.npz", "folder"])
def test_files_are_read_in_their_order(tmp_path: Path, dtype: Any, kept: torch.dtype, place: str) -> None:
    x, y = arrays(dtype)
    if dtype is np.bool_:
        x = np.unpackbits(np.arange(40, dtype=np.uint8)[:, None], axis=1).reshape(40, 4, 2).astype(bool)
    save(tmp_path / place, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:], x_validation=x[:0])
    (tmp_path / "folder" / "x_validation.npy").unlink() if place == "folder" else save(
        tmp_path / place, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:]
    )
    splits = load(f"npz:{place}", tmp_path, 6, time=True)
    assert isinstance(splits.train, SequenceSet) and splits.train.images.dtype == kept
    assert torch.equal(splits.test.images.double(), torch.from_numpy(x[30:].astype(np.float64)))
    assert splits.test.labels.tolist() == y[30:].tolist()
    assert (len(splits.train), len(splits.validation)) == (24, 6)


def save(path: Path, **members: np.ndarray) -> None:
    if path.suffix == ".npz":
        np.savez(path, **members)
        return
    path.mkdir()
    for name, array in members.items():
        np.save(path / f"{name}.npy", array)


@pytest.mark.parametrize("place", ["archive.npz", "folder"])
@pytest.mark.parametrize(
    ("names", "time", "message"),
    [
        (("x_train", "y_train", "lengths"), True, r"lengths_train, .* got 'lengths'"),
        (("x", "y", "lengths_train"), True, "got 'lengths_train'"),
        (("x", "y", "lengths"), False, "lengths must be left out"),
        (("x_train", "y_train", "lengths_train"), False, "lengths must be left out"),
        (("x_train", "y_train", "lengths_train", "lengths_test"), True, "a part that is there, got 'lengths_test'"),
        (("x_train", "y_train", "x_val", "y_val"), True, "got 'x_val', 'y_val'"),
        (("x", "y", "X_test", "Y_test"), False, "got 'X_test', 'Y_test'"),
        (("x_train", "y_train", "x", "y"), True, "got 'x', 'y'"),
    ],
)
def test_what_is_called_like_a_part_is_never_passed_over(
    tmp_path: Path, place: str, names: tuple[str, ...], time: bool, message: str
) -> None:
    x, y = arrays(np.float32)
    held = {"x": x, "y": y, "lengths": np.arange(len(x)) % x.shape[1] + 1}
    save(tmp_path / place, **{name: held[name.lower().partition("_")[0]] for name in names})
    with pytest.raises(ValueError, match=message):
        load_arrays(tmp_path / place, time=time)


def test_other_members_are_not_looked_at(tmp_path: Path) -> None:
    x, y = arrays(np.float32)
    save(tmp_path / "a.npz", x=x, y=y, x_mean=x[:3], mask=x, speaker=y)
    assert len(load_arrays(tmp_path / "a.npz", time=True).train) > 0


def test_the_greatest_integers_do_not_become_negative(tmp_path: Path) -> None:
    x, y = arrays(np.int64)
    save(tmp_path / "a.npz", x=(-x).astype(np.uint64), y=y)
    with pytest.raises(ValueError, match=r"below 2\^63"):
        load_arrays(tmp_path / "a.npz", time=True)


def test_integers_are_kept_in_the_fewest_bytes_that_hold_all_parts() -> None:
    x, y = arrays(np.int64)
    assert gather([(x, y)], time=True).train.images.dtype == torch.uint8
    assert gather([(-x, y)], time=True).train.images.dtype == torch.int8
    low = gather([(x, y)], [(x[:8] + 256, y[:8])], [(-x[:8] - 1, y[:8])], time=True)
    assert low.train.images.dtype == torch.int16 and torch.equal(low.validation.images, torch.from_numpy(x[:8] + 256))
    with pytest.raises(ValueError, match="float32 holds exactly"):
        gather([(x + 2**24, y)], time=True)


def test_nothing_is_taken_for_a_time_axis_without_being_called_one(tmp_path: Path) -> None:
    x, y = arrays()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    still = load_arrays(tmp_path / "a.npz").train
    assert not isinstance(still, SequenceSet) and still.step_shape == (5, 2, 6)
    np.savez(tmp_path / "b.npz", x=x[..., None], y=y)
    with pytest.raises(ValueError, match=r"data\.time = true"):
        load_arrays(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=x.astype(np.int16), y=y)
    with pytest.raises(ValueError, match=r"data\.time = true"):
        load_arrays(tmp_path / "c.npz")
    with pytest.raises(ValueError, match="no time axis"):
        load_arrays(tmp_path / "a.npz", top=255)


def test_arrays_that_are_no_sequences_are_refused() -> None:
    x, y = arrays()
    for wrong, message in (
        (x[:, 0, 0], "an axis behind the steps"),
        (x[:, :0], "none empty"),
        (x.astype(complex), "integers or floats"),
    ):
        with pytest.raises(ValueError, match=message):
            gather([(torch.from_numpy(wrong), torch.from_numpy(y))], time=True)


def test_a_sequence_in_two_parts_is_refused() -> None:
    x, y = arrays()
    with pytest.raises(ValueError, match=r"2 in both 'train' and 'test', such as \[3\] and \[2\]"):
        gather([(x[:20], y[:20])], test=[(x[[7, 30, 3]], y[[7, 30, 3]])], time=True)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    made = types.ModuleType("my_sources")
    monkeypatch.setitem(sys.modules, "my_sources", made)
    yield made


def given(**changed: Any) -> dict[str, Any]:
    x, y = arrays()
    whole = {"x_train": x[:30], "y_train": y[:30], "x_test": torch.from_numpy(x[30:]), "y_test": y[30:], "time": True}
    return {key: value for key, value in {**whole, **changed}.items() if value is not None}


def test_a_source_is_called_with_root_and_kept_in_order(module: types.ModuleType) -> None:
    seen = []

    @source
    def made(root: Any = None) -> dict[str, Any]:
        seen.append(root)
        return given(classes=["a", "b", "c", "d"], top=100)

    module.made = made
    splits = load("python:my_sources:made", "here", 6)
    assert seen == ["here"] and splits.train.classes == ("a", "b", "c", "d") and splits.train.top == 100
    assert np.array_equal(splits.test.images.numpy(), arrays()[0][30:])
    assert load("python:my_sources:made").digest() == load("python:my_sources:made").digest()
    module.still = source(lambda root: given(time=None))
    assert load("python:my_sources:still").train.step_shape == (5, 2, 6)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1, 2], "must return a mapping"),
        ({}, "must return both 'x_train' and 'y_train'"),
        (given(y_test=None), "must return both 'x_test' and 'y_test'"),
        (given(x_tset=0), "did you mean 'x_test'"),
        (given(time=1), "'time' must be True or False"),
        (given(top=2.5), "'top' must be an integer"),
        (given(time=None, top=3), "no time axis"),
        (given(classes="abcd"), "'classes' must be names"),
        (given(classes=("a", "b")), r"labels must lie in \[0, 1\], as 2 classes are named"),
        (given(x_train=[[1]]), "must be an array of numbers"),
        (given(x_train=np.array(["a"])), "must be an array of numbers"),
        (given(x_test=None, y_test=None, lengths_test=np.ones(10, int)), "'lengths_test' must be left out"),
        (given(x_test=arrays()[0][30:, :4]), "of the kind and shape of the training part"),
        (given(x_test=arrays()[0][:10]), "no sequence may stand in two parts"),
        (given(y_train=np.arange(29)), "equally many"),
        (given(y_train=-np.arange(30)), "labels must be >= 0"),
        (given(x_train=arrays(float)[0][:30] * np.nan), "kind and shape|finite"),
    ],
)
def test_what_a_source_breaks_is_said(module: types.ModuleType, returned: Any, message: str) -> None:
    module.made = source(lambda root=None: returned)
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        load("python:my_sources:made")
    assert "my_sources:made" in str(caught.value)


def test_only_marked_functions_of_modules_that_are_there_are_called(module: types.ModuleType, tmp_path: Path) -> None:
    called: list[Any] = []
    module.plain = called.append
    module.nothing = source(lambda: given())
    for name, message in (
        ("python:my_sources:plain", "without the mark"),
        ("python:os:system", "without the mark"),
        ("python:my_sources:other", "no function of that name"),
        ("python:my_sources", "package.module:function"),
        ("python:no_such_module_here:f", "must be importable"),
        ("python:my_sources:nothing", "callable with root alone"),
        ("python:my_sources:a-b", "package.module:function"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            load(name, tmp_path)
    assert not called


def test_an_error_of_the_users_own_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half_a_source.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        load("python:half_a_source:f")


def test_options_of_still_sets_are_refused(module: types.ModuleType) -> None:
    module.made = source(lambda root=None: given())
    for name in ("digits", "python:my_sources:made"):
        with pytest.raises(ValueError, match="must not be given"):
            load(name, time=True)
