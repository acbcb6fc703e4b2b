"""The folder of one training run: recipe, metrics, weights, checkpoints, summary."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.checked import checked
from bitspike.checks import bad_value, integer
from bitspike.data import Batches, Samples, Splits
from bitspike.files import read_json, write_json_atomic, write_text_atomic
from bitspike.schema import to_toml
from bitspike.training.bound import check_bound, recipe_fact
from bitspike.training.budgets import make_budgets
from bitspike.training.build import build_model
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.converted import build_converted
from bitspike.training.dashboard import Dashboard
from bitspike.training.distributed import World, world
from bitspike.training.diverged import DivergedError
from bitspike.training.ema import make_ema
from bitspike.training.evaluation import logits_of
from bitspike.training.job import digest, load_data, measure
from bitspike.training.loop import EpochEnd, Progress, counts, epoch_batches, fit, load_weights
from bitspike.training.measures.of_labels import average_precisions, f1_of_labels
from bitspike.training.recipe import Recipe, read_recipe
from bitspike.training.resume import check_changes, stored_recipe
from bitspike.training.task import task_of, training_task
from bitspike.training.tensorboard_log import TensorBoardLog
from bitspike.training.timing import Timing
from bitspike.training.unequal import run_batch
from bitspike.training.weights import read_weights, save_weights

_LOOK = 64


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    ``recipe.toml`` (resolved), ``metrics.jsonl`` (a line an epoch), ``best.safetensors`` (best validation accuracy),
    ``final.safetensors`` (after the last epoch), ``last/`` (all that exact resume needs), ``summary.json``.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON record a line, one line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Figures of the finished run."""
        return self.path / "summary.json"

    def weights(self, which: str) -> Path:
        """Weights: "best" or "final"."""
        return self.path / f"{which}.safetensors"

    def read(self) -> Recipe:
        """The resolved recipe; raises `ValueError` where there is none."""
        if not self.recipe.exists():
            raise bad_value(str(self.path), "it must hold a run (recipe.toml)", "none", "run `bitspike train` first")
        return read_recipe(self.recipe)

    def begun(self) -> bool:
        """Whether it holds what a run has worked for; a recipe alone is of one that never began."""
        left = [self.metrics, self.summary, self.weights("best"), self.weights("final")]
        return any(path.exists() for path in left) or any((self.path / "last").glob("*.safetensors"))

    def figures(self) -> dict[str, Any]:
        """The summary; raises `ValueError` where the run has not finished."""
        if not self.summary.exists():
            raise bad_value(str(self.path), "it must hold a finished run", "no summary.json", "run `bitspike train`")
        document = read_json(self.summary)
        if not isinstance(document, dict):
            raise bad_value(str(self.summary), "it must hold a table", type(document).__name__, "train again")
        return document


def train_run(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    progress: Progress | None = None,
    checkpoint_steps: int = 200,
    tensorboard: bool = False,
    dashboard: bool = False,
) -> dict[str, Any]:
    """Train a recipe into a folder.

    Under ``torchrun`` the processes train together and the first one writes.

    Args:
        recipe: what to train. folder: created if missing. resume: go on where an earlier call was cut.
        progress: see `fit`. checkpoint_steps: steps between two checkpoints.
        tensorboard: write events to ``tensorboard/`` too. dashboard: also what neurons send and hold (`Dashboard`).

    Returns:
        The summary ({} in all processes but the first): figures of `bitspike.training.job.measure` for the final
        weights, and the best epoch. Of a run that diverged, that of `DivergedError`, which no file holds: metrics, best
        weights and the checkpoints of before are there, and the run has not finished.

    Raises:
        ValueError: the folder holds a run and ``resume`` is false, or a run of other data or of a recipe that differs
            in more than `check_changes` allows.
    """
    integer("train", "checkpoint_steps", checkpoint_steps, 1, 2**31 - 1)
    with world() as together, ExitStack() as stack:
        log = None
        if (tensorboard or dashboard) and together.writes:
            option = "--dashboard" if dashboard else "--tensorboard"
            log = stack.enter_context(TensorBoardLog(folder / "tensorboard", option))
        watching = Watching(log, dashboard)
        return _train_run(recipe, RunFolder(folder), resume, progress, checkpoint_steps, together, watching)


