"""Mixup and cutmix in a run: losses of shares, the figures beside them, resume, and what they do not go with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bitspike.data import ArraySet, Splits
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.distributed import World
from bitspike.training.job import load_data
from bitspike.training.loop import epoch_batches, fit
from bitspike.training.losses import MIXED, find_loss
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.task import Task
from bitspike.training.train_config import TrainConfig
from runs import CutError, cut_after, equal


def small(loss: str = "mean", **train: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "small",
            "data": {"name": "digits", "augment": "shift", "pad": 1, "batch_size": 64},
            "model": {"options": {"width": 4, "stem_stride": 1}, "readout": "steps" if loss == "tet" else "mean"},
            "neuron": {"name": "ternary"},
            "weight": {"name": "float"},
            "train": {"epochs": 2, "threads": 1, "log_every": 1, "loss": loss, **train},
        }
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = load_data(small())
    return replace(whole, train=whole.train.subset(range(320)))


@pytest.mark.parametrize("loss", ["mean", "tet"])
def test_cut_runs_give_the_uninterrupted_curve(tmp_path: Path, splits: Splits, loss: str) -> None:
    recipe = small(loss, mixup=0.4, cutmix=1.0, label_smoothing=0.1, balance_classes=True, optimiser="adamw", lr=0.002)
    whole = fit(recipe, splits)
    for reports in (2, 5):
        with pytest.raises(CutError):
            fit(recipe, splits, cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(recipe, splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))
    assert not equal(whole, fit(small(loss, label_smoothing=0.1, optimiser="adamw", lr=0.002), splits))


@pytest.mark.parametrize("loss", MIXED)
def test_a_loss_of_shares_is_that_of_both_classes_weighted(loss: str) -> None:
    logits, share = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)), 0.3
    first, second = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 1, 0, 2, 0, 2])
    mixed = share * F.one_hot(first, 3).float() + (1 - share) * F.one_hot(second, 3).float()
    for given in ({}, {"label_smoothing": 0.1}, {"class_weights": torch.tensor([3.0, 1.0, 0.5])}):
        one, other, both = (find_loss(loss)(logits, y, **given) for y in (first, second, mixed))
        assert torch.allclose(both, share * one + (1 - share) * other, atol=1e-6)


def test_accuracy_counts_the_class_of_the_greater_share() -> None:
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    assert float(Task().tally(logits, torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.0, 1.0]]))) == 2


def test_only_batches_of_training_are_mixed(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small(mixup=1.0, epochs=1)
    _, labels = next(iter(epoch_batches(recipe, splits.train, 0, World())))
    assert labels.dtype == torch.float32
    seen: list[torch.dtype] = []
    score = Task.scores
    monkeypatch.setattr(Task, "scores", lambda self, y, t, *a: seen.append(t.dtype) or score(self, y, t, *a))
    fit(recipe, splits)
    assert seen == [torch.int64]


@pytest.mark.parametrize(
    ("train", "word"),
    [
        ({"loss": "mse", "mixup": 0.2}, "takes no shares of classes"),
        ({"loss": "bce", "cutmix": 1.0}, "takes no shares of classes"),
        ({"mixup": -1.0}, "mixup must be 0 or lie in"),
        ({"cutmix": 1e4}, "cutmix must be 0 or lie in"),
    ],
)
def test_what_does_not_go_together_is_refused(train: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TrainConfig(**train)


def test_eventmix_beside_mixup_is_refused() -> None:
    base = {"name": "a", "neuron": {"name": "lif"}, "weight": {"name": "sign"}}
    tables = {"data": {"event_augment": {"mix": 0.5}}, "train": {"mixup": 0.2}}
    with pytest.raises(ValueError, match=r"train\.mixup and train\.cutmix must be 0"):
        recipe_from_mapping({**base, **tables})


def test_rows_of_numbers_take_mixup_and_no_cutmix() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 5, generator=generator), torch.arange(64) % 3
    part = ArraySet(x, y, ("a", "b", "c"), "rows")
    base = {
        "name": "rows",
        "data": {"batch_size": 16},
        "model": {"name": "mlp", "options": {"hidden": [8]}},
        "neuron": {"name": "multibit"},
        "weight": {"name": "float"},
    }
    mixed, cut = ({**base, "train": {"epochs": 1, "threads": 1, key: 0.5}} for key in ("mixup", "cutmix"))
    assert 0 <= fit(recipe_from_mapping(mixed), Splits(part, part, part)).history[0]["train_accuracy"] <= 1
    with pytest.raises(ValueError, match="samples are no images"):
        fit(recipe_from_mapping(cut), Splits(part, part, part))
