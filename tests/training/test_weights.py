"""Files of weights: a flipped bit anywhere is noticed, files of older versions are read and said to have no hash."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitspike.cli import main
from bitspike.files import read_json
from bitspike.hub import Pretrained, from_pretrained, save_pretrained
from bitspike.schema import to_mapping
from bitspike.training.converted import convert_run, recipe_of_run
from bitspike.training.recipe import recipe_from_mapping
from bitspike.training.runs import open_run, train_run
from bitspike.training.weights import read_weights, save_weights


def tiny(**tables: Any) -> Any:
    base = {
        "name": "tiny",
        "data": {"name": "digits", "batch_size": 256, "test": False},
        "model": {"name": "mlp", "T": 1, "options": {"hidden": [8]}},
        "neuron": {"name": "relu"},
        "weight": {"name": "float"},
        "train": {"epochs": 1, "threads": 1},
    }
    return recipe_from_mapping({**base, **tables})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "run"
    train_run(tiny(), folder, resume=False)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["final", "best"])
@pytest.mark.parametrize("place", [-1, -2000])
def test_a_flipped_bit_is_noticed_and_resume_writes_the_file_again(run: Path, which: str, place: int) -> None:
    path = run / f"{which}.safetensors"
    whole = path.read_bytes()
    flip(path, place)
    with pytest.raises(ValueError, match=f"{which}.safetensors: its contents must match their hash.*--resume"):
        open_run(run, which)
    train_run(tiny(), run, resume=True)  # the advice
    assert path.read_bytes() == whole
    open_run(run, which)


def test_every_bit_of_the_header_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, {"a": torch.arange(3.0), "b": torch.ones(2)}, {"key": "k"})
    whole, wanted = path.read_bytes(), {"a": torch.arange(3.0), "b": torch.ones(2)}
    for place in range(len(whole)):
        path.write_bytes(whole)
        flip(path, place)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = read_weights(path, "again", hashed=True)
            except ValueError as error:
                assert str(path) in str(error)
                continue
        unhashed = [str(w.message) for w in said if "has no hash" in str(w.message)]  # the name of the hash was hit
        assert unhashed and all(found[name].equal(value) for name, value in wanted.items()), place


def test_a_run_of_an_older_version_is_read_and_said_to_have_no_hash(run: Path) -> None:
    path = run / "final.safetensors"
    save_file(load_file(path), path, {"key": "k"})
    with pytest.warns(UserWarning, match=r"final.safetensors has no hash \(an older version wrote it\)"):
        open_run(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_run(run, "best")


def test_a_damaged_network_is_not_converted_and_a_damaged_conversion_not_opened(run: Path, tmp_path: Path) -> None:
    recipe = recipe_of_run(run, "integer", 2, ("convert.images=64",))
    convert_run(recipe, run / "final.safetensors", tmp_path / "snn")
    open_run(tmp_path / "snn")
    for folder, todo in ((tmp_path / "snn", "convert again"), (run, "--resume")):
        flip(folder / "final.safetensors", -1)
        with pytest.raises(ValueError, match=f"match their hash.*{todo}"):
            open_run(folder)
    with pytest.raises(ValueError, match="match their hash"):
        convert_run(recipe, run / "final.safetensors", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_shared_network_is_hashed_too(run: Path, tmp_path: Path) -> None:
    recipe, splits, model = open_run(run)
    data = splits.train
    trained = Pretrained(model, recipe, tuple(data.images.shape[1:]), data.classes, data.mean, data.std, data.top)  # type: ignore[arg-type]
    save_pretrained(trained, tmp_path / "shared")
    from_pretrained(tmp_path / "shared")
    flip(tmp_path / "shared" / "model.safetensors", -1)
    with pytest.raises(ValueError, match="match their hash"):
        from_pretrained(tmp_path / "shared")


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@pytest.mark.parametrize("which", ["final", "best"])
def test_a_recipe_edited_after_training_is_noticed(run: Path, tmp_path: Path, which: str) -> None:
    """Tensors of the same shapes in another network: the figures were those of neither, without a word."""
    edit(run / "recipe.toml", "T = 1", "T = 3")
    with pytest.raises(ValueError, match=rf"recipe\.toml: model\.T must be 1, by which {which}\.safe.*got 3"):
        open_run(run, which)
    with pytest.raises(ValueError, match=r"model\.T must be 1"):
        recipe_of_run(run, "integer", 2)
    with pytest.raises(SystemExit, match="2"):
        main(["compile", str(run), "--out", str(tmp_path / "m.bitspike")])
    assert not (tmp_path / "m.bitspike").exists()
    edit(run / "recipe.toml", "T = 3", "T = 1  # as it was")
    edit(run / "recipe.toml", 'name = "tiny"', 'name = "renamed"')  # changes nothing of the network
    edit(run / "recipe.toml", "test = false", "test = true")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_run(run, which)[0].name == "renamed"


def test_an_edited_conversion_is_noticed(run: Path, tmp_path: Path) -> None:
    recipe = recipe_of_run(run, "integer", 2, ("convert.images=64",))
    convert_run(recipe, run / "final.safetensors", tmp_path / "snn")
    edit(tmp_path / "snn" / "recipe.toml", "D = 15", "D = 7")
    with pytest.raises(ValueError, match=r"neuron\.D must be 15.*got 7; set it back, or convert again"):
        open_run(tmp_path / "snn")


def test_weights_that_do_not_say_their_recipe(run: Path) -> None:
    path = run / "final.safetensors"
    save_weights(path, load_file(path), {"key": "k"})
    with pytest.warns(UserWarning, match=r"final.safetensors does not say by which recipe it was trained \(another"):
        open_run(run)


def test_an_edited_shared_network_is_noticed(run: Path, tmp_path: Path) -> None:
    recipe, splits, model = open_run(run)
    data, shared = splits.train, tmp_path / "shared"
    trained = Pretrained(model, recipe, tuple(data.images.shape[1:]), data.classes, data.mean, data.std, data.top)  # type: ignore[arg-type]
    save_pretrained(trained, shared)
    whole = read_json(shared / "config.json")
    assert isinstance(whole, dict)
    seed = {"recipe": to_mapping(tiny(seed=5))}
    for change, words in (({"std": [0.5]}, r"std must be \["), (seed, "seed must be 0")):
        (shared / "config.json").write_text(json.dumps(whole | change))
        with pytest.raises(ValueError, match=rf"config\.json: {words}"):
            from_pretrained(shared)


@pytest.mark.parametrize("steps", [0, -5, 2**31])
def test_a_bad_number_of_checkpoint_steps_leaves_nothing(tmp_path: Path, steps: int) -> None:
    with pytest.raises(ValueError, match="train: checkpoint_steps must lie in"):
        train_run(tiny(), tmp_path / "run", resume=False, checkpoint_steps=steps, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_never_began_does_not_block_the_corrected_one(tmp_path: Path) -> None:
    """A loss that the read-out does not fit is met at the first step, after the recipe was written."""
    wrong = tiny(train={"epochs": 1, "threads": 1, "loss": "tet"})
    with pytest.raises(ValueError, match="readout"):
        train_run(wrong, tmp_path / "run", resume=False)
    train_run(tiny(), tmp_path / "run", resume=False)
    assert isinstance(read_json(tmp_path / "run" / "summary.json"), dict)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["epoch"] == 1
    with pytest.raises(ValueError, match="must not hold a run yet"):
        train_run(tiny(), tmp_path / "run", resume=False)
