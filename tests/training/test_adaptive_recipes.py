"""The studies of learned against uniform widths: every arm trains, folds and is costed, on toy images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike.data import ImageSet, Splits
from bitspike.training.job import run_job
from bitspike.training.study import Job, plan, read_study
from networks import rng

RECIPES = Path(__file__).resolve().parents[2] / "src" / "bitspike" / "recipes"
SHAPES = {"fashion_mnist_adaptive_study": (1, 28, 28), "cifar10_adaptive_study": (3, 32, 32)}
SMALLER = {"fashion_mnist_adaptive_study": (36, 10), "cifar10_adaptive_study": (4, 3)}  # S-ACE and size at width 4
JOBS = [(name, job) for name in SHAPES for job in plan(read_study(RECIPES / f"{name}.toml")) if job.seed == 0]


def images(count: int, shape: tuple[int, ...], seed: int) -> ImageSet:
    """Ten classes, each with a bright band of its own."""
    labels = torch.arange(count) % 10
    pixels = torch.randint(0, 60, (count, *shape), generator=rng(seed))
    for index, label in enumerate(labels.tolist()):
        pixels[index, :, 2 * label + 2 : 2 * label + 5] += 150
    constants = (0.3,) * shape[0]
    return ImageSet(pixels.to(torch.uint8), labels, tuple("0123456789"), 255, constants, constants, "bands")


@pytest.mark.slow
@pytest.mark.parametrize(("study", "job"), [pytest.param(*pair, id=pair[1].arm) for pair in JOBS])
def test_every_arm_runs(study: str, job: Job) -> None:
    """Two epochs of 12 batches; a uniform arm has the bits and T of its name, a learned one records its own.

    Budgets shrink with the operations of the hidden layers; the size, of which more stays, is far from its limit then.
    """
    shape, given, allocation = SHAPES[study], job.recipe, job.recipe.allocation
    assert allocation is not None
    if allocation.budget:
        operations, size = SMALLER[study]
        limits = {"s-ace": allocation.budget["s-ace"] // operations, "size": allocation.budget["size"] // size}
        allocation = replace(allocation, budget=limits, freeze_epoch=1.0)
    splits = Splits(*(images(count, shape, seed) for seed, count in enumerate((192, 40, 40))))
    recipe = replace(
        given,
        data=replace(given.data, batch_size=16, augment="none"),
        model=replace(given.model, options={**given.model.options, "width": 4}),
        train=replace(given.train, epochs=2, lr=0.05),
        allocation=allocation,
    )
    result: dict[str, Any] = run_job(recipe, splits).result
    assert result["history"][-1]["loss"] < 2.4 and result["s_ace"] > 0
    hidden = [row for row in result["allocation"] if row["role"] == "hidden"]
    weights, spikes, T = (int(part) for part in job.arm.split("-")[1:4])
    if allocation.budget:
        assert (
            result["budget"]["met"]
            and 0.9 * allocation.budget["s-ace"] <= result["s_ace"] <= allocation.budget["s-ace"]
        )
    if job.arm.startswith(("learned", "averages")):
        record = result["history"][-1]
        assert all(1 <= row["T"] <= 3 for row in hidden) and len(record["allocation"]["steps"]) >= 5
        assert {"weight_bits", "spike_bits", "T"} <= record.keys()
    else:
        assert {(row["weight_bits"], row["spike_bits"], row["T"]) for row in hidden} == {(weights, spikes, T)}
        assert result["bit_budget"] == weights * spikes * T
        assert result["s_ace"] == sum(row["macs"] for row in hidden) * weights * spikes * T
