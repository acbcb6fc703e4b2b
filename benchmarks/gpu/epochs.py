"""An epoch of the packaged recipes, through bitspike's own trainer: data on the device, nothing waits in between."""

from __future__ import annotations

from importlib import resources
from typing import Any

import torch
from clock import Clock

from bitspike.data import ImageSet, Splits
from bitspike.files import read_toml
from bitspike.ops import using
from bitspike.training.distributed import World
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping

RECIPES = ("cifar10_gpu", "cifar10_gpu_long")


def recipe(name: str, toy: bool) -> tuple[Recipe, int]:
    """The recipe, cut to two epochs (and small, for a toy), and its epochs."""
    with resources.as_file(resources.files("bitspike") / "recipes" / f"{name}.toml") as path:
        mapping: dict[str, Any] = read_toml(path)
    whole = int(mapping["train"]["epochs"])
    mapping["train"]["epochs"] = 2
    if toy:
        mapping["train"] |= {"compile": False, "threads": torch.get_num_threads()}
        mapping["data"] |= {"batch_size": 2, "hole": 4}
        mapping["model"]["options"]["width"] = 4
    return recipe_from_mapping(mapping), whole


def random_cifar(count: int, seed: int, side: int = 32) -> ImageSet:
    """Random images of CIFAR-10's shape: time does not depend on what they show."""
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    names = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    return ImageSet(pixels.to(torch.uint8), torch.arange(count) % 10, names, 255, mean, std, "random")


def epochs(clock: Clock, done: dict[str, Any]) -> list[dict[str, Any]]:
    """The second epoch of each recipe (the first one compiles); its time leaves out validation."""
    rows = []
    images, side = (4, 16) if clock.toy else (50_000, 32)
    validation = random_cifar(4 if clock.toy else 500, 1, side)
    splits = Splits(random_cifar(images, 0, side), validation, random_cifar(4, 2, side))
    for name in RECIPES:
        chosen, whole = recipe(name, clock.toy)
        row = {"recipe": name, "images": images, "T": chosen.model.T, "batch": chosen.data.batch_size, "of": whole}
        if clock.left_s() < (10 if clock.toy else 120):
            rows.append({**row, "not_run": "no time left"})
            continue
        with using("triton"):
            run = fit(chosen, splits, world=World(device=torch.device(clock.device)))
        seconds = run.history[1]["time_s"]
        row |= {"first_epoch_s": round(run.history[0]["time_s"], 2), "epoch_s": round(seconds, 3)}
        row |= {"images_per_s": round(images / seconds, 1), "whole_run_min": round(seconds * whole / 60, 2)}
        rows.append(row)
        torch.compiler.reset()
        done["epochs"] = rows
    return rows
