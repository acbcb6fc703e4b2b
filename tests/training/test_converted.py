"""`bitspike convert`: a run folder that the other commands read, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analog import train
from bitspike.ann2snn import Converted
from bitspike.cli import main
from bitspike.data import load
from bitspike.files import read_json
from bitspike.models import MODELS, study_cnn
from bitspike.training.build import build_model
from bitspike.training.converted import converted_recipe
from bitspike.training.recipe import read_recipe
from bitspike.training.runs import open_run

OPTIONS = ["model.options.width=4", "model.options.stem_stride=1", "data.batch_size=32", "convert.images=64"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ANN trained for three epochs on the digits."""
    digits = load("digits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = study_cnn(nn.ReLU(), T=1, shape=(1, 8, 8), width=4, stem_stride=1)
    train(net, digits.train, lr=0.1, epochs=3)
    path = tmp_path_factory.mktemp("ann") / "ann.safetensors"
    save_file(net.state_dict(), path)
    return path


def command(weights: Path, out: Path, *sets: str, arch: str = "study_cnn", neuron: str = "multibit") -> list[str]:
    return [
        *("convert", str(weights), "--arch", arch, "--data", "digits", "--neuron", neuron, "--T", "2"),
        *("--out", str(out), "--set", *OPTIONS, *sets),
    ]


def test_a_converted_run_is_a_run(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, result = tmp_path / "run", tmp_path / "result.json"
    main([*command(weights, run, "data.test=true"), "--json", str(result)])
    shown = capsys.readouterr().out
    assert "highest level" in shown and "test accuracy: ANN" in shown
    summary, report = read_json(run / "summary.json"), read_json(run / "convert.json")
    assert isinstance(summary, dict) and isinstance(report, dict)
    assert read_json(result) == {"summary": summary, "report": report}
    assert summary["ann_validation_accuracy"] > 0.6
    assert abs(summary["validation_accuracy"] - summary["ann_validation_accuracy"]) < 0.05
    assert summary["fold"]["agreement"] == 1 and summary["shift_adds"] > 0 and summary["spike_bits"] == 4
    assert report["samples"] == 64 and report["T"] == 2 and report["threshold"] == "mse" and report["layers"]
    recipe, splits, net = open_run(run)
    assert isinstance(net, Converted) and recipe.convert is not None and len(recipe.convert.weights) == 64
    assert read_recipe(run / "recipe.toml") == recipe
    for name, file in (("eval", "eval.json"), ("fold", "folded.safetensors"), ("cost", "cost.json")):
        main([name, str(run)])
        assert (run / file).exists()
    evaluated = read_json(run / "eval.json")
    assert isinstance(evaluated, dict) and evaluated["test_accuracy"] == summary["test_accuracy"]
    main(["compare", str(run), "--out", str(tmp_path)])
    assert (tmp_path / "compare.json").exists()
    with pytest.raises(ValueError, match="a converted network must not be trained"):
        build_model(recipe, splits.train)


def test_the_test_split_is_left_alone_unless_asked_for(weights: Path, tmp_path: Path) -> None:
    main(command(weights, tmp_path / "run", "convert.threshold=max", "convert.sharing=layer", neuron="lif"))
    summary = read_json(tmp_path / "run" / "summary.json")
    assert isinstance(summary, dict) and not [key for key in summary if "test" in key]
    report = read_json(tmp_path / "run" / "convert.json")
    assert isinstance(report, dict) and (report["threshold"], report["sharing"]) == ("max", "layer")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: [*c, "convert.threshold=best"], "threshold"),
        (lambda c: [*c, "convert.mean=[0.5]"], "mean and std must be given together"),
        (lambda c: [*c, "neuron.decay=0.5"], "integrate-and-fire with soft reset"),
        (lambda c: [*c, "neuron.bits=3"], "the options must be among"),
        (lambda c: [w.replace("study_cnn", "study_cn") for w in c], "study_cnn"),
        (lambda c: [w.replace("ann.safetensors", "none.safetensors") for w in c], "none.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as bad:
        main(change(command(weights, tmp_path / "run")))
    error = capsys.readouterr().err
    assert bad.value.code == 2 and words in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(command(weights, tmp_path))
    assert "must not hold a run yet" in capsys.readouterr().err


def test_own_weights_see_the_data_as_they_were_trained(tmp_path: Path) -> None:
    options = {"T": 1, "shape": (1, 8, 8), "width": 2}
    save_file(MODELS["he_resnet20"](nn.ReLU(), **options).state_dict(), tmp_path / "ann.safetensors")
    sets = ["model.options.width=2", "convert.images=32"]
    arguments = [str(tmp_path / "ann.safetensors"), "--arch", "he_resnet20", "--data", "digits"]
    main(["convert", *arguments, "--out", str(tmp_path / "run"), "--set", *sets])  # three constants fit no grey image
    recipe = read_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.convert is not None and recipe.convert.mean is None


def test_published_networks_bring_their_normalisation() -> None:
    he, own = (converted_recipe(arch, "integer", "cifar10", 1) for arch in ("he_resnet20", "study_cnn"))
    assert he.convert is not None and he.convert.mean == (0.485, 0.456, 0.406)
    assert own.convert is not None and own.convert.mean is None
    ours = converted_recipe("he_resnet20", "integer", "cifar10", 1, own=True)
    assert ours.convert is not None and ours.convert.mean is None
    assert set(MODELS) >= {"he_resnet20", "study_cnn"}
    assert own.neuron.options == {"D": 15, "decay": 1.0}
    with pytest.raises(ValueError, match="the neuron must be one of lif, multibit, integer"):
        converted_recipe("study_cnn", "real", "digits", 1)
