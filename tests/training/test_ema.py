"""The average of the weights: its formula, that training does not see it, what is kept, resume, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitspike.data import Splits
from bitspike.training import ema
from bitspike.training.checkpoint import Checkpoints, read_checkpoint
from bitspike.training.evaluation import evaluate
from bitspike.training.job import load_data
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.runs import open_run, train_run
from bitspike.training.train_config import TrainConfig
from runs import CutError, cut_after, equal


def small(tables: dict[str, Any] | None = None, **train: Any) -> Recipe:
    base = {
        "name": "small",
        "data": {"name": "digits", "batch_size": 64, "test": False},
        "model": {"options": {"width": 4, "stem_stride": 1}},
        "neuron": {"name": "multibit", "train_amplitude": "channel"},
        "weight": {"name": "uniform", "bits": 3},
        "train": {"epochs": 2, "threads": 1, "log_every": 1, **train},
    }
    return recipe_from_mapping({**base, **(tables or {})})


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = load_data(small())
    return replace(whole, train=whole.train.subset(range(320)))


def test_the_network_kept_is_the_average_of_what_training_went_through(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Tensor]] = []
    update = ema.Ema.update

    def noting(self: ema.Ema) -> None:
        seen.append({name: value.double().clone() for name, value in self.model.state_dict().items()})
        update(self)

    monkeypatch.setattr(ema.Ema, "update", noting)
    plain, run = fit(small(), splits), fit(small(ema=0.6), splits)
    wanted = dict(seen[0])
    for n, state in enumerate(seen[1:], 1):
        decay = min(0.6, n / (n + 9))
        wanted = {name: decay * wanted[name] + (1 - decay) * state[name] for name in wanted}
    for name, value in run.model.state_dict().items():
        assert torch.allclose(value.double(), wanted[name], rtol=1e-5, atol=1e-6), name
    last = plain.model.state_dict()
    assert any(name.endswith("raw_amplitude") for name in last)
    for name in last:
        assert seen[-1][name].equal(last[name].double()), name  # training goes on from the weights, not their average
    assert [record["loss"] for record in run.history] == [record["loss"] for record in plain.history]
    assert run.history[-1]["validation_accuracy"] == evaluate(run.model, splits.validation)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_cut_runs_give_the_uninterrupted_curve(tmp_path: Path, splits: Splits, precision: str) -> None:
    recipe = small(ema=0.9, optimiser="adamw", lr=0.005, precision=precision)
    whole = fit(recipe, splits)
    for reports in (3, 5, 6):  # within the first epoch, after it, within the second
        with pytest.raises(CutError):
            fit(recipe, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    for _ in range(2):  # the second time of a finished run
        assert equal(whole, fit(recipe, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))
    newest = read_checkpoint(max(tmp_path.glob("*.safetensors"), key=lambda p: read_checkpoint(p).facts["order"]))
    name = next(name for name in newest.tensors if name.startswith("ema.") and name.endswith("weight"))
    assert not newest.tensors[name].equal(newest.tensors["model." + name.removeprefix("ema.")])


def test_a_folder_holds_the_average(tmp_path: Path) -> None:
    summary = train_run(small(ema=0.9), tmp_path / "run", resume=False)
    _, splits, model = open_run(tmp_path / "run")
    assert evaluate(model, splits.validation) == summary["validation_accuracy"]
    assert summary["history"][-1]["validation_accuracy"] == summary["validation_accuracy"]


LEARNED = {
    "bits": {"neuron": {"name": "adaptive", "bits": 3}},
    "weight bits": {"weight": {"name": "learned_bits", "bits": 4}},
    "steps": {"allocation": {"refined": True, "learn_steps": True}, "model": {"options": {"width": 4}}},
}


@pytest.mark.parametrize("tables", LEARNED.values(), ids=LEARNED)
def test_learned_widths_are_refused_before_anything_is_written(tmp_path: Path, tables: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ema must be left out where bits or time steps are learned"):
        train_run(small(tables, ema=0.9), tmp_path / "run", resume=False)
    assert not list(tmp_path.rglob("*.safetensors")) and not (tmp_path / "run" / "recipe.toml").exists()


def test_steps_of_fixed_windows_and_refined_neurons_stay(splits: Splits) -> None:
    run = fit(small({"allocation": {"refined": True, "learn_steps": False}}, ema=0.9, epochs=1), splits)
    steps = [value for name, value in run.model.state_dict().items() if name.endswith(".steps")]
    assert steps and all(int(value) == 2 for value in steps)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="ema must"):
        TrainConfig(ema=decay)


def test_the_average_is_put_back_after_an_error() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = ema.Ema(model, 0.5, None)
    model.weight.data.fill_(7.0)
    with pytest.raises(KeyError), average.used():
        assert model.weight.item() != 7
        raise KeyError
    assert model.weight.item() == 7
