"""A run that goes on with a changed recipe: what is safe is taken, all else is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bitspike.files import read_json
from bitspike.schema import to_mapping
from bitspike.training.recipe import Recipe, read_recipe, recipe_from_mapping
from bitspike.training.runs import train_run
from runs import CutError, cut_after


def small(name: str = "small", data: dict[str, Any] | None = None, **train: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": name,
            "data": {"name": "digits", "batch_size": 256, "test": False, **(data or {})},
            "model": {"name": "mlp", "options": {"hidden": [8]}},
            "neuron": {"name": "lif"},
            "weight": {"name": "float"},
            "train": {"epochs": 2, "threads": 1, "schedule": "constant", "lr": 0.05, "log_every": 1, **train},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("more") / "run"
    train_run(small(), folder, resume=False)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_more_epochs_give_the_run_that_had_them_from_the_start(run: Path, tmp_path: Path) -> None:
    train_run(small(epochs=4), tmp_path / "whole", resume=False)
    train_run(small(epochs=4), run, resume=True)
    for which in ("final", "best"):
        one, two = (load_file(folder / f"{which}.safetensors") for folder in (run, tmp_path / "whole"))
        assert all(value.equal(two[name]) for name, value in one.items())
    summaries = [read_json(folder / "summary.json") for folder in (run, tmp_path / "whole")]
    assert summaries[0]["key"] == summaries[1]["key"]  # type: ignore[index]
    assert read_recipe(run / "recipe.toml").train.epochs == 4
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_changed_run_can_be_cut_and_changed_again(run: Path, tmp_path: Path) -> None:
    train_run(small(epochs=6), tmp_path / "whole", resume=False)
    with pytest.raises(CutError):
        train_run(small(epochs=4), run, True, cut_after(2), checkpoint_steps=1)
    with pytest.raises(CutError):
        train_run(small(epochs=4), run, True, cut_after(3), checkpoint_steps=1)
    train_run(small(epochs=6, threads=1), run, resume=True)
    one, two = (load_file(folder / "final.safetensors") for folder in (run, tmp_path / "whole"))
    assert all(value.equal(two[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "recipe",
    [
        small("renamed"),
        small(log_every=2),
        small(threads=2),
        small(data={"eval_batch_size": 100}),
        small(data={"root": "x"}),
    ],
)
def test_safe_changes_are_taken(run: Path, recipe: Recipe) -> None:
    wanted = load_file(run / "final.safetensors")
    train_run(recipe, run, resume=True)
    found = load_file(run / "final.safetensors")
    assert all(value.equal(found[name]) for name, value in wanted.items())
    train_run(recipe, run, resume=True)


def test_the_test_split_may_be_read_later(run: Path) -> None:
    assert "test_accuracy" not in read_json(run / "summary.json")  # type: ignore[operator]
    assert "test_accuracy" in train_run(small(data={"test": True}), run, resume=True)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (small(lr=0.1), "train.lr must be 0.05 as in the run, got 0.1; set train.lr back"),
        (small(epochs=1), "train.epochs must be at least 2, which are done, got 1"),
        (small(schedule="cosine"), "train.schedule must be 'constant' as in the run, got 'cosine'"),
        (small(data={"batch_size": 64}), "data.batch_size must be 256 as in the run, got 64"),
        (small(data={"validation": 0.2}), "data.validation must be 0.1"),
        (small(epochs=4, momentum=0.5), "train.momentum must be 0.9"),
        (small(clip_norm=1.0), "train.clip_norm must be None"),
    ],
)
def test_other_changes_are_refused_by_name(run: Path, recipe: Recipe, words: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ValueError) as caught:
        train_run(recipe, run, resume=True)
    assert words in str(caught.value) and str(caught.value).startswith("train --resume: ")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train_run(small(), run, resume=True)  # the advice: set it back


def test_epochs_of_a_cosine_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    train_run(small(schedule="cosine"), tmp_path / "run", resume=False)
    must = "train.epochs must be 2 as in the run, whose schedule 'cosine' is laid over all epochs, got 4"
    with pytest.raises(ValueError, match=rf"{must}; .*allocation.warm_start=RUN/final.safetensors"):
        train_run(small(schedule="cosine", epochs=4), tmp_path / "run", resume=True)
    again = to_mapping(small(schedule="cosine", epochs=1, lr=1e-9))
    again["allocation"] = {"warm_start": str(tmp_path / "run" / "final.safetensors")}
    summary = train_run(recipe_from_mapping(again), tmp_path / "more", resume=False)
    assert abs(summary["validation_accuracy"] - read_json(tmp_path / "run/summary.json")["validation_accuracy"]) < 0.1  # type: ignore[index]


def test_a_recipe_that_cannot_be_read_does_not_stop_the_run(run: Path) -> None:
    (run / "recipe.toml").write_text("nonsense = [")
    train_run(small(), run, resume=True)
    assert read_recipe(run / "recipe.toml") == small()
