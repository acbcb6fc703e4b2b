"""Where the networks come from: arms of committed studies, converted checkpoints, builders without training."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bitspike
from bitspike.data import Batches, ImageSet, SequenceSet, load
from bitspike.fold import Folded
from bitspike.models import IMAGENET_MEAN, IMAGENET_STD, MODELS, load_he_checkpoint
from bitspike.neurons import LIF, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight
from bitspike.training.job import VERIFY_SAMPLES
from bitspike.training.runs import RunFolder, open_run, train_run
from bitspike.training.study import plan, read_study, results_of

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {
    "digits_demo": "digits",
    "digits_budgets": "digits_budgets",
    "fashion_mnist_study": "fashion_mnist",
    "fashion_mnist_adaptive_study": "fashion_mnist_adaptive",
    "fashion_spikformer_study": "fashion_spikformer",
    "fsdd_study": "fsdd",
    "nmnist_study": "nmnist",
}
"""Built-in study → folder of its results."""
CHECKPOINT = "resnet20-12fca82f.th"
SOURCE = "weights: github.com/akamaster/pytorch_resnet_cifar10 (Y. Idelbayev, two-clause BSD)"
LATE: dict[str, Any] = {"threshold": "mse", "correction": "line", "readout": "settled"}
FITTED: dict[str, Any] = {"threshold": "mse", "correction": "weights"}
CONVERSIONS: dict[str, tuple[Neuron, int, dict[str, Any]]] = {
    "multibit22-1": (MultiBit(2, 2, decay=1.0), 1, FITTED),
    "multibit22-2": (MultiBit(2, 2, decay=1.0), 2, {"threshold": "mse", "correction": "line"}),
    "binary-4": (LIF(1.0, 1.0, reset="soft"), 4, FITTED | {"readout": "settled"}),
    "binary-8": (LIF(1.0, 1.0, reset="soft"), 8, LATE),
    "ternary-4": (Signed(1, decay=1.0), 4, LATE),
    "ternary-8": (Signed(1, decay=1.0), 8, LATE),
}
"""The settings of docs/conversion.md with the best accuracy for their spikes and T."""
UNTRAINED: dict[str, tuple[Neuron, Quantizer | None]] = {
    "float": (Ternary(), None),
    "ternary": (Ternary(), TernaryWeight()),
    "sign": (Real(), Sign()),
}
CONVERTED_CALIBRATION, FOLD_SAMPLES = 512, 64


@dataclass
class Network:
    """A folded network and what is needed to compile and judge it.

    Attributes:
        folded: the network. calibration: batches of training inputs. test: the test split, or None.
        info: how it was made. classes: of the test set, once they are known.
    """

    folded: Folded
    calibration: list[Tensor]
    test: ImageSet | SequenceSet | None
    info: dict[str, Any]
    classes: Any = None


@lru_cache(maxsize=1)
def network(name: str, work: Path) -> Network:
    """Make or load a network; ``work`` keeps runs and data that are not committed."""
    kind, _, rest = name.partition("/")
    if kind == "untrained":
        return untrained(rest)
    return converted(rest) if kind == "converted" else trained(kind, rest, work)


def trained(study: str, arm: str, work: Path) -> Network:
    """Seed 0 of an arm, trained with the recipe of the committed result, or loaded where that has been done."""
    queue = replace(read_study(study), out=ROOT / "results" / STUDIES[study])
    job = next(job for job in plan(queue) if job.arm == arm and job.seed == 0)
    folder = work / study / f"{arm}-seed0"
    if not RunFolder(folder).summary.exists():
        train_run(job.recipe, folder, resume=True)
    recipe, splits, model = open_run(folder)
    sample, _ = next(iter(Batches(splits.validation, min(VERIFY_SAMPLES, len(splits.validation)))))
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(recipe.seed))
    part = splits.train.subset(order[:VERIFY_SAMPLES])
    committed = results_of(queue)[arm].get(0, {})
    summary = RunFolder(folder).figures()
    info = {
        "key": summary["key"],
        "T": recipe.model.T,
        "trained_accuracy": summary["test_accuracy"],
        "committed_accuracy": committed.get("test_accuracy"),
    }
    return Network(bitspike.fold(model, sample), [x for x, _ in Batches(part, 64)], splits.test, info)


def converted(name: str) -> Network:
    """He's ResNet-20 with the published weights, converted as benchmarks/conversion does it."""
    neuron, T, options = CONVERSIONS[name]
    parts = load("cifar10")
    train, test = (replace(part, mean=IMAGENET_MEAN, std=IMAGENET_STD) for part in (parts.train, parts.test))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    x = train.normalise(train.images[order[:CONVERTED_CALIBRATION]])
    ann = MODELS["he_resnet20"](nn.ReLU(), T=1)
    load_he_checkpoint(ann, Path(os.environ["BITSPIKE_DATA"]) / "checkpoints" / CHECKPOINT).eval()
    snn = bitspike.ann2snn(ann, neuron, x, T, sharing="channel", **options)
    info = {"T": T, "neuron": repr(neuron), "conversion": options, "source": SOURCE}
    return Network(bitspike.fold(snn, x[:FOLD_SAMPLES]), list(x[:VERIFY_SAMPLES].split(64)), test, info)


def untrained(kind: str) -> Network:
    """ "ResNet20" of Ternary Spike, 11.248 M parameters, with random weights."""
    neuron, weight = UNTRAINED[kind]
    torch.manual_seed(0)
    net = MODELS["resnet20"](neuron, weight, T=2).eval()
    x = torch.randn(4, 3, 32, 32)
    return Network(bitspike.fold(net, x), [x], None, {"T": 2, "weight": repr(weight), "neuron": repr(neuron)})
