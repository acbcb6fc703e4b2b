"""Saving and loading networks as folders; the hub only through its package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitspike.hub import Pretrained, from_pretrained, save_pretrained
from bitspike.training.build import build_network
from bitspike.training.recipe import recipe_from_mapping


@pytest.fixture
def trained() -> Pretrained:
    recipe = recipe_from_mapping(
        {
            "name": "tiny",
            "model": {"options": {"width": 4, "stem_stride": 1}},
            "neuron": {"name": "ternary", "train_amplitude": "channel"},
            "weight": {"name": "uniform", "bits": 3},
        }
    )
    model = build_network(recipe, (1, 8, 8), 3)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            value.add_(torch.rand_like(value) * 0.1)
    return Pretrained(model.eval(), recipe, (1, 8, 8), ("a", "b", "c"), (0.5,), (0.25,), 16)


def test_round_trip_is_exact(tmp_path: Path, trained: Pretrained) -> None:
    save_pretrained(trained, tmp_path / "net", {"test_accuracy": 0.5}, notice="Trained on nothing.")
    again = from_pretrained(tmp_path / "net")
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.model(x), trained.model(x))
    assert (again.recipe, again.classes, again.mean, again.std, again.top) == (
        trained.recipe,
        ("a", "b", "c"),
        (0.5,),
        (0.25,),
        16,
    )
    card = (tmp_path / "net" / "README.md").read_text()
    assert "library_name: bitspike" in card and "Trained on nothing." in card and "test_accuracy | 0.5" in card


def test_damage_and_foreign_folders_are_one_clear_error(tmp_path: Path, trained: Pretrained) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        from_pretrained(tmp_path)
    save_pretrained(trained, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="whole safetensors"):
        from_pretrained(tmp_path)
    save_pretrained(trained, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["recipe"]["neuron"]["name"] = "ternry"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="did you mean 'ternary'"):
        from_pretrained(tmp_path)


def test_no_folder_and_no_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="huggingface_hub must be installed"):
        from_pretrained("somebody/something")
    with pytest.raises(ValueError, match="OWNER/NAME"):
        from_pretrained("./missing/folder")


def test_what_is_no_number_is_neither_saved_nor_loaded(tmp_path: Path, trained: Pretrained) -> None:
    save_pretrained(trained, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(key for key in tensors if key.endswith("weight"))
    tensors[name].reshape(-1)[2] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"model\.safetensors: '{name}' must be finite, got 1 NaN or inf"):
        from_pretrained(tmp_path)
    trained.model.get_parameter(name).data.reshape(-1)[2] = float("inf")
    with pytest.raises(ValueError, match=rf"^save_pretrained: '{name}' must be finite"):
        save_pretrained(trained, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_std_of_zero_is_refused(tmp_path: Path, trained: Pretrained) -> None:
    save_pretrained(trained, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "std": [0.0]}))
    with pytest.raises(ValueError, match=r"config\.json: std must be finite and positive"):
        from_pretrained(tmp_path)
