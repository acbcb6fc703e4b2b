"""Sets of labels: declared by their dtype, never guessed; trained, measured and shown by every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitspike.cli import main
from bitspike.data import ArraySet, SequenceSet, Splits, gather
from bitspike.files import read_json
from bitspike.training import fit, recipe_from_mapping
from bitspike.training.losses import bce_loss
from bitspike.training.measures import measures_of
from bitspike.training.task import task_of, training_task
from small_recipes import own

RECIPE = own("tags", "bce", 32, 10)


def tagged(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Samples [N, 6] and three labels [N, 3], often none, often several."""
    x = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    return x, np.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0.5, x[:, 3] > 1], 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    x, y = tagged()
    np.savez(folder / "tags.npz", x_train=x, y_train=y)
    (folder / "recipe.toml").write_text(RECIPE)
    main([*train(folder, folder / "run"), "--quiet"])
    return folder


def train(folder: Path, out: Path, *sets: str) -> list[str]:
    return ["train", str(folder / "recipe.toml"), "--out", str(out), "--set", f"data.root={folder}", *sets]


def recipe(**train: Any) -> Any:
    model = {"name": "mlp", "T": 2, "options": {"hidden": [32]}, **train.pop("model", {})}
    given = {"epochs": 2, "lr": 0.01, "optimiser": "adamw", "loss": "bce", "threads": 1, **train}
    parts = {"model": model, "neuron": {"name": "multibit"}, "weight": {"name": "float"}, "train": given}
    return recipe_from_mapping({"name": "r", **parts})


