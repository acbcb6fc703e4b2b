"""What a network is trained for: classes, measured by accuracy, or numbers, measured by their error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.data import Samples, SequenceSet
from bitspike.layers import mean_over_steps
from bitspike.training.losses import LOSSES, REGRESSION_LOSSES, find_loss, takes_lengths
from bitspike.training.train_config import TrainConfig


@dataclass(frozen=True)
class Task:
    """How outputs are compared with targets.

    Args:
        regression: whether the targets are numbers [N, K], not classes [N].
        class_weights: [K], of the loss; None: none.

    >>> Task().figure(3, 4), Task(regression=True).figure(4.0, 4)
    (0.75, 1.0)
    """

    regression: bool = False
    class_weights: Tensor | None = None

    @property
    def measure(self) -> str:
        """What figures are called: "accuracy" (share correct) or "error" (root of the mean squared error)."""
        return "error" if self.regression else "accuracy"

    def tally(self, output: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sum over a batch: correct samples, or squared errors, each the mean over its K values; float64 []."""
        mean = mean_over_steps(output, lengths)
        if self.regression:
            return (mean - targets).double().square().mean(1).sum()
        return (mean.argmax(1) == targets).sum().double()

    def figure(self, total: float, count: int) -> float:
        """Accuracy or error from the sum over ``count`` samples."""
        return math.sqrt(total / count) if self.regression else total / count

    def quality(self, figure: float) -> float:
        """A number that is greater for a better figure."""
        return -figure if self.regression else figure

    def loss(self, config: TrainConfig, output: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The recipe's loss of a batch; ``lengths`` [B] of sequences that end at different steps."""
        options: dict[str, Any] = config.loss_arguments()
        if not self.regression:
            options["label_smoothing"] = config.label_smoothing
        if self.class_weights is not None:
            options["class_weights"] = self.class_weights
        if lengths is not None and output.dim() == 3:
            options["lengths"] = lengths
        return find_loss(config.loss)(output, targets, **options)


def task_of(data: Samples) -> Task:
    """The task of a set: targets that are floats are numbers to be met."""
    return Task(data.labels.is_floating_point())


def training_task(config: TrainConfig, data: Samples) -> Task:
    """The task of a recipe and its training set.

    Raises:
        ValueError: a loss of classes for float targets or the other way round; class weights that do not fit.
    """
    task = task_of(data)
    if task.regression != config.regression:
        kind, fitting = ("numbers", REGRESSION_LOSSES) if task.regression else ("classes", LOSSES)
        must = f"train.loss must be one of {', '.join(map(repr, fitting))}, as the targets of {data.name!r} are {kind}"
        raise bad_value("[train]", must, repr(config.loss), f"set train.loss={'mse' if task.regression else 'mean'}")
    if isinstance(data, SequenceSet) and data.lengths is not None and not takes_lengths(config.loss):
        must = "the loss must have a keyword lengths, as sequences end at different steps"
        raise bad_value("[train]", must, repr(config.loss), "give it one, or choose another loss")
    weights, count = config.class_weights, len(data.classes)
    if weights is not None and len(weights) != count:
        must = f"class_weights must hold a number for each of {count} classes"
        raise bad_value("[train]", must, len(weights), "list them in the order of the labels")
    given = None if weights is None else torch.tensor(weights)
    if config.balance_classes:
        found = torch.bincount(data.labels, minlength=count).double()
        given = torch.where(found > 0, len(data) / (count * found.clamp(min=1)), 0.0).float()
    return Task(task.regression, None if given is None else given.to(data.labels.device))


def at_mean(error: float, targets: Tensor) -> str | None:
    """A sentence where an error is not below that of always giving the mean target.

    >>> at_mean(1.0, torch.tensor([[1.0], [3.0]]))
    'validation error 1 is not below that of the mean target, 1'
    >>> at_mean(0.5, torch.tensor([[1.0], [3.0]]))
    """
    spread = float((targets.double() - targets.double().mean(0)).square().mean().sqrt())
    return (
        None if error < spread else f"validation error {error:.4g} is not below that of the mean target, {spread:.4g}"
    )
