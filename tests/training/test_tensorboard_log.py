"""What a run leaves for TensorBoard, read back with the package itself; training is the same with and without."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike.data import Batches, load
from bitspike.neurons import LIF
from bitspike.training import read_recipe
from bitspike.training.dashboard import Dashboard
from bitspike.training.runs import train_run
from bitspike.training.tensorboard_log import TensorBoardLog

SMALL = ("train.epochs=2", "model.options.width=4", "data.batch_size=256")


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    found.Reload()
    return found


def test_without_the_package_training_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"--dashboard: tensorboard must be installed.*bitspike\[logs\]"):
        train_run(read_recipe("digits", SMALL), tmp_path / "run", False, dashboard=True)
    assert not (tmp_path / "run" / "recipe.toml").exists()


@pytest.mark.parametrize("name", ["digits", "digits_adaptive"])
def test_a_dashboard_shows_every_layer_and_changes_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = read_recipe(name, SMALL)
    train_run(recipe, tmp_path / "plain", False)
    train_run(recipe, tmp_path / "shown", False, dashboard=True)
    weights = [(tmp_path / run / "final.safetensors").read_bytes() for run in ("plain", "shown")]
    assert weights[0] == weights[1]
    found = events(tmp_path / "shown" / "tensorboard")
    kinds = Counter(tag.partition("/")[0] for tag in found.Tags()["scalars"] if "/" in tag)
    neurons = kinds["rate"]
    assert neurons > 3 and kinds["set_bits"] == neurons == len(found.Tags()["histograms"])
    assert ("steps" in kinds) == ("saturation" in kinds) == (name == "digits_adaptive")
    for tag in [*found.Tags()["scalars"], *found.Tags()["histograms"]]:
        rows = found.Histograms(tag) if tag.startswith("membrane/") else found.Scalars(tag)
        assert [row.step for row in rows] == [1, 2], tag
    rates = [row.value for tag in found.Tags()["scalars"] if tag.startswith("rate/") for row in found.Scalars(tag)]
    assert all(0 <= rate <= 1 for rate in rates) and len(set(rates)) > neurons


def test_a_run_that_was_cut_leaves_every_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe, folder = read_recipe("digits", (*SMALL, "train.epochs=3")), tmp_path / "run"

    def cut(figures: dict[str, Any]) -> None:
        if figures["epoch"] > 1 and "time_s" not in figures:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, folder, False, cut, dashboard=True)
    with TensorBoardLog(folder / "tensorboard") as log:  # as one that was cut between its events and its checkpoint
        log.epoch({"epoch": 2, "loss": 99.0})
    train_run(recipe, folder, True, dashboard=True)
    losses = events(folder / "tensorboard").Scalars("loss")
    assert [row.step for row in losses] == [1, 2, 3] and all(row.value < 9 for row in losses)


class Noted:
    """In place of a log."""

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = {}
        self.membranes: dict[str, torch.Tensor] = {}

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        self.numbers |= values

    def histogram(self, epoch: int, name: str, values: torch.Tensor) -> None:
        self.membranes[name] = values

    def epoch(self, record: dict[str, Any]) -> None:
        pass


def test_figures_are_those_of_the_network() -> None:
    validation = load("digits").validation
    network = torch.nn.Sequential(torch.nn.Flatten(2), LIF(threshold=0.3, decay=0.0))
    noted: Any = Noted()
    network.train()
    Dashboard(noted, validation)({"epoch": 1}, network)
    assert network.training
    x, _ = next(iter(Batches(validation, 64)))
    rate = float((x >= 0.3).float().mean())
    assert noted.numbers["rate/1"] == pytest.approx(rate, abs=1e-6) and 0 < rate < 1
    assert noted.membranes["membrane/1"].max() == pytest.approx(float(x.max()) / 0.3)
