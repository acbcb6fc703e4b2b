"""The recipes for a GPU: read, built at their full size, and trained for a step on the CPU at a small one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bitspike.data import ImageSet, Splits
from bitspike.schema import to_mapping
from bitspike.training.build import build_network
from bitspike.training.loop import fit
from bitspike.training.recipe import read_recipe, recipe_from_mapping
from bitspike.training.study import plan, read_study
from networks import rng

FOLDER = Path(__file__).resolve().parents[2] / "src" / "bitspike" / "recipes"
ARMS = ("binary", "ternary", "ternary-trainable", "reverb", "multibit", "adaptive")
JOBS = {job.arm: job for job in plan(read_study(FOLDER / "cifar10_gpu_study.toml")) if job.seed == 0}


def part(count: int, seed: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=rng(seed)).to(torch.uint8)
    names = tuple("abcdefghij")
    return ImageSet(pixels, torch.arange(count) % 10, names, 255, (0.5,) * 3, (0.25,) * 3, "noise")


def test_the_studies_have_the_same_arms_and_differ_in_length() -> None:
    for name, epochs, augment in (("cifar10_gpu", 100, "shift-flip"), ("cifar10_gpu_long", 400, "shift-flip-cutout")):
        jobs = plan(read_study(FOLDER / f"{name}_study.toml"))
        assert [job.arm for job in jobs] == [*ARMS] * 3
        base = read_recipe(FOLDER / f"{name}.toml")
        for job in jobs:
            train = job.recipe.train
            assert (train.epochs, train.precision, train.compile, train.channels_last) == (epochs, "bf16", True, True)
            assert job.recipe.data == base.data and job.recipe.data.augment == augment
            assert (job.recipe.model.name, job.recipe.model.T) == ("resnet20", 2)


@pytest.mark.parametrize("arm", ["binary", "reverb"])
def test_the_network_has_its_size(arm: str) -> None:
    with torch.device("meta"):
        network = build_network(JOBS[arm].recipe, (3, 32, 32), 10, warn=False)
    assert 11.24e6 < sum(p.numel() for p in network.parameters()) < 11.26e6


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_step_of_every_arm(arm: str) -> None:
    mapping = to_mapping(JOBS[arm].recipe)
    mapping["model"]["options"]["width"] = 8
    mapping["train"] |= {"epochs": 1, "compile": False, "threads": 1}
    mapping["data"]["batch_size"] = 8
    chosen = recipe_from_mapping(mapping)
    assert replace(chosen.train, epochs=100, compile=True, threads=2) == JOBS[arm].recipe.train
    run = fit(chosen, Splits(part(16, 0), part(4, 1), part(4, 2)))
    assert 0 < run.history[0]["loss"] < 20
