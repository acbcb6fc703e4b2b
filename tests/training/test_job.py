"""One job end to end on a subset of the digits, and what it may read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike import observe
from bitspike.cost import cost
from bitspike.data import ImageSet, Splits
from bitspike.training import job
from bitspike.training.evaluation import evaluate
from bitspike.training.job import Finished, digest, load_data, run_job
from bitspike.training.recipe import Recipe, recipe_from_mapping

KEYS = {"health", "findings"} | {
    "validation_accuracy",
    "spike_rate",
    "set_bits",
    "spike_bits",
    "weight_bits",
    "adds",
    "shift_adds",
    "multiplications",
    "size_bytes",
    "s_ace",
    "ns_ace",
    "bit_budget",
    "averages",
    "allocation",
    "hidden_only",
    "parameters",
    "train_time_s",
    "fold",
    "rates",
    "history",
}


def recipe(**tables: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "job",
        "data": {"batch_size": 16},
        "model": {"options": {"width": 4, "stem_stride": 1}},
        "neuron": {"name": "ternary", "train_amplitude": "channel"},
        "weight": {"name": "sign", "factor": "input"},
        "train": {"epochs": 3, "threads": 1, "lr": 0.1},
    }
    return recipe_from_mapping({**base, **tables})


@pytest.fixture(scope="module")
def splits() -> Splits:
    """320 training digits, 100 to validate and 100 to test on."""
    whole = load_data(recipe())
    sizes = {"train": 320, "validation": 100, "test": 100}
    parts: dict[str, ImageSet] = {}
    for name, size in sizes.items():
        part: ImageSet = getattr(whole, name)
        parts[name] = part.subset(list(range(min(size, len(part)))), name)
    return Splits(**parts)


@pytest.fixture(scope="module")
def finished(splits: Splits) -> Finished:
    return run_job(recipe(), splits)


def test_the_result(finished: Finished, splits: Splits) -> None:
    result = finished.result
    assert result.keys() == KEYS | {"test_accuracy", "folded_test_accuracy"}
    assert result["test_accuracy"] == evaluate(finished.model, splits.test)
    assert result["folded_test_accuracy"] == evaluate(finished.folded, splits.test)
    assert result["validation_accuracy"] == result["history"][-1]["validation_accuracy"]
    assert result["test_accuracy"] > 0.2  # ten classes: something was learnt
    assert (result["spike_bits"], result["weight_bits"]) == (2, 1)
    assert result["parameters"] == sum(p.numel() for p in finished.model.parameters())
    assert result["train_time_s"] == pytest.approx(sum(r["time_s"] for r in result["history"]))
    assert json.loads(json.dumps(result)) == result


def test_rates_and_costs_are_those_of_the_networks(finished: Finished, splits: Splits) -> None:
    result = finished.result
    x = splits.validation.normalise(splits.validation.images)
    seen = observe(finished.model, [x])
    sent = sum(a.sent for a in seen.values())
    assert result["spike_rate"] == pytest.approx(sum(a.fired for a in seen.values()) / sent)
    assert result["set_bits"] == pytest.approx(sum(a.set_bits for a in seen.values()) / sent)
    assert {path: r["rate"] for path, r in result["rates"].items()} == {a.path: a.rate for a in seen.values()}
    assert all(0 < r["rate"] < 1 for r in result["rates"].values())
    counts = {path: {int(level): n for level, n in r["levels"].items()} for path, r in result["rates"].items()}
    assert counts == {a.path: a.histogram for a in seen.values()}
    counted = cost(finished.folded.graph, x)
    assert result["adds"] == counted.total("adds") and result["size_bytes"] == counted.size_bytes
    assert result["multiplications"] == counted.total("multiplications")
    assert result["hidden_only"] == counted.as_dict()["hidden_only"]
    hidden = [row for row in counted.synapses if row.role == "hidden"]
    assert result["s_ace"] == sum(row.s_ace for row in hidden) > 0
    assert result["ns_ace"] == pytest.approx(sum(row.ns_ace for row in hidden))
    averages = result["averages"]
    product = averages["mean_weight_bits"] * averages["mean_spike_bits"] * averages["mean_T"]
    assert result["bit_budget"] == averages["bit_budget"] == pytest.approx(product)
    assert [row["name"] for row in result["allocation"]] == [row.path for row in counted.synapses]
    assert result["fold"]["samples"] == len(x) and result["fold"]["gains"]


def test_folding_keeps_the_accuracy(finished: Finished) -> None:
    report = finished.result["fold"]
    assert report["max_logit_difference"] <= 1e-3 and report["agreement"] > 0.98
    assert abs(finished.result["test_accuracy"] - finished.result["folded_test_accuracy"]) <= 0.02


def test_the_test_split_is_left_unread(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> None:
    read: set[str] = set()
    honest = ImageSet.normalise

    def spy(self: ImageSet, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        read.add(self.name)
        return honest(self, images, *rest)

    monkeypatch.setattr(ImageSet, "normalise", spy)
    short = {"train": {"epochs": 1, "threads": 1}}
    result = run_job(recipe(data={"test": False}, **short), splits).result
    assert read == {"train", "validation"} and result.keys() == KEYS
    run_job(recipe(**short), splits)
    assert read == {"train", "validation", "test"}


def test_garbage_in_the_test_split_changes_nothing_but_its_accuracy(finished: Finished, splits: Splits) -> None:
    noise = replace(splits.test, images=torch.zeros_like(splits.test.images))
    again = run_job(recipe(), replace(splits, test=noise)).result

    def stripped(result: dict[str, Any]) -> dict[str, Any]:
        history = [{k: v for k, v in r.items() if k != "time_s"} for r in result["history"]]
        return {**{k: v for k, v in result.items() if "test" not in k and k != "train_time_s"}, "history": history}

    assert stripped(again) == stripped(finished.result)
    assert again["test_accuracy"] != finished.result["test_accuracy"]


@pytest.mark.parametrize("neuron", [{"name": "lif"}, {"name": "real"}, {"name": "integer", "D": 3}])
def test_a_network_without_hidden_synapses(splits: Splits, neuron: dict[str, Any]) -> None:
    options = {"name": "mlp", "options": {"hidden": [8]}}
    result = run_job(recipe(model=options, neuron=neuron, train={"epochs": 1, "threads": 1}), splits).result
    assert result["weight_bits"] == 32 and math.isfinite(result["adds"])


def test_the_figures_are_shown(splits: Splits) -> None:
    shown: list[dict[str, float]] = []
    run_job(recipe(train={"epochs": 1, "threads": 1, "log_every": 8}), splits, shown.append)
    assert [f["epoch"] for f in shown] == pytest.approx([0.4, 0.8, 1.0, 1.0])
    assert "validation_accuracy" in shown[-1]


def test_the_digest_tells_data_and_structure_apart(splits: Splits) -> None:
    base = digest(recipe(), splits)
    assert digest(recipe(), splits) == base and digest(recipe(seed=3), splits) == base
    wider = {"options": {"width": 5, "stem_stride": 1}}
    assert digest(recipe(model=wider), splits) != base
    assert digest(recipe(neuron={"name": "lif"}), splits) != base
    assert digest(recipe(), replace(splits, train=splits.train.subset(list(range(300))))) != base


def test_load_data(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load_data(recipe())
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1294, 144, 359)
    fifth = load_data(recipe(data={"validation": 0.2}))
    assert len(fifth.validation) == 288 and fifth.test.digest() != "" and len(fifth.test) == 359
    raw = load_data(recipe(model={"encoder": "poisson"}))
    pixels = raw.train.normalise(raw.train.images)
    assert float(pixels.min()) == 0.0 and float(pixels.max()) == 1.0
    assert float(splits.train.normalise(splits.train.images).mean()) == pytest.approx(0.0, abs=1e-4)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(job, "load", lambda *arguments: asked.append(arguments) or splits)
    load_data(recipe(seed=7, data={"name": "mnist", "root": "DIR", "validation": 0.25}))
    assert asked == [("mnist", "DIR", 0.25)]  # the seed of a run does not move the validation split


def test_options_reach_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    digits = load_data(recipe())
    monkeypatch.setattr(job, "load", lambda *given, **options: asked.append((given, options)) or digits)
    table = {"name": "hub:a/b", "size": 16, "channels": 1, "test_part": "val", "config": "c", "revision": "r"}
    load_data(recipe(data={**table, "image": "i", "label": "l"}))
    wanted = {"size": 16, "channels": 1, "test": "val", "config": "c", "revision": "r", "image": "i", "label": "l"}
    assert asked == [(("hub:a/b", None, 0.1), wanted)]


def test_a_folder_in_another_size(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for part, label, count in (("train", "a", 6), ("train", "b", 6), ("probe", "a", 2), ("probe", "b", 2)):
        (tmp_path / part / label).mkdir(parents=True)
        for index in range(count):
            image.new("RGB", (9, 7), (20 * index, 0, 90)).save(tmp_path / part / label / f"{index}.png")
    table = {"name": "folder:.", "root": str(tmp_path), "validation": 0.5, "size": 4, "channels": 1}
    splits = load_data(recipe(data={**table, "test_part": "probe"}))
    assert splits.train.images.shape == (6, 1, 4, 4) and len(splits.test) == 4


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"size": 8}, ["size must be left out where name is 'digits'", "got 8"]),
        ({"test_part": "val"}, ["test_part must be left out", "got 'val'"]),
        ({"name": "mnist", "channels": 3}, ["channels must be left out where name is 'mnist'"]),
        ({"name": "folder:x", "revision": "r"}, ["revision must be left out where name is 'folder:x'"]),
        ({"augment": "shift-flip-cutout"}, ["hole must lie in [1, 8]", "got 16"]),
        ({"augment": "shift-flip-cutout", "hole": 9}, ["hole must lie in [1, 8]", "got 9"]),
        ({"augment": "shift", "pad": 8}, ["pad must lie in [1, 7]", "got 8"]),
        ({"augment": "shift", "pad": 0}, ["pad must lie in [1, 7]", "got 0"]),
    ],
)
def test_data_that_does_not_fit_is_refused(data: dict[str, Any], words: list[str], refuses: Any) -> None:
    with refuses("[data]", *words):
        load_data(recipe(data=data))


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load_data(recipe(data={"name": "digit"}))


@pytest.mark.slow
def test_the_digits_are_learnt() -> None:
    chosen = recipe(
        neuron={"name": "multibit"},
        data={"batch_size": 32},
        model={"options": {"width": 8, "stem_stride": 1}},
        train={"epochs": 10, "threads": 1, "lr": 0.1, "warmup_epochs": 1.0},
    )
    result = run_job(chosen, load_data(chosen)).result
    assert result["test_accuracy"] > 0.93
    assert abs(result["test_accuracy"] - result["folded_test_accuracy"]) < 0.01
