"""Events that need no file, and a program for them: a bar that moves to the left or to the right, with noise."""

from __future__ import annotations

import numpy as np
import torch

import bitspike
from bitspike.data import Splits, gather
from bitspike.data.events import Recording, count_frames, recording
from bitspike.runtime import Program
from bitspike.training import fit, recipe_from_mapping

SIZE, STEP_US, T = (6, 16), 10_000, 20
PIXEL_US = 20_000
"""Time in which the bar moves by a pixel."""
CLASSES = ("left", "right")
RECIPE = {
    "name": "bars",
    "data": {"batch_size": 32},
    "model": {"name": "mlp", "T": T, "encoder": "frames", "options": {"hidden": [32]}},
    "neuron": {"name": "multibit"},
    "weight": {"name": "uniform", "bits": 4},
    "train": {"epochs": 6, "optimiser": "adamw", "lr": 0.02, "threads": 1},
}


def bars(rng: np.random.Generator, ways: np.ndarray, each_us: int) -> Recording:
    """A bar per entry of ``ways`` (0 left, 1 right), one after the other, ON in front of it and OFF behind it."""
    height, width = SIZE
    parts = []
    for number, way in enumerate(ways.tolist()):
        moves = each_us // PIXEL_US
        place = (rng.integers(width) + np.arange(moves) * (1 if way else -1)) % width
        t = number * each_us + np.arange(moves) * PIXEL_US
        for p, x in ((1, place), (0, (place - (1 if way else -1)) % width)):
            late = rng.integers(0, PIXEL_US, (height, moves))
            y = np.broadcast_to(np.arange(height)[:, None], late.shape)
            parts.append((t + late, np.broadcast_to(x, late.shape), y, np.full(late.shape, p)))
        noise = rng.integers(0, each_us, moves * height // 4)
        where = (rng.integers(0, side, len(noise)) for side in (width, height, 2))
        parts.append((number * each_us + noise, *where))
    t, x, y, p = (np.concatenate([part[k].ravel() for part in parts]) for k in range(4))
    order = np.argsort(t, kind="stable")
    return recording("bars", t[order], x[order], y[order], p[order], SIZE)


def data(rng: np.random.Generator, count: int) -> Splits:
    """Sequences of T frames, a bar each."""
    ways = np.arange(count) % 2
    whole = count_frames(bars(rng, ways, T * STEP_US), count * T, start_us=0, step_us=STEP_US)
    return gather([(whole.astype(np.uint8).reshape(count, T, *whole.shape[1:]), ways)], time=True)


def program(seed: int = 0) -> Program:
    """Trained, folded and compiled in some seconds."""
    splits = data(np.random.default_rng(seed), 240)
    model = fit(recipe_from_mapping(RECIPE), splits).model
    x = splits.train.images[:64].float()
    folded = bitspike.fold(model, x)
    with torch.no_grad():
        return bitspike.compile(folded, [x], classes=CLASSES)
