"""Runs whose loss or weights become NaN or inf: a finding and exit code 1, and what was there before is left."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bitspike.cli import main
from bitspike.layers import BatchNorm, Linear
from bitspike.neurons import LIF
from bitspike.training import loop, task
from bitspike.training.checkpoint import Checkpoints, read_checkpoint
from bitspike.training.diverged import DivergedError, reason, sound
from bitspike.training.loop import fit
from training.test_loop import SPLITS, recipe

BASE = """
name = "tiny"
[data]
name = "digits"
batch_size = 128
[model]
name = "mlp"
[model.options]
hidden = [8]
[neuron]
name = "lif"
[weight]
name = "sign"
[train]
epochs = 2
threads = 1
"""
QUEUE = """
name = "queue"
out = "out"
base = "base.toml"
seeds = [0]
[[arms]]
name = "wild"
[arms.set]
"train.lr" = 1e38
[[arms]]
name = "tame"
"""
Loss = Callable[..., Tensor]


def poisoned(after: int, by: Callable[[Tensor], Tensor]) -> Loss:
    """Cross entropy, but from a call on plus what ``by`` makes of the logits."""
    calls: list[int] = []

    def loss(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        calls.append(1)
        found = nn.functional.cross_entropy(output, labels)
        return found + by(output) if len(calls) > after else found

    return loss


def patch_loss(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    monkeypatch.setattr(task, "find_loss", lambda _: loss)


def no_number(output: Tensor) -> Tensor:
    return output.sum() * math.nan


def wild_gradient(output: Tensor) -> Tensor:
    """0 with the gradient 0·inf: the loss is a number, the weights after the step are not."""
    return (output * 0).abs().sqrt().sum()


def test_weights_that_are_nan_are_seen_where_the_loss_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_loss(monkeypatch, poisoned(2, wild_gradient))
    chosen = recipe(neuron={"name": "lif", "train_amplitude": "none", "learn_decay": False}, train={"log_every": 4})
    with pytest.raises(
        DivergedError, match=r"^train \(epoch 1, step 4\): .* weights and buffers hold NaN .*'body\."
    ) as e:
        fit(chosen, SPLITS)
    assert (e.value.epoch, e.value.step, e.value.history, e.value.best) == (1, 4, [], {})


@pytest.mark.parametrize("by", [no_number, wild_gradient])
def test_no_checkpoint_holds_what_is_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: Callable[[Tensor], Tensor]
) -> None:
    patch_loss(monkeypatch, poisoned(8, by))
    with pytest.raises(DivergedError) as caught:
        fit(recipe(train={"log_every": 100}), SPLITS, None, Checkpoints(tmp_path, "key"), checkpoint_steps=1)
    assert caught.value.epoch == 2 and len(caught.value.history) == 1
    assert caught.value.best and all(value.isfinite().all() for value in caught.value.best.values())
    saved = [read_checkpoint(path) for path in tmp_path.iterdir()]
    assert len(saved) == 2
    for checkpoint in saved:
        assert all(value.isfinite().all() for value in checkpoint.tensors.values() if value.is_floating_point())


def test_logits_that_overflow_after_an_epoch_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflows(*_: Any) -> float:
        raise ValueError("evaluate: the logits must be finite, got 1 NaN or inf of 90 values; clean the values.")

    monkeypatch.setattr(loop, "scores", overflows)
    with pytest.raises(DivergedError, match=r"^train \(epoch 1, step 6\): .*got evaluate: the logits must be finite"):
        fit(recipe(), SPLITS)


def test_an_error_that_nan_weights_cause_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def settle(allocation: Any, *_: Any) -> list[str]:
        if not sound(allocation.model):
            raise ValueError("LearnedBits: learned bits and time steps must be numbers, got NaN; lower the rate.")
        return []

    monkeypatch.setattr(loop.Allocation, "settle", settle)
    patch_loss(monkeypatch, poisoned(2, wild_gradient))
    with pytest.raises(
        DivergedError, match=r"^train \(epoch 1, step 3\): .*got LearnedBits: .* hold NaN or inf, the first"
    ):
        fit(recipe(), SPLITS)


def test_other_errors_of_a_step_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Tensor:
        raise ValueError("mine")

    patch_loss(monkeypatch, fails)
    with pytest.raises(ValueError, match=r"^mine$"):
        fit(recipe(), SPLITS)


def test_what_is_said_of_a_network() -> None:
    net, given = nn.Sequential(Linear(3, 3), BatchNorm(3), LIF()).eval(), torch.ones(1, 2, 3)
    assert sound(net) and sound(nn.ReLU())
    assert reason(net, given, nullcontext(), True).startswith("weights and layers are finite")
    net[1].running_var[1] = -1.0
    assert sound(net) and "checked: 1 (BatchNorm): its output must be finite" in reason(net, given, nullcontext(), True)
    assert reason(net, given, nullcontext(), False) == "all weights are finite"
    net[1].running_mean[1] = math.nan
    assert not sound(net)
    assert (
        reason(net, given, nullcontext(), True)
        == "1 of 6 weights and buffers hold NaN or inf, the first is '1.running_mean'"
    )


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    return tmp_path / "base.toml"


def test_a_command_that_diverges_exits_with_1_and_loses_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, folder = 13, base.parent / "run"  # 1,617 samples in batches of 128, the last one left out or not
    patch_loss(monkeypatch, poisoned(steps, no_number))
    command = ("train", base, "--out", folder, "--quiet", "--json", base.parent / "j.json")
    assert run(*command) == 1
    shown = capsys.readouterr()
    assert shown.err == "" and "training FAILED: train (epoch 2" in shown.out and "best weights (epoch 1)" in shown.out
    document = json.loads((base.parent / "j.json").read_text())
    assert document["stopped"]["epoch"] == 2 and len(document["findings"]) == 1 and document["best_epoch"] == 1
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (folder / "summary.json").exists() and not (folder / "final.safetensors").exists()
    assert run("eval", folder, "--weights", "best") == 0
    monkeypatch.undo()
    assert run(*command, "--resume") in (0, 1)  # the loss is itself again: it goes on, to an end
    assert (folder / "summary.json").exists()


def test_a_rate_that_is_far_too_high_exits_with_1(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", base, "--out", base.parent / "run", "--quiet", "--set", "train.lr=1e38") == 1
    shown = capsys.readouterr()
    assert shown.err == "" and "training FAILED: train (epoch 1" in shown.out and "recipe and checkpoints" in shown.out


def test_a_study_goes_on_behind_a_job_that_diverges(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base.parent / "queue.toml").write_text(QUEUE)
    assert run("study", base.parent / "queue.toml", "--quiet") == 1
    shown = capsys.readouterr()
    assert shown.err == "" and "wild-seed0: training FAILED: train (epoch 1" in shown.out
    names = {path.name for path in (base.parent / "out").iterdir() if path.is_file()}
    assert names == {"tame-seed0.json"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an ANN that `convert` takes, too."""
    folder = tmp_path_factory.mktemp("runs")
    sets = ("train.epochs=1", "model.options.width=4", "data.batch_size=128", "train.threads=1")
    run("train", "digits_clip_floor", "--out", folder / "run", "--quiet", "--set", *sets)
    return folder / "run"


