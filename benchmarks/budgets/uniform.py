"""Costs of networks of one width everywhere, beside which the budgets of ``queue.toml`` are judged.

Usage: python benchmarks/budgets/uniform.py OUT.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bitspike.allocation.forecast import exact
from bitspike.cost import activations, cost
from bitspike.files import write_json_atomic
from bitspike.fold import fold
from bitspike.schema import override
from bitspike.training.build import build_model
from bitspike.training.job import load_data
from bitspike.training.recipe import recipe_from_mapping
from bitspike.training.study import read_study

QUEUE = Path(__file__).parent / "queue.toml"
NAMES = ("s-ace", "size", "bit-budget")


def settings(bits: int, steps: int) -> dict[str, object]:
    """What makes the base recipe one of a single width and T."""
    fixed: dict[str, object] = {"neuron.bits": bits, "neuron.learn_bits": False, "model.T": steps}
    return fixed | {"weight.bits": bits, "weight.learn_bits": False, "allocation.learn_steps": False}


def main(out: str) -> None:
    """Count every uniform network and write its figures."""
    base = read_study(QUEUE).base
    found = {}
    for bits in range(1, 7):
        for steps in (1, 2):
            chosen = override(base, [f"{key}={str(value).lower()}" for key, value in settings(bits, steps).items()])
            recipe = recipe_from_mapping(chosen, "uniform")
            torch.manual_seed(0)
            splits = load_data(recipe)
            x = splits.validation.subset(torch.arange(2)).images.float()
            graph = fold(build_model(recipe, splits.train, warn=False).eval(), x).graph
            counted, memory = cost(graph, x, input_bits=8), activations(graph, x, input_bits=8)
            found[f"uniform-{bits}b-T{steps}"] = {name: exact(name, counted, memory, "all") for name in NAMES}
    write_json_atomic(Path(out), found)


if __name__ == "__main__":
    main(sys.argv[1])