def test_the_kind_of_targets_is_their_dtype() -> None:
    """The same zeros and ones are labels as bool or uint8 [N, K], numbers as floats, and nothing as int64."""
    x, y = tagged()
    kinds = {}
    for dtype in (bool, np.uint8, np.float32):
        splits = gather([(x, y.astype(dtype))])
        kinds[np.dtype(dtype).name] = task_of(splits.train).kind
        assert isinstance(splits.train, ArraySet) and splits.train.labels.shape[1] == 3
    assert kinds == {"bool": "labels", "uint8": "labels", "float32": "numbers"}
    assert gather([(x, y)]).digest() == gather([(x, y.astype(np.uint8))]).digest()
    assert gather([(x, y)]).digest() != gather([(x, y.astype(np.float32))]).digest()
    for wrong, words in (
        (y.astype(np.int64), r"bool or uint8 \[N, K\] \(labels\), got torch.int64"),
        (y[:, 0], r"bool or uint8 \[N, K\] \(labels\), got torch.bool \[400\]"),
        (2 * y.astype(np.uint8), r"labels \[N, K\] must be 0 and 1, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            gather([(x, wrong)])
    assert task_of(gather([(x, y[:, 0].astype(np.uint8))]).train).kind == "classes"


def test_losses_of_another_kind_are_refused_by_name() -> None:
    x, y = tagged()
    labels, numbers = gather([(x, y)]), gather([(x, y.astype(np.float32))])
    with pytest.raises(ValueError, match=r"train\.loss must be one of 'bce', as the targets .* are labels, got 'mse'"):
        training_task(recipe(loss="mse").train, labels.train)
    with pytest.raises(ValueError, match=r"are numbers, got 'bce'; set train\.loss=mse"):
        training_task(recipe().train, numbers.train)
    for key, value in (("label_smoothing", 0.1), ("class_weights", [1.0, 2.0, 3.0]), ("balance_classes", True)):
        with pytest.raises(ValueError, match=f"{key} must be left out where the loss is 'bce': there are no classes"):
            recipe(**{key: value})


@pytest.mark.parametrize("every_step", [False, True])
def test_binary_cross_entropy(every_step: bool) -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(4, 3, 2, dtype=torch.float64), torch.rand(3, 2) > 0.5
    lengths = torch.tensor([1, 4, 2])

    def alone(x: Tensor, y: Tensor) -> Tensor:  # [T, K], of one sample
        p = torch.sigmoid(x if every_step else x.mean(0))
        return -(torch.log(p) * y + torch.log(1 - p) * ~y).mean()

    wanted = torch.stack([alone(outputs[:n, b], targets[b]) for b, n in enumerate(lengths.tolist())]).mean()
    spoiled = outputs.clone()
    for b, n in enumerate(lengths.tolist()):
        spoiled[n:, b] = float("nan")
    spoiled.requires_grad_()
    got = bce_loss(spoiled, targets, every_step, lengths)
    assert torch.allclose(got, wanted, rtol=1e-12)
    (slope,) = torch.autograd.grad(got, spoiled)
    assert slope.isfinite().all() and not slope[1:, 0].any() and slope[0].all()
    whole = bce_loss(outputs, targets, every_step)
    assert torch.allclose(whole, torch.stack([alone(outputs[:, b], targets[b]) for b in range(3)]).mean(), rtol=1e-12)
    assert bce_loss(targets.double() - 0.5, targets) < bce_loss(0.5 - targets.double(), targets)
    with pytest.raises(ValueError, match=r"outputs must be \[T, B, K\] where every_step is true"):
        bce_loss(outputs[0], targets, True)


def test_sequences_of_labels_of_different_lengths_train() -> None:
    torch.manual_seed(0)
    samples = [torch.randn(n, 4) for n in torch.randint(2, 7, (120,)).tolist()]
    labels = torch.stack([torch.stack([s.sum(0)[0] > 0, s.sum(0)[1] > 0.5]) for s in samples])
    items = [(s[None], y[None]) for s, y in zip(samples, labels, strict=True)]
    splits = gather(items, time=True)
    assert isinstance(splits.train, SequenceSet) and splits.train.lengths is not None and splits.train.multilabel
    given = recipe(
        model={"encoder": "frames", "encoder_options": {"ragged": True}, "T": 6, "readout": "steps"},
        loss_options={"every_step": True},
        epochs=8,
    )
    history = fit(given, splits).history
    assert history[-1]["loss"] < history[0]["loss"]


def test_images_of_labels_are_samples_without_augmentation() -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
    splits = gather([(x, x.reshape(60, -1)[:, :3] > 127)])
    assert isinstance(splits, Splits) and isinstance(splits.train, ArraySet) and float(splits.train.images.max()) <= 1


def test_a_run_learns_and_its_best_epoch_is_that_of_the_metric(place: Path) -> None:
    summary = read_json(place / "run" / "summary.json")
    assert isinstance(summary, dict) and summary["findings"] == []
    assert summary["test_micro_f1"] > 0.8 and not [key for key in summary if "accuracy" in key or "error" in key]
    history = summary["history"]
    assert summary["best_validation_micro_f1"] == max(record["validation_micro_f1"] for record in history)
    assert set(summary["metrics"]["test"]) == set(measures_of("labels"))
    assert summary["metrics"]["test"]["micro_f1"] == summary["test_micro_f1"]
    record = json.loads((place / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"train_subset_accuracy", "validation_subset_accuracy", "validation_micro_f1"} <= set(record)


@pytest.mark.parametrize(("metric", "best"), [("mae", min), ("rmse", min), ("r2", max)])
def test_the_best_epoch_of_numbers(tmp_path: Path, metric: str, best: Any) -> None:
    x, _ = tagged(200)
    np.savez(tmp_path / "slopes.npz", x=x, y=np.stack([x[:, 0], 2 * x[:, 1]], 1))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    sets = ["data.name=npz:slopes.npz", "train.loss=mse", "train.epochs=6", f"train.metric={metric}"]
    main([*train(tmp_path, tmp_path / "run", *sets), "--quiet"])
    summary = read_json(tmp_path / "run" / "summary.json")
    assert isinstance(summary, dict) and f"test_{metric}" in summary and "test_error" not in summary
    figures = [record[f"validation_{metric}"] for record in summary["history"]]
    assert summary[f"best_validation_{metric}"] == best(figures)
    assert summary["best_epoch"] == 1 + figures.index(best(figures))
    assert set(summary["metrics"]["test"]) == {"error", "mae", "rmse", "r2"}


def test_every_command_takes_labels(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run = str(place / "run")
    main(["eval", run])
    shown, result = capsys.readouterr().out, read_json(place / "run" / "eval.json")
    assert isinstance(result, dict) and list(result["per_label"]) == ["y0", "y1", "y2"]
    assert shown.startswith("test micro F1 ") and "average precision %" in shown and "labels differ" in shown
    assert np.mean([row["f1"] for row in result["per_label"].values()]) == pytest.approx(result["metrics"]["macro_f1"])
    for command in ("fold", "cost"):
        main([command, run])
    main(["compare", run, run, "--out", str(tmp_path)])
    table = capsys.readouterr().out.splitlines()[-3]
    assert "micro F1 %" in table and "folded micro F1 %" in table and "accuracy" not in table
    main([*train(place, tmp_path / "ann", "neuron={name = 'relu'}", "model.T=1"), "--quiet"])
    main(["convert", str(tmp_path / "ann"), "--out", str(tmp_path / "snn"), "--T", "8", "--set", "convert.images=64"])
    shown = capsys.readouterr().out
    assert "validation micro F1: ANN " in shown and "accuracy" not in shown


def test_one_answer_for_all_is_a_failure(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["train.lr=1e-9", "train.epochs=1", "train.metric=subset_accuracy"]
    with pytest.raises(SystemExit) as caught:
        main([*train(place, tmp_path / "run", *sets), "--quiet"])
    assert caught.value.code == 1 and "is not better than that of one answer for all" in capsys.readouterr().out


def test_a_metric_that_a_part_does_not_define_is_refused_before_the_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, _ = tagged()
    np.savez(tmp_path / "flat.npz", x=x, y=x[:, :1], x_test=x[:9] + 1, y_test=np.ones((9, 1)))
    sets = [f"data.name=npz:{tmp_path}/flat.npz", "train.loss=mse", "train.metric=r2"]
    with pytest.raises(SystemExit) as caught:
        main([*train(place, tmp_path / "run", *sets), "--quiet"])
    assert caught.value.code == 2 and "value 0 is the same in all 9 samples" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
