"""Own arrays and numbers to be met: from an npz file or any iterable through training and every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bitspike.cli import main
from bitspike.data import ArraySet, Splits, gather
from bitspike.data.arrays import load_arrays
from bitspike.files import read_json
from bitspike.training import fit, load_data, recipe_from_mapping
from bitspike.training.evaluation import evaluate
from bitspike.training.task import training_task
from small_recipes import own

WIDE = torch.tensor(1e300, dtype=torch.float64)
RECIPE = own("slopes", "mse", 32, 12)


def points(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Samples [N, 6] and two smooth functions of them [N, 2]."""
    x = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    return x, np.stack([x[:, 0] + 0.5 * x[:, 1], x[:, 2] - x[:, 3]], 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a recipe and its run."""
    folder = tmp_path_factory.mktemp("regression")
    x, y = points()
    np.savez(folder / "slopes.npz", x_train=x, y_train=y)
    (folder / "recipe.toml").write_text(RECIPE)
    main([*train(folder, folder / "run"), "--quiet"])
    return folder


def train(folder: Path, out: Path, *sets: str) -> list[str]:
    return ["train", str(folder / "recipe.toml"), "--out", str(out), "--set", f"data.root={folder}", *sets]


def recipe(**tables: Any) -> Any:
    base = {
        "name": "r",
        "data": {"name": "digits", "batch_size": 32},
        "model": {"name": "mlp", "T": 2, "options": {"hidden": [32]}},
        "neuron": {"name": "multibit"},
        "weight": {"name": "float"},
        "train": {"epochs": 12, "lr": 0.01, "optimiser": "adamw", "loss": "mse", "threads": 1},
    }
    return recipe_from_mapping({**base, **tables})


def test_a_run_learns_and_figures_are_errors(place: Path) -> None:
    summary = read_json(place / "run" / "summary.json")
    assert isinstance(summary, dict) and summary["findings"] == []
    assert not [key for key in summary if "accuracy" in key]
    assert 0 < summary["test_error"] < 0.6
    assert summary["folded_test_error"] == pytest.approx(summary["test_error"], 0.05)
    assert summary["validation_error"] < summary["history"][0]["validation_error"] < 2
    assert summary["best_validation_error"] == min(record["validation_error"] for record in summary["history"])
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train_error"] for line in lines] == [r["train_error"] for r in summary["history"]]


def test_every_command_takes_a_regression(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run = str(place / "run")
    main(["eval", run])
    shown = capsys.readouterr().out
    result = read_json(place / "run" / "eval.json")
    assert isinstance(result, dict) and list(result["per_value"]) == ["y0", "y1"] and "test error" in shown
    squares = sum(v * v for v in result["per_value"].values()) / 2
    assert result["test_error"] ** 2 == pytest.approx(squares)
    for command in ("fold", "cost"):
        main([command, run])
    main(["compare", run, run, "--out", str(tmp_path)])
    assert "validation error" in capsys.readouterr().out.splitlines()[-3] and (tmp_path / "pareto.png").exists()
    ann = tmp_path / "ann"
    main([*train(place, ann, "neuron={name = 'relu'}", "model.T=1"), "--quiet"])
    main(["convert", str(ann), "--out", str(tmp_path / "snn"), "--T", "8", "--set", "convert.images=64"])
    shown = capsys.readouterr().out
    assert "validation error: ANN " in shown and "accuracy" not in shown
    assert read_json(tmp_path / "snn" / "summary.json")["validation_error"] < 1  # type: ignore[index]


def test_a_study_of_regressions(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    text = f'name = "q"\nout = "{tmp_path}/out"\nbase = "recipe.toml"\nseeds = [0]\n[[arms]]\nname = "one"\n'
    (place / "queue.toml").write_text(text)
    pictures = [f"--{kind}={tmp_path}/{kind}.png" for kind in ("picture", "pareto", "levels")]
    main(["study", str(place / "queue.toml"), "--set", f"data.root={place}", "train.epochs=2", *["--quiet"], *pictures])
    head = capsys.readouterr().out.splitlines()[0]
    assert "folded error" in head and "accuracy" not in head
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["train.label_smoothing=0.1"], "label_smoothing must be left out where the loss is 'mse'"),
        (["train.class_weights=[1, 2]"], "class_weights must be left out where the loss is 'mse'"),
        (["train.balance_classes=true"], "balance_classes must be left out where the loss is 'mse'"),
        (["train.loss=mean"], "train.loss must be one of 'huber', 'l1', 'mse', as the targets of 'npz/train'"),
        (["data.augment=shift"], "augment must be 'none'"),
        (["data.size=8"], "size must be left out"),
        (["data.name=digits"], "train.loss must be one of 'mean', 'tet', as the targets of 'digits/train' are classes"),
        (["data.name=npz:none.npz"], "the file must exist"),
        (["data.name=npz:"], "npz: must be followed by a place"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sets: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*train(place, tmp_path / "run", *sets), "--quiet"])
    line = capsys.readouterr().err
    assert caught.value.code == 2 and words in line and line.count("\n") == 1, line
    assert not (tmp_path / "run").exists()


def test_worse_than_the_mean_target_is_a_failure(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = points()
    np.savez(tmp_path / "far.npz", x=x, y=y + 100)
    with pytest.raises(SystemExit) as caught:
        main([*train(place, tmp_path / "run", "train.epochs=1", f"data.name=npz:{tmp_path}/far.npz"), "--quiet"])
    assert caught.value.code == 1 and "is not below that of the mean target" in capsys.readouterr().out


def test_huber_and_every_step_train_too() -> None:
    x, y = points()
    splits = gather([(x, y)])
    first = fit(recipe(train={"epochs": 3, "loss": "huber", "loss_options": {"delta": 0.5}, "threads": 1}), splits)
    steps = fit(recipe(model={"name": "mlp", "readout": "steps", "options": {"hidden": [8]}}), splits)
    for run in (first, steps):
        assert run.history[-1]["validation_error"] < run.history[0]["validation_error"]


def test_fit_takes_iterables_and_learns_what_it_learns_from_splits() -> None:
    x, y = (torch.from_numpy(array) for array in points())
    splits = gather([(x[:300], y[:300])], [(x[300:350], y[300:350])], [(x[350:], y[350:])])
    small = recipe(train={"epochs": 2, "loss": "mse", "lr": 0.01, "threads": 1})
    wanted = fit(small, splits).history[-1]["loss"]
    loaders = tuple(DataLoader(TensorDataset(x[a:b], y[a:b]), 7) for a, b in ((0, 300), (300, 350), (350, 400)))
    parts = {"train": loaders[0], "validation": loaders[1], "test": loaders[2]}
    samples = tuple([(row, target) for row, target in zip(*part.dataset.tensors, strict=True)] for part in loaders)
    for given in (loaders, parts, (iter(part) for part in loaders)):
        given = tuple(given) if not isinstance(given, dict) else given
        assert fit(small, given).history[-1]["loss"] == wanted
    one = recipe(train={"epochs": 1, "loss": "mse", "threads": 1})
    assert isinstance(fit(one, loaders[0]).history[-1]["validation_error"], float)
    with pytest.raises(ValueError, match="as many samples as targets"):
        fit(small, samples)  # a target that is a vector makes an item a batch


def test_samples_with_labels_are_classes() -> None:
    x = torch.randn(200, 4)
    labels = (x[:, 0] > 0).long()
    splits = gather(zip(x, labels.tolist(), strict=True))
    assert isinstance(splits.train, ArraySet) and splits.train.classes == ("0", "1")
    classes = recipe(train={"epochs": 8, "lr": 0.01, "optimiser": "adamw", "threads": 1, "balance_classes": True})
    run = fit(classes, splits)
    assert run.history[-1]["validation_accuracy"] > 0.8
    assert evaluate(run.model, splits.test) > 0.7
    with pytest.raises(ValueError, match="class_weights must hold a number for each of 2 classes"):
        training_task(recipe(train={"class_weights": [1.0, 2.0, 3.0]}).train, splits.train)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "must yield something"),
        ([1, 2], "every item must be a pair"),
        ([(torch.zeros(3, 2), torch.zeros(4))], "as many samples as targets"),
        ([(torch.zeros(3, 2), torch.zeros(3)), (torch.zeros(3, 5), torch.zeros(3))], "one shape"),
        ([(torch.full((9, 2), float("nan")), torch.zeros(9))], "samples must be finite"),
        ([(-WIDE.expand(9, 2), torch.zeros(9))], "numbers up to 3.4e38, got 18 beyond, up to 1e+300; scale"),
        ([(torch.zeros(9, 2), WIDE.expand(9))], "(train): y must fit into float32, numbers up to 3.4e38, got 9 beyond"),
        ([(torch.full((9, 2), float("inf")).double(), torch.zeros(9))], "samples must be finite"),
        ([(torch.zeros(9, 2), torch.full((9,), float("inf")))], "targets must be finite"),
        ([(torch.zeros(9, 2, dtype=torch.int64), torch.zeros(9))], "x must be floats, or uint8 images"),
        ([(torch.zeros(9, 2), -torch.ones(9, dtype=torch.int64))], "labels must be >= 0"),
        ([(torch.zeros(9, 2), torch.full((9,), 10**9))], "labels must be below 1000000"),
        ([(torch.zeros(9), torch.zeros(9))], "x must be [N, ...]"),
        ([(torch.zeros(9, 2), torch.ones(9, dtype=torch.bool))], "y must be integers"),
        (7, "Splits or iterables"),
        ("text", "Splits or iterables"),
        ({"train": [], "tset": []}, "at most 'validation', 'test'"),
    ],
)
def test_other_data_is_refused(given: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        fit(recipe(), given)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", [np.float64, np.longdouble])
def test_numbers_of_a_file_that_float32_cannot_hold(tmp_path: Path, kind: type) -> None:
    """They were called NaN or inf, which the file does not hold."""
    greatest = np.finfo(kind).max
    np.savez(tmp_path / "far.npz", x=np.full((30, 2), greatest / 2, kind), y=np.zeros(30))
    with pytest.raises(ValueError, match=r"far\.npz \(train\): x must fit into float32, .*got 60 beyond"):
        load_arrays(tmp_path / "far.npz")
    np.savez(tmp_path / "near.npz", x=np.full((30, 2), 3.4e38, kind), y=np.zeros(30))
    assert load_arrays(tmp_path / "near.npz").train.images.isfinite().all()


def test_the_digest_tells_targets_apart(place: Path) -> None:
    x, y = points()
    one, other = gather([(x, y)]), gather([(x, y + 1)])
    assert one.digest() == gather([(x, y)]).digest() != other.digest()
    assert isinstance(load_data(recipe(data={"name": f"npz:{place / 'slopes.npz'}"})), Splits)


def test_intensities_are_looked_at() -> None:
    x = torch.rand(100, 1, 4, 4)
    model = {"name": "mlp", "encoder": "poisson", "options": {"hidden": [8]}}
    given = recipe(model=model, train={"epochs": 1, "loss": "mse", "threads": 1})
    fit(given, [(x, x.mean((1, 2, 3)))])
    with pytest.raises(ValueError, match=r"intensities in \[0, 1\]"):
        fit(given, [(3 * x, x.mean((1, 2, 3)))])
