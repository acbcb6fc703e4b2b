"""The packaged recipes of ANNs meant for conversion: trained, converted, and nothing lost at one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.cli import main
from bitspike.data import Batches
from bitspike.files import read_json
from bitspike.graph import Graph, trace
from bitspike.layers import ClipFloor
from bitspike.neurons import MultiBit, Signed
from bitspike.observe import levels_of
from bitspike.schema import to_toml
from bitspike.training.build import build_network
from bitspike.training.recipe import read_recipe, recipe_from_mapping
from bitspike.training.runs import open_run

SMALL = ["model.options.width=4", "train.epochs=2", "data.batch_size=64"]


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits_clip_floor`, narrow and short."""
    folder = tmp_path_factory.mktemp("runs") / "ann"
    main(["train", "digits_clip_floor", "--out", str(folder), "--set", *SMALL])
    return folder


def integers(graph: Graph, x: Tensor) -> list[Tensor]:
    """Levels of every activation or neuron, [B, ...] of the one step."""
    found: list[Tensor] = []

    def note(node, call, args):  # type: ignore[no-untyped-def]
        value = call()
        if isinstance(node.module, ClipFloor):
            found.append((value / (node.module.ceiling() / node.module.levels)).round()[0])
        elif node.kind == "neuron":
            found.append(levels_of(node.module, value)[0])
        return value

    with torch.no_grad():
        graph.run(x, handler=note)
    return found


def test_training_leaves_an_ann(ann: Path) -> None:
    recipe, splits, net = open_run(ann)
    kinds = [module for module in net.modules() if isinstance(module, ClipFloor)]
    assert len(kinds) == 5 and all(module.levels == 15 for module in kinds)
    assert len({round(float(module.ceiling().detach()), 4) for module in kinds}) == 5  # each learned its own
    summary = read_json(ann / "summary.json")
    assert isinstance(summary, dict) and summary["validation_accuracy"] > 0.5
    assert summary["spike_bits"] == 32 and summary["spike_rate"] == 0 and summary["rates"] == {}
    main(["eval", str(ann)])
    main(["cost", str(ann)])
    assert recipe.convert is None and len(splits.test) > 0


@pytest.mark.parametrize("neuron", [MultiBit(2, 2, decay=1.0), Signed(15, decay=1.0)], ids=str)
def test_the_same_integers_at_one_step(ann: Path, neuron: nn.Module) -> None:
    """The theorem on the recipe's network, norms folded, any λ: float64, every layer, every validation image."""
    _, splits, net = open_run(ann)
    net = net.double()
    x, _ = next(iter(Batches(splits.validation, len(splits.validation))))
    snn = bitspike.ann2snn(net, neuron, x[:64].double(), 1)  # type: ignore[arg-type]
    wanted, got = integers(trace(net), x.double()), integers(snn.graph, x.double())
    assert len(wanted) == len(got) == 5
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other) and 0 < float((other > 0).double().mean()) < 1
    with torch.no_grad():
        torch.testing.assert_close(snn(x.double()), net(x.double()), rtol=1e-9, atol=1e-9)


def test_convert_reads_the_folder(ann: Path, tmp_path: Path) -> None:
    """Equal accuracy at T = 1 with equal grids; a coarser alphabet is worse in its logits."""
    main(["convert", str(ann), "--out", str(tmp_path / "snn"), "--set", "convert.images=64", "data.test=true"])
    summary, report = read_json(tmp_path / "snn" / "summary.json"), read_json(tmp_path / "snn" / "convert.json")
    assert isinstance(summary, dict) and isinstance(report, dict)
    assert summary["ann_validation_accuracy"] == summary["validation_accuracy"]
    assert summary["ann_test_accuracy"] == summary["test_accuracy"]
    assert report["logit_error"] < 1e-3 and report["agreement"] == 1
    assert {layer["activation"] for layer in report["layers"].values()} == {"ClipFloor"}
    recipe, _, _ = open_run(tmp_path / "snn")
    assert recipe.convert is not None and recipe.convert.activation is not None
    assert recipe.convert.activation.options["levels"] == 15
    main(["convert", str(ann), "--neuron", "lif", "--T", "2", "--out", str(tmp_path / "lif")])
    coarse = read_json(tmp_path / "lif" / "convert.json")
    assert isinstance(coarse, dict) and coarse["logit_error"] > 0.05
    unasked = read_json(tmp_path / "lif" / "summary.json")
    assert isinstance(unasked, dict) and not [key for key in unasked if "test" in key]  # though the run had read it


def test_what_is_refused(ann: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["convert", *arguments])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    out = ("--out", str(tmp_path / "out"))
    assert "arch and data of a run's folder must be left out" in refused(str(ann), "--arch", "study_cnn", *out)
    assert "the builder of the ANN must be given" in refused(str(ann / "final.safetensors"), *out)
    spiking = tmp_path / "spiking"
    spiking.mkdir()
    text = (ann / "recipe.toml").read_text()
    start, end = text.index("[neuron]"), text.index("[weight]")
    (spiking / "recipe.toml").write_text(text[:start] + '[neuron]\nname = "lif"\n\n' + text[end:])
    assert "must hold an ANN" in refused(str(spiking), *out)
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    for change, words in (
        (("policy.last=sign",), "weights float, inputs as they are, got weights sign"),
        (('layers=[{match="body.3.*", weight={name="uniform"}}]',), "got weights uniform"),
        (('layers=[{match="body.3.*", neuron={name="lif"}}]',), "with neurons of their own"),
        (("model.encoder=poisson",), "got encoder poisson"),
    ):
        (quantized / "recipe.toml").write_text(to_toml(read_recipe(ann / "recipe.toml", change)))
        assert words in refused(str(quantized), *out)
        assert "convert: weights must be float" in refused(str(ann), *out, "--set", *change)
    recipe = read_recipe(ann / "recipe.toml", ["model.T=2"])
    with pytest.raises(ValueError, match="a network of 'clip_floor' must have T = 1"):
        build_network(recipe, (1, 8, 8), 10)


def test_the_fashion_mnist_recipe_builds() -> None:
    path = Path(bitspike.__file__).parent / "recipes" / "fashion_mnist_clip_floor.toml"
    recipe = read_recipe(path)
    net = build_network(recipe, (1, 28, 28), 10)
    assert sum(isinstance(module, ClipFloor) for module in net.modules()) == 5
    relu = recipe_from_mapping(
        {"name": "a", "model": {"T": 1}, "neuron": {"name": "relu"}, "weight": {"name": "float"}}
    )
    assert any(isinstance(m, nn.ReLU) for m in build_network(relu, (1, 28, 28), 10).modules())
