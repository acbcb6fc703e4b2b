"""``bitspike train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from bitspike.allocation.budget import budget_sets
from bitspike.commands.options import Json, measured, write_json
from bitspike.progress import Shown
from bitspike.training.recipe import read_recipe
from bitspike.training.runs import train_run


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    out: Path,
    set: tuple[str, ...] = (),
    budget: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=LIMIT")] = (),
    resume: bool = False,
    checkpoint_steps: int = 200,
    tensorboard: bool = False,
    dashboard: bool = False,
    json: Json = None,
    quiet: bool = False,
) -> None:
    """Train a recipe; leaves recipe.toml, metrics.jsonl, best and final weights, last/ and summary.json.

    Exit code 1, and a line that says why, also where the run ends at chance level, with a dead layer, or because loss
    or weights are NaN or inf; then metrics, best weights and the last checkpoint before are left.

    Args:
        recipe: TOML file, or a built-in recipe: cifar10_adaptive, cifar10_allocation, cifar10_dvs, cifar10_engine,
            cifar10_former_gpu, cifar10_gpu, cifar10_gpu_long, cifar10_mechanisms, cifar10_scratch,
            cifar10_spikformer, digits, digits_adaptive, digits_clip_floor, dvs_gesture, fashion_mnist,
            fashion_mnist_adaptive, fashion_mnist_clip_floor, fashion_spikformer, fsdd, nmnist, shd,
            tiny_imagenet.
        out: Folder of the run.
        set: key=value pairs laid over the recipe, e.g. train.lr=0.05 data.root=DIR.
        budget: A limit that the trained network must keep; once for each, e.g. --budget s-ace=50M --budget size=300kB.
            Names: bit-budget, s-ace, ns-ace (k, M, G), size, activations (B, kB, MB, GB, KiB, MiB, GiB), latency (us,
            ms, s). Exit code 1 and a line with the figures if one is not kept, or the tightest is used to less than
            90 % without need.
        resume: Go on where an earlier call was cut; exact on the CPU. The recipe may differ in keys that are safe, such
            as train.epochs of a constant schedule; others are refused by name.
        checkpoint_steps: Optimiser steps between two checkpoints, at least 1.
        tensorboard: Write TensorBoard events to OUT/tensorboard too.
        dashboard: The same, and what the neurons do after every epoch: rates, set bits, saturation, histograms of
            membranes, on 64 validation samples. Show it with `tensorboard --logdir OUT`.
        json: Write the summary to this file too.
        quiet: Show no progress.
    """
    chosen = read_recipe(recipe, (*set, *budget_sets(budget)))
    with Shown(1, quiet) as shown:
        shown.job(1, 1, chosen.name)
        summary = train_run(chosen, out, resume, shown.step, checkpoint_steps, tensorboard, dashboard)
    if not summary:  # another process of the same torchrun writes
        return
    if "stopped" in summary:
        best = summary["best_epoch"]
        left = f"best weights (epoch {best}), checkpoints and metrics" if best else "recipe and checkpoints"
        write_json(json, summary)
        print(f"{chosen.name}: stopped; {left} are in {out}\ntraining FAILED: {summary['findings'][0]}")
        raise SystemExit(1)
    write_json(json, summary)
    print(f"{chosen.name}: {', '.join(measured(summary))}; {out}")
    if "budget" in summary:
        print(summary["budget"]["says"])
    for finding in summary["findings"]:
        print(f"training FAILED: {finding}")
    if summary["findings"] or not summary.get("budget", {}).get("met", True):
        raise SystemExit(1)
