"""``bitspike study``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from bitspike.checks import bad_value, in_range
from bitspike.commands.options import Json, write_json
from bitspike.commands.study_ray import run_on_ray
from bitspike.progress import Shown
from bitspike.report import (
    as_text,
    level_picture,
    level_table,
    level_use,
    pareto_picture,
    study_picture,
    study_table,
)
from bitspike.schema import override, to_mapping
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.job import digest, load_data, run_job
from bitspike.training.recipe import Recipe
from bitspike.training.runs import keep_run
from bitspike.training.study import Outcome, Progress, Study, plan, read_study, results_of, run_study, summarise


def study(
    queue: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUEUE")],
    set: tuple[str, ...] = (),
    out: Path | None = None,
    shard: str = "0/1",
    runs: Path | None = None,
    table_only: bool = False,
    json: Json = None,
    picture: Path | None = None,
    pareto: Path | None = None,
    levels: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None,
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None,
    ray_gpus: float = 0.0,
    quiet: bool = False,
) -> None:
    """Run a queue of (arm, seed) jobs; what is done is skipped, what was cut goes on where it was.

    Args:
        queue: TOML file of the queue, or a built-in one: cifar10_adaptive_study, cifar10_allocation_study,
            cifar10_engine_study, cifar10_gpu_long_study, cifar10_gpu_study, cifar10_mechanisms_study,
            cifar10_scratch_study, cifar10_spikformer_study, cifar_former_gpu_study, digits_budgets, digits_demo,
            fashion_mnist_adaptive_study, fashion_mnist_bf16, fashion_mnist_restimulation, fashion_mnist_study,
            fashion_mnist_tuning, fashion_spikformer_study, fsdd_study, nmnist_study, nmnist_tuning.
        set: key=value pairs laid over the base recipe, e.g. data.root=DIR train.epochs=3.
        out: Folder of the results; default: what the queue says, runs/NAME for a built-in one.
        shard: I/N: run only every N-th job, beginning with the I-th; for several processes on one queue.
        runs: Keep every job's network as a run, in a folder ARM-seedN here, for compile, fold, cost and eval.
        table_only: Run nothing: print the table of what is done.
        json: Write the summary (mean, std, n per arm) to this file.
        picture: Write the comparison as a PNG.
        pareto: Write accuracy against S-ACE and bit budget, and who is beaten by nobody, as a PNG.
        levels: Print how often every bit of a spike is used, and write the shares of all levels as a PNG.
        ray: Hand the jobs to the Ray cluster there; auto: the one that runs here, or all cores of this machine. --out
            and the data must be on storage that all its machines see.
        ray_gpus: GPUs a job of the cluster, 0.5 for two jobs on one.
        quiet: Show no progress.
    """
    in_range("--ray-gpus", "it", ray_gpus, 0, 64)
    if ray_gpus and ray is None:
        raise bad_value("--ray-gpus", "a cluster must be given", "none", "give --ray ADDRESS, or drop it")
    chosen = read_study(queue)
    if set:
        chosen = replace(chosen, base=override(chosen.base, set))
    if out:
        chosen = replace(chosen, out=out)
    share = _shard(shard)
    outcome = Outcome((), (), 0, False) if table_only else run_queue(chosen, share, quiet, runs, ray, ray_gpus)
    if outcome.diverged and not any(results_of(chosen).values()):
        picture = pareto = levels = None  # there is nothing to draw
    show(chosen, json, picture, pareto, levels)
    if outcome.diverged:
        raise SystemExit(1)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise bad_value("--shard", "it must be I/N with 0 <= I < N", repr(text), "e.g. --shard 0/2")
    return int(index), int(count)


def run_queue(
    queue: Study,
    shard: tuple[int, int],
    quiet: bool,
    runs: Path | None = None,
    ray: str | None = None,
    gpus: float = 0.0,
) -> Outcome:
    """Run what is left of a queue, with its progress; says which jobs have diverged.

    Args:
        queue, shard, quiet, ray, gpus: as the command takes them. runs: folder for the jobs' networks.
    """
    if ray is not None:
        outcome = run_on_ray(queue, ray, partial(train_job, runs=runs), shard, lambda line: _say(line, quiet), gpus)
    else:
        with Shown(len(plan(queue)), quiet) as shown:
            outcome = run_study(
                queue,
                lambda recipe: train_job(queue, recipe, shown.step, runs),
                data_digest=lambda recipe: digest(recipe, load_data(recipe)),
                on_progress=lambda p: shown.job(p.position, p.total, _label(p)),
                shard=shard,
            )
    for path, finding in outcome.diverged.items():
        print(f"{path.stem}: training FAILED: {finding}")
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome


def train_job(
    queue: Study, recipe: Recipe, step: Callable[[dict[str, Any]], None] | None = None, runs: Path | None = None
) -> dict[str, object]:
    """Train one recipe of a queue from its last checkpoint on; ``runs``: folder for the network."""
    splits = load_data(recipe)
    key = recipe.key(digest(recipe, splits))
    cut = queue.out / ".cut" / key[:16]
    finished = run_job(recipe, splits, step, Checkpoints(cut, key))
    if runs is not None:
        names = [job.path.stem for job in plan(queue) if job.recipe == recipe]
        keep_run(runs / names[0], recipe, key, finished.model, finished.result)
    shutil.rmtree(cut, ignore_errors=True)
    return finished.result


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def _label(job: Progress) -> str:
    """What is said of a job when its turn comes: it is done, or from now on it runs (and why again)."""
    return f"{job.job.arm} seed {job.job.seed}: {job.state.replace('not run', 'running')}"


def show(
    queue: Study,
    json: Path | None = None,
    picture: Path | None = None,
    pareto: Path | None = None,
    levels: Path | None = None,
) -> None:
    """Print the table of what is done, and write what is asked for."""
    rows, uses = summarise(queue), level_use(queue)
    document = {"study": queue.name, "arms": [to_mapping(row) for row in rows]}
    write_json(json, document | {"levels": [to_mapping(use) for use in uses]})
    if levels:
        levels.parent.mkdir(parents=True, exist_ok=True)
        level_picture(rows, uses, levels, queue.name)
    for path, draw in ((picture, study_picture), (pareto, pareto_picture)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(rows, path, queue.name)
    print(as_text(study_table(rows)))
    for arm, results in results_of(queue).items():
        for seed, result in results.items():
            for finding in result.get("findings", ()):
                print(f"{arm} seed {seed}: training FAILED: {finding}")
    if levels:
        print("\n" + as_text(level_table(rows, uses)))