@dataclass(frozen=True)
class Watching:
    """What is logged at the end of an epoch. Args: log: None for nothing. dashboard: neurons, too."""

    log: TensorBoardLog | None = None
    dashboard: bool = False

    def at(self, splits: Splits) -> EpochEnd | None:
        """What `fit` calls."""
        log = self.log
        if log is None:
            return None
        return Dashboard(log, splits.validation) if self.dashboard else lambda record, _: log.epoch(record)


def _train_run(
    recipe: Recipe,
    run: RunFolder,
    resume: bool,
    progress: Progress | None,
    checkpoint_steps: int,
    together: World,
    watching: Watching,
) -> dict[str, Any]:
    folder = run.path
    if run.begun() and not resume:
        raise bad_value("train", f"{folder} must not hold a run yet", "one", "pass --resume or another --out")
    old = stored_recipe(run.recipe) if resume and run.begun() else None
    if old is not None:
        check_changes(old, recipe, 0)
    splits = load_data(recipe)
    content = digest(recipe, splits)
    key = recipe.key(content)
    steps = len(epoch_batches(recipe, splits.train, 0, together))  # what is wrong with them is said before all else
    own = training_task(recipe.train, splits.train)
    for part in (splits.validation, *([splits.test] if recipe.data.test else [])):
        own.check(part)
    times = None
    if not resume:
        model = build_model(recipe, splits.train, warn=False)
        allocation = Allocation(model, recipe.allocation or AllocationConfig())
        budgets = make_budgets(recipe, allocation, splits, together, steps, Timing(None, progress))
        times = None if budgets is None or budgets.stopwatch is None else budgets.stopwatch.times
        make_ema(model, recipe.train.ema, allocation)
    together.barrier()  # everyone has looked before the first one writes
    checkpoints = Checkpoints(folder / "last", key, [] if old is None else [old.key(content)])
    earlier = checkpoints.load()
    if old is not None and earlier is not None:
        check_changes(old, recipe, int(earlier.facts["place"]["epoch"]))
        if together.writes and old.key(content) != key:
            for _ in range(2):  # both files, each while the other one is whole
                checkpoints.save(earlier)
    if together.writes:
        write_text_atomic(run.recipe, to_toml(recipe))
    history: list[dict[str, Any]] = list(earlier.facts["history"]) if earlier else []

    def shown(figures: dict[str, Any]) -> None:
        if "time_s" in figures:  # an epoch has ended
            history.append({name: value for name, value in figures.items() if name != "epochs"})
            write_text_atomic(run.metrics, _lines(history))
        if progress:
            progress({**figures, "samples": len(splits.train)})

    facts = {"key": key, **recipe_fact(recipe)}
    try:
        trained = fit(recipe, splits, shown, checkpoints, checkpoint_steps, together, times, watching.at(splits))
    except DivergedError as error:
        if not together.writes:
            return {}
        if error.best:
            save_weights(run.weights("best"), error.best, facts)
        return {"key": key, **error.summary()}
    if not together.writes:
        return {}
    write_text_atomic(run.metrics, _lines(trained.history))
    save_weights(run.weights("best"), trained.best, facts)
    save_weights(run.weights("final"), trained.model.state_dict(), facts)
    _, figures = measure(recipe, splits, trained)
    eligible = [record for record in trained.history if counts(record)] or trained.history[-1:]
    task = task_of(splits.validation, recipe.train.metric)
    validation = f"validation_{task.measure}"
    best = max(eligible, key=lambda record: task.quality(record[validation]))
    summary = {
        "key": key,
        "best_epoch": best["epoch"],
        f"best_{validation}": best[validation],
        **figures,
    }
    write_json_atomic(run.summary, summary)
    return summary


def keep_run(folder: Path, recipe: Recipe, key: str, model: nn.Module, result: dict[str, Any]) -> None:
    """Write a finished job of a study as a run, without its best weights; the summary comes last.

    Args:
        folder: created if missing; what it holds of a run is written over. recipe, key: of the job.
        model: after the last epoch. result: of `bitspike.training.job.run_job`.
    """
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.summary.unlink(missing_ok=True)
    write_text_atomic(run.recipe, to_toml(recipe))
    write_text_atomic(run.metrics, _lines(result["history"]))
    save_weights(run.weights("final"), model.state_dict(), {"key": key, **recipe_fact(recipe)})
    write_json_atomic(run.summary, {"key": key, **result})


