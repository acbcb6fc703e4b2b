"""What a latency budget of a recipe needs: the clock, its table from a checkpoint or file, and where one is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bitspike.allocation.check import Clocked
from bitspike.allocation.stopwatch import Watch
from bitspike.allocation.times import Times, read_times
from bitspike.checks import bad_value
from bitspike.data import Batches, Splits
from bitspike.schema import from_mapping
from bitspike.training.checkpoint import Checkpoint
from bitspike.training.clock import WHERE, EngineClock
from bitspike.training.distributed import World
from bitspike.training.recipe import Recipe

_SAMPLES = 16
_VERDICT_S = 1.0


@dataclass(frozen=True)
class Timing:
    """What is known before budgets are made.

    Attributes:
        times: a table, None where there is none yet. progress: called while one is measured, with timed and programs
            (how many of how many), and epoch 0, epochs and a loss of 0 for those who read them.
    """

    times: Times | None = None
    progress: Callable[[dict[str, Any]], None] | None = None


def times_in(saved: Checkpoint | None) -> Times | None:
    """The table in a checkpoint; None where there is none."""
    known = None if saved is None else saved.facts.get("budgets", {}).get("times")
    return None if known is None else from_mapping(Times, known, "resume")


def make_watch(recipe: Recipe, splits: Splits, world: World, timing: Timing) -> Watch | None:
    """Clock and table of a recipe's latency budget; None where it has none.

    Raises:
        ValueError: more than one process, no native engine, or a file that is no table or one of another machine.
    """
    config = recipe.allocation
    if config is None or "latency" not in (config.budget or {}):
        return None
    if world.size > 1:
        raise bad_value(WHERE, "one process must train, as each would measure its own times", world.size, "start one")
    path = None if config.times is None else Path(config.times)
    times = timing.times
    if times is None and path is not None and path.exists():
        times = read_times(path)
    if times is None and path is not None and not path.parent.is_dir():
        raise bad_value("[allocation] times", "its folder must be there", str(path.parent), "make it")
    progress = timing.progress

    def counted(done: int, programs: int) -> None:
        if progress is not None:
            epochs = recipe.train.epochs
            progress({"epoch": 0.0, "epochs": epochs, "loss": 0.0, "timed": done, "programs": programs})

    clock = EngineClock(_sample(splits), config.latency_threads)
    return Watch(clock, times, None if path is None else lambda made: made.write(path), counted)


def clock_again(recipe: Recipe, splits: Splits, times: Times | None) -> Clocked | None:
    """A clock that takes its time, and the table of a run; None where the run had none."""
    if times is None or recipe.allocation is None:
        return None
    return Clocked(EngineClock(_sample(splits), recipe.allocation.latency_threads, _VERDICT_S), times)


def _sample(splits: Splits) -> Tensor:
    return next(iter(Batches(splits.validation, min(_SAMPLES, len(splits.validation)))))[0]