COMMANDS: dict[str, tuple[str, ...]] = {"eval": (), "fold": (), "cost": (), "convert": ("--out", "OUT")}


@pytest.mark.parametrize(("number", "words"), [(math.nan, "1 NaN or inf"), (math.inf, "1 NaN or inf"), (-0.5, "-0.5")])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_a_run_whose_weights_are_no_numbers(
    finished: Path, tmp_path: Path, command: str, number: float, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    tensors = load_file(folder / "final.safetensors")
    name = next(key for key in tensors if key.endswith("running_var"))
    tensors[name][1] = number
    save_file(tensors, folder / "final.safetensors")
    kept = sorted(path.name for path in folder.iterdir())
    arguments = [str(tmp_path / "out") if given == "OUT" else given for given in COMMANDS[command]]
    assert run(command, folder, *arguments) == 2
    shown = capsys.readouterr()
    lines = shown.err.strip().splitlines()
    layer = name.removesuffix(".running_var")
    assert len(lines) == 1 and layer in lines[0] and words in lines[0] and "final.safetensors" in lines[0], lines
    assert sorted(path.name for path in folder.iterdir()) == kept and not (tmp_path / "out").exists()


def test_eval_sees_currents_that_overflow(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of 3e38 are finite, sums of them are not, and a neuron fires at inf as at any other current."""
    run("train", base, "--out", tmp_path / "run", "--quiet", "--set", "train.epochs=1")
    path = tmp_path / "run" / "final.safetensors"
    tensors = load_file(path)
    name = next(key for key in tensors if key.endswith("weight") and tensors[key].dim() == 2)
    tensors[name].fill_(3e38)
    save_file(tensors, path)
    capsys.readouterr()
    assert run("eval", tmp_path / "run") == 2
    line = capsys.readouterr().err
    assert f"checked: {name.removesuffix('.weight')} (Linear): its output must be finite" in line, line