def open_run(folder: Path, which: str = "final") -> tuple[Recipe, Splits, nn.Module]:
    """Recipe, data and trained (or converted) network (evaluation mode) of a run folder.

    Args:
        folder: of the run. which: "final" or "best" weights.

    Raises:
        ValueError: no run, no weights yet, weights that are damaged or do not fit, or a recipe that is no longer the
            one that they were trained by.
    """
    run = RunFolder(folder)
    recipe = run.read()
    path = run.weights(which)
    if not path.exists():
        raise bad_value(str(path), "the run must be finished", "no weights", "run `bitspike train --resume`")
    again = "run the same `bitspike train` with --resume"
    todo = again if recipe.convert is None else "convert again, into another folder"
    tensors = read_weights(path, todo, hashed=True)
    check_bound(path, recipe, run.recipe, todo)
    splits = load_data(recipe)
    model = build_model(recipe, splits.train) if recipe.convert is None else build_converted(recipe, splits.train)
    load_weights(model, tensors, str(path))
    return recipe, splits, model.eval()


def evaluate_run(folder: Path, which: str = "final") -> dict[str, Any]:
    """Evaluate a run on the test split.

    Returns:
        test_accuracy; per_class: class → recall; batch_invariance: batch size → largest logit difference to a batch
        of 64 and number of samples whose class differs, over the first 448 samples. Of a regression: test_error (or
        the recipe's metric), metrics: all measures, per_value: name → error, and batch_invariance without classes. Of
        sets of labels: test_micro_f1 (or the recipe's metric), metrics, per_label: name → f1, average_precision (null
        where no sample has it), samples; batch_invariance with the number of samples whose labels differ.

    Raises:
        ValueError: as `open_run`; NaN or inf in what a layer makes of the first 64 samples, or in the logits.
    """
    recipe, splits, model = open_run(folder, which)
    first, _ = next(iter(Batches(splits.test, min(_LOOK, len(splits.test)))))
    with torch.no_grad(), checked():  # currents that overflow are hidden by firing
        run_batch(model, first)
    logits = logits_of(model, splits.test, recipe.data.eval_batch_size)
    part = splits.test.subset(torch.arange(min(len(splits.test), 448)))
    against = {str(size): _against(model, part, size) for size in (1, 7)}
    task = task_of(splits.test, recipe.train.metric)
    if task.kind != "classes":
        figures = task.scores(logits, splits.test.labels)
        of_each = _per_value if task.regression else _per_label
        return {
            f"test_{task.measure}": figures[task.measure],
            "samples": len(splits.test),
            "metrics": figures,
            **of_each(logits, splits.test),
            "batch_invariance": against,
        }
    right = logits.argmax(1) == splits.test.labels
    per_class = {
        name: float(right[splits.test.labels == index].double().mean())
        for index, name in enumerate(splits.test.classes)
        if bool((splits.test.labels == index).any())
    }
    return {
        "test_accuracy": float(right.double().mean()),
        "samples": len(splits.test),
        "per_class": per_class,
        "batch_invariance": against,
    }


def _per_value(outputs: Tensor, data: Samples) -> dict[str, Any]:
    errors = (outputs - data.labels).double().square().mean(0).sqrt()
    return {"per_value": dict(zip(data.classes, errors.tolist(), strict=True))}


def _per_label(outputs: Tensor, data: Samples) -> dict[str, Any]:
    y, there = outputs.double().cpu().numpy(), data.labels.cpu().numpy()
    columns = f1_of_labels(y, there), average_precisions(y, there), there.sum(0).tolist()
    keys = ("f1", "average_precision", "samples")
    rows = (dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True))
    return {"per_label": dict(zip(data.classes, rows, strict=True))}


def _against(model: nn.Module, part: Samples, size: int) -> dict[str, Any]:
    whole, parts = logits_of(model, part, 64), logits_of(model, part, size)
    difference = {"max_logit_difference": float((whole - parts).abs().max())}
    task = task_of(part)
    if task.regression:
        return difference
    if task.multilabel:
        return {**difference, "labels_that_differ": int(((whole > 0) != (parts > 0)).any(1).sum())}
    return {
        **difference,
        "classes_that_differ": int((whole.argmax(1) != parts.argmax(1)).sum()),
    }


def _lines(history: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in history)
