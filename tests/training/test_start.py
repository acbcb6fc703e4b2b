"""Networks that start from published weights: their scales, what is refused, and whose key it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitspike.allocation.config import AllocationConfig
from bitspike.data import ImageSet, Splits
from bitspike.graph import trace
from bitspike.layers import BatchNorm, Synapse
from bitspike.models import he_resnet20, load_he_checkpoint
from bitspike.neurons import Neuron
from bitspike.training.build import build_model
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.start import start_from_ann
from networks import rng

EXACT = {"name": "integer", "D": 255, "decay": 1.0}
ARMS: dict[str, dict[str, Any]] = {
    "levels": EXACT,
    "binary": {"name": "lif", "decay": 1.0, "reset": "soft", "initial": 0.5},
    "real": {"name": "real", "decay": 1.0},
}


def images(count: int, seed: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=rng(seed), dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 10, tuple("0123456789"), 255, (0.5,) * 3, (0.25,) * 3, "noise")


DATA = Splits(*(images(40, seed) for seed in range(3)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published form, of a narrow network whose norms are drawn."""
    torch.manual_seed(0)
    ann = he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 16, 16))
    for module in ann.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.4)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    names = {name: value for name, value in ann.state_dict().items() if "num_batches" not in name}
    theirs = {
        name.removeprefix("body.").replace("stem.conv", "conv1").replace("stem.norm", "bn1")
        .replace(".norm", ".bn").replace("classifier", "linear"): value
        for name, value in names.items()
    }  # fmt: skip
    path = tmp_path_factory.mktemp("published") / "narrow.th"
    torch.save({"state_dict": {f"module.{name}": value for name, value in theirs.items()}}, path)
    return path


def recipe(path: Path, neuron: dict[str, Any], T: int = 1, weight: str = "float", **tables: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "start",
            "data": {"root": str(path.parent), "batch_size": 8},
            "model": {"name": "he_resnet20", "T": T, "options": {"width": 4}},
            "neuron": neuron,
            "weight": {"name": weight},
            "start": {"weights": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
            "train": {"epochs": 1, "threads": 1},
            **tables,
        }
    )


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(DATA.train.normalise(DATA.train.images[:16]))


def analog(path: Path) -> torch.Tensor:
    whole = replace(recipe(path, {"name": "relu"}), start=None)
    model = build_model(whole, DATA.train)
    return logits(load_he_checkpoint(model, path))


def started(given: Recipe) -> nn.Module:
    model = build_model(given, DATA.train)
    start_from_ann(model, given, DATA.train)
    return model


def test_fine_levels_give_the_logits_of_the_ann(published: Path) -> None:
    """255 levels at T = 1 are the ANN up to their rounding; unscaled, levels of 1 are far from it."""
    wanted, given = analog(published), recipe(published, EXACT)
    found = logits(started(given))
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()
    plain = build_model(given, DATA.train)
    assert (logits(load_he_checkpoint(plain, published)) - wanted).abs().max() > 0.1 * wanted.abs().max()


@pytest.mark.parametrize("arm", ["binary", "real"])
def test_more_steps_come_nearer(published: Path, arm: str) -> None:
    wanted = analog(published)
    errors = [(logits(started(recipe(published, ARMS[arm], T))) - wanted).square().mean().item() for T in (1, 16)]
    assert errors[1] < 0.3 * errors[0]


def test_one_scale_for_what_is_added_and_one_each_inside(published: Path) -> None:
    """The norm's γ over the file's is 1/λ: equal for stem and outer norms, another in every block's middle."""
    model = started(recipe(published, ARMS["binary"], 2, "sign"))
    content = torch.load(published, weights_only=True)["state_dict"]
    scale = {
        "stem": content["module.bn1.weight"] / model.body.stem.norm.weight,
        "outer": content["module.layer3.2.bn2.weight"] / model.body.layer3[2].norm2.weight,
        "inner": content["module.layer1.0.bn1.weight"] / model.body.layer1[0].norm1.weight,
    }
    assert all(torch.allclose(s, s[0].expand_as(s)) for s in scale.values())
    assert torch.allclose(scale["stem"][0], scale["outer"][0]) and abs(scale["inner"][0] / scale["stem"][0] - 1) > 0.01
    classifier = model.body.classifier
    assert torch.allclose(classifier.weight, content["module.linear.weight"] * scale["outer"][0])
    assert torch.equal(classifier.bias, content["module.linear.bias"])
    mean = content["module.layer1.0.bn1.running_mean"] / scale["stem"][0]
    assert torch.allclose(model.body.layer1[0].norm1.running_mean, mean)


def test_learned_step_sizes_keep_the_currents_of_the_ann(published: Path) -> None:
    model = started(recipe(published, {"name": "adaptive", "bits": 4}, 1, "learned_bits"))
    content = torch.load(published, weights_only=True)["state_dict"]
    assert torch.equal(model.body.stem.norm.weight, content["module.bn1.weight"])
    assert torch.equal(model.body.classifier.weight, content["module.linear.weight"])


def test_quantizers_start_from_the_loaded_weights(published: Path) -> None:
    model = started(recipe(published, ARMS["binary"], 2, "learned_bits"))
    synapses = [node.module for node in trace(model).of_kind("synapse") if isinstance(node.module, Synapse)]
    for synapse in synapses[1:-1]:
        error = (synapse.quantizer(synapse.weight) - synapse.weight).square().mean().sqrt()
        assert error < 0.5 * synapse.weight.square().mean().sqrt()


def test_fit_starts_there(published: Path) -> None:
    given = recipe(published, EXACT)
    still = replace(given, train=replace(given.train, lr=1e-12))
    run = fit(still, DATA)
    assert any(isinstance(module, Neuron) for module in run.model.modules())
    first = torch.load(published, weights_only=True)["state_dict"]["module.conv1.weight"]
    assert torch.allclose(run.model.body.stem.conv.weight, first)


def test_the_key_follows_the_contents_not_the_folder(published: Path) -> None:
    given = recipe(published, EXACT)
    elsewhere = replace(given, data=replace(given.data, root="elsewhere"))
    other = replace(given, start=replace(given.start, sha256="0" * 64))
    assert given.key("d") == elsewhere.key("d") != other.key("d")


def test_refusals(published: Path, tmp_path: Path, refuses: Any) -> None:
    given = recipe(published, EXACT)
    with refuses("[start]", "the SHA-256 of", "must be 0000", "got"):
        started(replace(given, start=replace(given.start, sha256="0" * 64)))
    with refuses("[start]", "missing.th must be readable", "BITSPIKE_DATA"):
        started(replace(given, start=replace(given.start, weights="missing.th")))
    with refuses("StartConfig", "sha256 must be 64 hex digits"):
        replace(given.start, sha256="12")
    with refuses("Recipe", "[start] and allocation.warm_start must not be given together"):
        replace(given, allocation=AllocationConfig(warm_start="a.safetensors"))
    with refuses("[start]", "a scale must pass through every layer"):
        started(replace(given, model=replace(given.model, name="study_cnn", options={"width": 4, "stimulated": ["*"]})))
