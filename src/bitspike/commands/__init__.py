"""The commands of ``bitspike``, one typed function each."""

from collections.abc import Callable

from bitspike.commands.inspect import compare, cost, evaluate, fold
from bitspike.commands.study import demo, study
from bitspike.commands.train import train

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "eval": evaluate,
    "fold": fold,
    "cost": cost,
    "compare": compare,
    "study": study,
    "demo": demo,
}

__all__ = ["COMMANDS", "compare", "cost", "demo", "evaluate", "fold", "study", "train"]
