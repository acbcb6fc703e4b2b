"""Networks on sequences of different lengths: what may run them, and the same network at one length."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value
from bitspike.data import Samples, SequenceSet
from bitspike.graph import trace
from bitspike.layers import Encoder, Join, Padded, Squeeze, Windows, padded
from bitspike.sealed import amend
from bitspike.stream import stream
from bitspike.training.recipe import Recipe

M = TypeVar("M", bound=nn.Module)


def lengths_differ(data: Samples) -> bool:
    """Whether the set says of every sequence how many steps it has."""
    return isinstance(data, SequenceSet) and data.lengths is not None


def run_batch(model: nn.Module, x: Tensor | Padded) -> Tensor:
    """The output of a network for a batch, padded or not."""
    if not isinstance(x, Padded):
        return model(x)  # type: ignore[no-any-return]
    with padded(x.lengths):
        return model(x.values)  # type: ignore[no-any-return]


def check_unequal(recipe: Recipe, model: nn.Module, data: Samples, processes: int) -> None:
    """Raise unless what a network gives for a sequence is the same whatever stands behind its end.

    Raises:
        ValueError: something in the recipe that reads whole batches; a layer that changes T or reads later steps.
    """
    if not lengths_differ(data):
        return
    where = "sequences of different lengths"
    given = {
        "train.compile": (recipe.train.compile, "set train.compile=false"),
        "learned bits or time steps": (
            Allocation(model, recipe.allocation or AllocationConfig()).active,
            "take fixed ones",
        ),
        "several processes": (processes > 1, "train in one process"),
        "model.norm = 'per_step'": (recipe.model.norm == "per_step", "set model.norm=joint"),
    }
    for name, (wrong, todo) in given.items():
        if wrong:
            raise bad_value(where, f"{name} must be left out", "it", todo)
    still = copy.deepcopy(model).eval().cpu()
    graph = trace(still)
    for node in graph:
        joins = isinstance(node.module, Join) and len({graph[name].T for name in node.inputs}) > 1
        if joins or isinstance(node.module, (Squeeze, Windows)):
            got = f"{node.path} ({type(node.module).__name__})"
            raise bad_value(where, "no layer may change the number of steps", got, "take another network")
    stream(graph, torch.zeros(1, 2, *data.step_shape))  # which refuses what reads later steps


def at_length(model: M, steps: int) -> M:
    """A copy of a network whose encoder has so many steps; the weights are copied, too."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, Encoder):
            amend(module, T=steps)
    return twin
