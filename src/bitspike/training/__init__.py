"""Training: typed recipes, the training loop, losses, and the resumable study queue."""

from bitspike.renamed import renamed as _renamed
from bitspike.training.build import build_model, build_network
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.diverged import DivergedError
from bitspike.training.evaluation import evaluate
from bitspike.training.job import Finished, load_data, run_job
from bitspike.training.loop import Run, fit
from bitspike.training.recipe import Recipe, read_recipe, recipe_from_mapping
from bitspike.training.study import read_study, run_study, summarise

__all__ = [
    "Checkpoints",
    "DivergedError",
    "Finished",
    "Recipe",
    "Run",
    "build_model",
    "build_network",
    "evaluate",
    "fit",
    "load_data",
    "read_recipe",
    "read_study",
    "recipe_from_mapping",
    "run_job",
    "run_study",
    "summarise",
]

_OLD = {name: "bitspike.allocation" for name in ("Allocation", "AllocationConfig")}


def __getattr__(name: str) -> object:
    """Names of the last release."""
    return _renamed(__name__, _OLD, name)
