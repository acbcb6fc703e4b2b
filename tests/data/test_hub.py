"""Sets through `datasets`: a local folder of parquet files, and what is said where something is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bitspike.data import load_hub


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """`datasets`, offline and with a cache of its own."""
    pytest.importorskip("PIL")
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    module.disable_progress_bars()
    yield module
    module.enable_progress_bars()


def write(datasets: Any, folder: Path, encode: Any, parts: dict[str, int], **columns: Any) -> Path:
    folder.mkdir(parents=True)
    for part, count in parts.items():
        rows = {
            "image": [{"bytes": encode(np.full((5, 4, 3), k, np.uint8)), "path": None} for k in range(count)],
            "label": [k % 2 for k in range(count)],
        }
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["off", "on"])}
        rows.update({key: [value] * count for key, (value, _) in columns.items()})
        features.update({key: feature for key, (_, feature) in columns.items()})
        table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        table.to_parquet(folder / f"{part}-00000-of-00001.parquet")
    return folder


def test_a_local_folder(tmp_path: Path, datasets: Any, encode: Any) -> None:
    splits = load_hub(str(write(datasets, tmp_path / "toy", encode, {"train": 20, "test": 6})))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 2, 6]
    assert splits.train.classes == ("off", "on")
    expected = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 3, 5, 4)
    assert torch.equal(splits.test.images, expected) and splits.test.labels.tolist() == [0, 1] * 3
    assert splits.test.name == "toy/test"
    assert not list(tmp_path.rglob("*.arrow"))  # nothing is copied


def test_parts(tmp_path: Path, datasets: Any, encode: Any) -> None:
    root = str(write(datasets, tmp_path / "a", encode, {"train": 20, "validation": 4, "test": 6}))
    splits, swapped = load_hub(root), load_hub(root, test="validation")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 4, 6]
    assert [len(part) for part in (swapped.train, swapped.validation, swapped.test)] == [18, 2, 4]
    alone = load_hub(str(write(datasets, tmp_path / "b", encode, {"train": 20})))
    assert [len(part) for part in (alone.train, alone.validation, alone.test)] == [14, 2, 4]


def test_columns(tmp_path: Path, datasets: Any, encode: Any) -> None:
    more = {"coarse": (0, datasets.ClassLabel(names=["all"])), "plain": (1, datasets.Value("int64"))}
    root = str(write(datasets, tmp_path / "toy", encode, {"train": 20, "test": 6}, **more))
    with pytest.raises(ValueError, match=r"one column of type ClassLabel, got image \(Image\), .*; pass label"):
        load_hub(root)
    with pytest.raises(ValueError, match=r"must have the column 'fine', got image \(Image\)"):
        load_hub(root, label="fine")
    assert load_hub(root, label="label", size=2, channels=1).train.images.shape == (18, 1, 2, 2)
    assert load_hub(root, label="plain").train.classes == ("0", "1")
    with pytest.raises(ValueError, match="an image must be the bytes of its file, got int"):
        load_hub(root, label="label", image="plain")


def test_labels_that_are_withheld(tmp_path: Path, datasets: Any, encode: Any) -> None:
    hidden = {"hidden": (-1, datasets.Value("int64"))}
    root = str(write(datasets, tmp_path / "toy", encode, {"train": 20, "test": 6}, **hidden))
    with pytest.raises(ValueError, match=r"labels must be ints >= 0 .*, got -1; pass test"):
        load_hub(root, label="hidden")


def test_a_damaged_image_is_named(tmp_path: Path, datasets: Any, encode: Any) -> None:
    def broken(pixels: np.ndarray) -> bytes:
        content = encode(pixels)
        return content[:30] if pixels[0, 0, 0] == 3 else content

    root = str(write(datasets, tmp_path / "toy", broken, {"train": 2, "test": 6}))
    with pytest.raises(ValueError, match=r"^load_hub .*toy test image 3: the image must be a sound"):
        load_hub(root)


def test_sets_that_cannot_be_read(tmp_path: Path, datasets: Any, caplog: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.parquet").write_bytes(b"PAR1 junk")
    for name in ("empty", "bad"):
        with pytest.raises(ValueError, match=rf"^load_hub: .*{name} must be a set that datasets can read, got"):
            load_hub(str(tmp_path / name))
    with pytest.raises(
        ValueError, match=r"nobody/nothing must be a set that datasets can read, got .*; check the name"
    ):
        load_hub("nobody/nothing")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"load_hub: datasets must be installed.*bitspike\[datasets\]"):
        load_hub("anything")


def test_versions_that_run_scripts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(__version__="3.6.0"))  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=r"datasets must be >= 4, got 3\.6\.0; upgrade it"):
        load_hub("anything")
