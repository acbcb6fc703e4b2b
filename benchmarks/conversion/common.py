"""What both sides of the comparison share: checkpoints, images, and when a file counts as done."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitspike.data import Batches, ImageSet, Splits, load
from bitspike.files import read_json
from bitspike.models import IMAGENET_MEAN, IMAGENET_STD

FILES = {"he_resnet20": "resnet20-12fca82f.th", "he_resnet32": "resnet32-d509ac18.th"}
SOURCE = "weights: github.com/akamaster/pytorch_resnet_cifar10 (Y. Idelbayev, two-clause BSD)"
RESULTS = Path("results/conversion")
BATCH = 250
IMAGES, SEED = 512, 0


def checkpoint(arch: str) -> Path:
    """The published weights of a network."""
    return Path(os.environ["BITSPIKE_DATA"]) / "checkpoints" / FILES[arch]


def images() -> Splits:
    """CIFAR-10 as the checkpoints want it normalised."""
    parts = load("cifar10")
    normal = {
        part: replace(getattr(parts, part), mean=IMAGENET_MEAN, std=IMAGENET_STD)
        for part in ("train", "validation", "test")
    }
    return Splits(**normal)


def calibration(train: ImageSet, count: int = IMAGES, seed: int = SEED) -> Tensor:
    """Inputs drawn from the training part, the same for everybody."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train.normalise(train.images[order[:count]])


def held_out(splits: Splits, count: int, batch: int = BATCH) -> Batches:
    """Training images for choosing, shifted, flipped and partly cut out, about as hard as the test set."""
    part = splits.validation.subset(torch.arange(min(count, len(splits.validation))))
    return Batches(part, batch, shuffle=True, augment="shift-flip-cutout", pad=4, hole=10)


def key_of(setting: dict[str, Any]) -> str:
    """Hash of what decides a result."""
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()


def stored(path: Path, key: str) -> dict[str, Any] | None:
    """The result in a file, if it is one of this very setting."""
    document = read_json(path) if path.exists() else None
    return document if isinstance(document, dict) and document.get("key") == key else None
