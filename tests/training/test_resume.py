"""Resume: the same curve bit for bit, after exceptions, kills and damaged files; nothing of ours is unpickled."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike.data import Splits
from bitspike.training.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from bitspike.training.job import load_data
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.runs import open_run, train_run
from runs import CutError, cut_after, equal

ROOT = Path(__file__).resolve().parents[2]


def small(**train: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "small",
            "data": {"name": "digits", "augment": "shift", "pad": 1, "batch_size": 128},
            "model": {"options": {"width": 4, "stem_stride": 1}},
            "neuron": {"name": "ternary", "train_amplitude": "channel"},
            "weight": {"name": "uniform", "bits": 3},
            "train": {"epochs": 2, "threads": 1, "log_every": 1, **train},
        }
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data(small())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_cut_runs_give_the_uninterrupted_curve(tmp_path: Path, splits: Splits, optimiser: str) -> None:
    recipe = small(optimiser=optimiser, lr=0.05 if optimiser == "sgd" else 0.002)
    whole = fit(recipe, splits)
    for reports in (2, 5, 11, 3):
        with pytest.raises(CutError):
            fit(recipe, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(recipe, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))


def test_a_finished_run_resumes_to_itself(tmp_path: Path, splits: Splits) -> None:
    recipe = small(epochs=1)
    first = fit(recipe, splits, None, Checkpoints(tmp_path, "k"))
    assert equal(first, fit(recipe, splits, cut_after(1), Checkpoints(tmp_path, "k")))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_file_is_found_and_the_previous_one_used(tmp_path: Path, splits: Splits, damage: str) -> None:
    recipe = small()
    whole = fit(recipe, splits)
    with pytest.raises(CutError):
        fit(recipe, splits, cut_after(9), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    newest = max(tmp_path.glob("*.safetensors"), key=lambda p: read_checkpoint(p).facts["order"])
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[-7] ^= 1
    newest.write_bytes({"truncate": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    with pytest.raises(ValueError, match=newest.name):
        read_checkpoint(newest)
    checkpoints = Checkpoints(tmp_path, "k")
    again = fit(recipe, splits, None, checkpoints, checkpoint_steps=2)
    assert equal(whole, again)
    assert Checkpoints(tmp_path, "k").load() is not None


def test_all_files_damaged_is_one_clear_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "k")
    for _ in range(2):
        checkpoints.save(Checkpoint({"a": torch.ones(3)}, {}))
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="one whole checkpoint must be left"):
        Checkpoints(tmp_path, "k").load()


def test_checkpoints_of_another_recipe_are_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "one").save(Checkpoint({"a": torch.ones(3)}, {}))
    with pytest.raises(ValueError, match="of this recipe and data"):
        Checkpoints(tmp_path, "two").load()


class Malicious:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_place_of_our_files_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    run = tmp_path / "run"
    train_run(small(epochs=1), run, resume=False)
    for path in [*run.glob("*.safetensors"), *(run / "last").glob("*.safetensors")]:
        path.write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(ValueError, match="whole"):
        open_run(run)
    with pytest.raises(ValueError, match="whole"):
        train_run(small(epochs=1), run, resume=True)
    assert not trap.exists()


def test_train_refuses_to_overwrite_a_run(tmp_path: Path) -> None:
    train_run(small(epochs=1), tmp_path / "run", resume=False)
    with pytest.raises(ValueError, match="--resume"):
        train_run(small(epochs=1), tmp_path / "run", resume=False)
    with pytest.raises(ValueError, match=r"train\.lr must be 0\.1 as in the run"):
        train_run(small(epochs=1, lr=0.2), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("kill", ROOT / "benchmarks" / "resume" / "kill.py")
    assert spec and spec.loader
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
    result = kill.torture(3, tmp_path, seed=1)
    assert result["equal"] and result["kills"] == 3 and result["went_back"] == 0
