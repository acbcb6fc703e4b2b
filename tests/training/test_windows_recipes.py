"""Recipes whose network runs on windows of the frames: T of sequences as a number that is given or learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bitspike
from bitspike.data import Batches, Splits, gather
from bitspike.layers import Windows
from bitspike.lower import compare
from bitspike.training import Checkpoints, fit
from bitspike.training.build import build_model
from bitspike.training.job import run_job
from bitspike.training.recipe import Recipe
from runs import CutError, cut_after, equal
from small_recipes import framed

T = 6


def table(**tables: Any) -> Recipe:
    data = {"name": "digits", "time": True}
    more = {"model": {"T": T}, "train": {"epochs": 3, "lr": 0.02, "optimiser": "adamw"}}
    return framed("windows", data, None, {**more, **{k: {**more.get(k, {}), **v} for k, v in tables.items()}})


@pytest.fixture(scope="module")
def splits() -> Splits:
    """Counts of events [80, 6, 2, 6, 6], many of them early or late."""
    generator = torch.Generator().manual_seed(0)
    late = torch.arange(80) % 2
    x = torch.poisson(torch.full((80, T, 2, 6, 6), 0.3), generator=generator)
    x[torch.arange(80), 5 * late] += torch.poisson(torch.full((80, 2, 6, 6), 2.0), generator=generator)
    return gather([(x.to(torch.uint8), late)], time=True)


def windows(model: torch.nn.Module) -> Windows:
    (found,) = (m for m in model.modules() if isinstance(m, Windows))
    return found


FOUR: dict[str, Any] = {"name": "uniform", "bits": 4}
LEARNED = {"windows": 5, "learn_steps": True, "steps_target": 2.0, "steps_pull": 1.0, "steps_lr": 0.5}


def test_t_is_learned_towards_its_target_and_the_program_runs_so_many_steps(splits: Splits) -> None:
    recipe = table(allocation=LEARNED)
    start = windows(build_model(recipe, splits.train))
    assert (start.T, start.frames, start.bound) == (5, T, T)
    run = fit(recipe, splits)
    learned = windows(run.model).T
    assert 2 <= learned < 5 and run.history[-1]["validation_accuracy"] > 0.8
    x, _ = next(iter(Batches(splits.validation, 8)))
    sent: list[int] = []
    handle = run.model.body.get_submodule("1").register_forward_hook(lambda m, a, y: sent.append(len(y)))
    run.model.eval()(x)
    handle.remove()
    assert sent == [learned]
    network = bitspike.fold(run.model, x)
    program = bitspike.compile(network, x, weight_bits=16, input_bits=16)
    assert compare(program, network, [x]).agreement == 1
    steps, state = x.transpose(0, 1), None
    for step in steps.contiguous().numpy():
        result, state = program.stream(step[None], state)
    assert (result.levels == program(steps.contiguous().numpy()).levels).all()


def test_what_lowers_the_loss_moves_t_too(splits: Splits) -> None:
    """Without a target the gradient is that of the loss alone."""
    given = {name: value for name, value in LEARNED.items() if "target" not in name and "pull" not in name}
    run = fit(table(allocation=given), splits)
    raw = windows(run.model).raw_steps
    assert raw is not None and float(raw.detach()) != 5


def test_a_given_t_stays_and_costs_less(splits: Splits) -> None:
    plain, pooled = (
        run_job(table(weight=FOUR, model={"options": {"hidden": [8, 8]}}, **more), splits).result
        for more in ({}, {"allocation": {"windows": 2}})
    )
    assert pooled["s_ace"] < plain["s_ace"] / 2 and pooled["s_ace"] > 0
    assert pooled["folded_test_accuracy"] == pooled["test_accuracy"]


@pytest.mark.parametrize("name", ["study_cnn", "conv1d", "vgg11"])
def test_names_of_layers_stay(name: str, splits: Splits) -> None:
    shape = {"study_cnn": {"width": 2}, "conv1d": {"width": 2}, "vgg11": {"width": 1}}[name]
    if name == "vgg11":
        generator = torch.Generator().manual_seed(0)
        splits = gather([(torch.rand(8, T, 2, 32, 32, generator=generator), torch.arange(8) % 2)], time=True)
    plain, pooled = (
        build_model(table(model={"name": name, "options": shape}, **more), splits.train)
        for more in ({}, {"allocation": {"windows": 3}})
    )
    names = [key for key, _ in plain.named_parameters()]
    assert [key for key, _ in pooled.named_parameters()] == names
    x, _ = next(iter(Batches(splits.train, 4)))
    held = x.unflatten(1, (3, 2)).mean(2).repeat_interleave(2, 1)  # windows of two frames, each held for two
    assert pooled(x).shape == plain(x).shape and torch.equal(pooled.eval()(held), pooled(x))


def test_a_cut_run_goes_on_with_the_same_t_and_weights(tmp_path: Path, splits: Splits) -> None:
    recipe = table(allocation=LEARNED, train={"log_every": 1})
    whole = fit(recipe, splits)
    checkpoints = Checkpoints(tmp_path, "key")
    with pytest.raises(CutError):
        fit(recipe, splits, cut_after(2), checkpoints, 1)
    again = fit(recipe, splits, None, checkpoints, 1)
    assert equal(whole, again) and windows(again.model).T == windows(whole.model).T


def test_bits_are_learned_under_a_budget_behind_windows_that_are_given(splits: Splits) -> None:
    allocation = {"windows": 3, "budget": {"size": "300B"}, "grid": 5}
    options: dict[str, Any] = {"neuron": {"name": "adaptive"}, "weight": {"name": "learned_bits"}}
    result = run_job(table(allocation=allocation, policy={"first": "same", "last": "same"}, **options), splits).result
    assert result["budget"]["met"] and result["size_bytes"] <= 300
    assert [row["T"] for row in result["allocation"]] == [3, 3]


def test_keys(splits: Splits) -> None:
    plain = table(allocation={})
    assert plain.key("d") == replace(plain).key("d") != table(allocation={"windows": 3}).key("d")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"allocation": {"windows": 7}}, r"\[allocation\]: windows must be at most 6, the steps of"),
        ({"allocation": {"windows": 3}, "model": {"norm": "per_step"}}, "norm must not be 'per_step' where windows"),
        ({"allocation": {"windows": 0}}, "windows must lie in"),
        ({"allocation": {"windows": 3, "refined": True}}, "refined neurons and windows must not be given together"),
        ({"allocation": {"learn_steps": True}}, "learned time steps need refined neurons or windows"),
        (
            {"allocation": {"windows": 3, "learn_steps": True, "budget": {"size": "1kB"}}},
            "learn_steps must be false where windows stand beside a budget",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tables: dict[str, Any], words: str, splits: Splits) -> None:
    with pytest.raises(ValueError, match=words):
        build_model(table(**tables), splits.train)


def test_still_samples_and_unequal_ones_are_refused(splits: Splits) -> None:
    still = gather([(splits.train.images[:, 0], splits.train.labels)])
    with pytest.raises(ValueError, match=r"windows must be left out, as .* holds samples without a time axis"):
        build_model(table(allocation={"windows": 2}, model={"encoder": "repeat"}), still.train)
    rows = [x[: 3 + i % 4] for i, x in enumerate(splits.train.images)]
    unequal = gather(list(zip(rows, splits.train.labels.tolist(), strict=True)), time=True)
    recipe = table(allocation={"windows": 2}, model={"encoder_options": {"ragged": True}})
    with pytest.raises(ValueError, match=r"windows must be left out, as the sequences of .* end at different steps"):
        build_model(recipe, unequal.train)
