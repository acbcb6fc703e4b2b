"""The zoo with torch: its command, its float networks, and programs whose samples come from a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bitspike.cli import main
from bitspike.commands.zoo import zoo_samples
from bitspike.hub import from_pretrained, zoo_networks
from bitspike.runtime import Program
from bitspike.runtime.zoo import check, zoo_card, zoo_names
from bitspike.training.recipe import recipe_from_mapping

NAMES = zoo_names()
APART = [name for name in NAMES if not zoo_card(name).facts["slice"]["file"]]
SLOW = [pytest.param(name, marks=pytest.mark.slow) if name.startswith("cifar10") else name for name in APART]


def test_the_command_runs_shows_and_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["zoo", "list"])
    said = capsys.readouterr().out
    assert all(name in said for name in NAMES)
    main(["zoo", "list", "digits/ternary", "--json", str(tmp_path / "card.json")])
    assert "CC BY 4.0" in capsys.readouterr().out
    assert json.loads((tmp_path / "card.json").read_text())["name"] == "digits/ternary"
    main(["zoo", "run", "digits/ternary", "--top", "2"])
    assert "predictions are those of the card" in capsys.readouterr().out
    main(["zoo", "get", "digits/ternary", "-o", str(tmp_path / "net.bitspike")])
    x = zoo_card("digits/ternary").samples()
    np.save(tmp_path / "x.npy", x[:2])
    main(["zoo", "run", "digits/ternary", "--input", str(tmp_path / "x.npy")])
    assert "x.npy[1]" in capsys.readouterr().out
    for wrong, word in ((["get"], "a program must be named"), (["run", "digits/tern"], "did you mean")):
        with pytest.raises(SystemExit) as caught:
            main(["zoo", *wrong])
        assert caught.value.code == 2 and word in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_of_a_card_is_read_and_names_its_table(name: str) -> None:
    facts = zoo_card(name).facts
    recipe = recipe_from_mapping(facts["recipe"]["resolved"], name)
    assert recipe.data.root is None and facts["network"]["T"] == recipe.model.T
    assert facts["recipe"]["command"].startswith(("bitspike reproduce", "bitspike convert"))


@pytest.mark.parametrize("name", NAMES)
def test_accuracies_of_a_card_are_those_that_are_committed(name: str) -> None:
    root = Path(__file__).resolve().parents[1]
    told = zoo_card(name).facts["accuracy"]
    found = []
    for path in sorted(root.glob(told["source"])):
        document = json.loads(path.read_text())
        found.append(document["snn_accuracy"] if "snn_accuracy" in document else document["result"]["test_accuracy"])
    assert found and sorted(found) == sorted(told["seeds"])
    assert abs(told["program"] - told["folded"]) < 0.03


@pytest.mark.parametrize("name", zoo_networks())
def test_float_networks_are_those_that_were_compiled(name: str) -> None:
    given = from_pretrained(f"zoo:{name}")
    card = zoo_card(name)
    assert given.recipe == recipe_from_mapping(card.facts["recipe"]["resolved"], name)
    x = card.samples()
    if x is None:
        return
    mean, std = (torch.tensor(part).reshape(-1, 1, 1) for part in (given.mean, given.std))
    with torch.no_grad():
        classes = given.model((torch.from_numpy(x).float() / given.top - mean) / std).argmax(1).tolist()
    same = sum(a == b for a, b in zip(classes, card.facts["slice"]["predictions"], strict=True))
    assert same >= 14


def test_an_unknown_float_network_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'digits/binary'"):
        from_pretrained("zoo:digits/binari")


@pytest.mark.data
@pytest.mark.parametrize("name", SLOW)
def test_programs_of_other_sets_give_the_committed_predictions(name: str) -> None:
    card = zoo_card(name)
    found = check(card, Program.from_zoo(name), zoo_samples(card))
    assert found.same_input and found.same, found
