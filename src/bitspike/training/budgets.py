"""The budgets of a recipe."""

from __future__ import annotations

from torch import nn

from bitspike.allocation.controller import Budgets
from bitspike.allocation.widths import Allocation
from bitspike.data import Splits
from bitspike.training.distributed import World
from bitspike.training.evaluation import loss_of
from bitspike.training.recipe import Recipe
from bitspike.training.task import training_task
from bitspike.training.timing import Timing, make_watch


def make_budgets(
    recipe: Recipe, allocation: Allocation, splits: Splits, world: World, steps: int, timing: Timing | None = None
) -> Budgets | None:
    """The budgets of a recipe, None where it has none.

    Args:
        recipe, splits: of the run. allocation: of its network. world: its processes. steps: optimiser steps of an
            epoch. timing: what is known of times, for a latency budget.

    Raises:
        ValueError: budgets that cannot be met, or a latency that cannot be measured.
    """
    if allocation.config.budget is None:
        return None
    size, epochs = recipe.data.eval_batch_size, recipe.train.epochs
    task = training_task(recipe.train, splits.train)

    def loss(model: nn.Module) -> float:
        return loss_of(model, splits.validation, size, allocation.config.sensitivity_samples, recipe.train, task)

    watch = make_watch(recipe, splits, world, timing or Timing())
    return Budgets(allocation, splits.validation, size, epochs, steps, loss, watch)
