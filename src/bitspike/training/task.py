"""What a network is trained for: classes, numbers or sets of labels, and what it is measured by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.data import Samples, SequenceSet
from bitspike.layers import mean_over_steps
from bitspike.training.health import at_chance
from bitspike.training.losses import LABEL_LOSSES, LOSSES, REGRESSION_LOSSES, find_loss, takes_lengths
from bitspike.training.measures import MEASURES, measures_of
from bitspike.training.measures.base import Kind
from bitspike.training.train_config import TrainConfig

_LOSSES = {"classes": ("mean", LOSSES), "numbers": ("mse", REGRESSION_LOSSES), "labels": ("bce", LABEL_LOSSES)}
"""Kind of targets → the usual loss, and all that there are."""


@dataclass(frozen=True)
class Task:
    """How outputs are compared with targets.

    Args:
        regression: whether the targets are numbers [N, K], not classes [N].
        class_weights: [K], of the loss; None: none. multilabel: whether they are sets of labels, bool [N, K].
        metric: name of what figures are; None: the usual one of the kind.

    >>> Task().figure(3, 4), Task(regression=True).figure(4.0, 4)
    (0.75, 1.0)
    """

    regression: bool = False
    class_weights: Tensor | None = None
    multilabel: bool = False
    metric: str | None = None

    @property
    def kind(self) -> Kind:
        """What the targets are."""
        return "numbers" if self.regression else "labels" if self.multilabel else "classes"

    @property
    def measure(self) -> str:
        """What figures are called: "accuracy", "error" (root of the mean squared error), or another of `MEASURES`."""
        return self.metric or measures_of(self.kind)[0]

    @property
    def running(self) -> str:
        """The measure that is a sum over samples, which an epoch adds up."""
        return "subset_accuracy" if self.multilabel else measures_of(self.kind)[0]

    def tally(self, output: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sum over a batch, of `running`: right samples, or squared errors, each the mean of its K; float64 []."""
        mean = mean_over_steps(output, lengths)
        if self.regression:
            return (mean - targets).double().square().mean(1).sum()
        if self.multilabel:
            return ((mean > 0) == targets).all(1).sum().double()
        if targets.is_floating_point():  # shares of classes: the greatest counts
            targets = targets.argmax(1)
        return (mean.argmax(1) == targets).sum().double()

    def figure(self, total: float, count: int) -> float:
        """`running` from the sum over ``count`` samples."""
        return math.sqrt(total / count) if self.regression else total / count

    def quality(self, figure: float) -> float:
        """A number that is greater for a better figure."""
        return figure if MEASURES[self.measure].higher else -figure

    def scores(self, outputs: Tensor, targets: Tensor, names: Iterable[str] | None = None) -> dict[str, float]:
        """Measures of a whole set, mean outputs [N, K], the task's own first.

        Args:
            outputs, targets: as `tally` takes them. names: which; None: all that these targets have, and `measure`.

        Raises:
            ValueError: one that is asked for is not defined by these targets.
        """
        asked = dict.fromkeys([self.measure, *measures_of(self.kind)] if names is None else names)
        y, wanted = outputs.double().cpu().numpy(), targets.cpu().numpy()
        wanted = wanted.astype(np.float64) if self.regression else wanted
        found = {}
        for name in asked:
            why = MEASURES[name].undefined(wanted)
            if why is not None and (names is not None or name == self.measure):
                raise bad_value("evaluate", f"{name} must be defined by the targets", why, "take another metric")
            if name == self.running:
                found[name] = self.figure(float(self.tally(outputs, targets)), len(targets))
            elif why is None:
                found[name] = MEASURES[name].score(y, wanted)
        return found

    def agreement(self, first: Tensor, second: Tensor) -> float | None:
        """Share of samples with the same class or set of labels by two outputs [B, K] or [T, B, K]; None for numbers.

        >>> y = torch.tensor([[2.0, 1.0], [2.0, -1.0]])
        >>> Task(multilabel=True).agreement(y, y - 1.5), Task().agreement(y, y - 1.5), Task(True).agreement(y, y)
        (0.5, 1.0, None)
        """
        if self.regression:
            return None
        one, other = (mean_over_steps(y, None) for y in (first, second))
        alike = ((one > 0) == (other > 0)).all(1) if self.multilabel else one.argmax(1) == other.argmax(1)
        return float(alike.double().mean())

    def check(self, data: Samples) -> None:
        """Raise `ValueError` unless the measure is one that a set's targets have."""
        why = MEASURES[self.measure].undefined(data.labels.cpu().numpy())
        if why is not None:
            must = f"train.metric {self.measure!r} must be defined on {data.name!r}"
            raise bad_value("[train]", must, why, "set another train.metric, or hold out more samples")

    def guessed(self, figure: float, data: Samples) -> str | None:
        """A sentence where a figure of a set is not better than that of one answer for all its samples."""
        labels = data.labels
        if self.kind == "classes":
            return at_chance(figure, labels, len(data.classes))
        if self.measure == "error":
            return at_mean(figure, labels)
        measure, targets = MEASURES[self.measure], labels.cpu().numpy()
        bar = measure.constant(targets.astype(np.float64) if self.regression else targets)
        if self.quality(figure) > self.quality(bar):
            return None
        said = f"validation {measure.words} {measure.text(figure)} is not better than that of one answer for all"
        return f"{said} samples, {measure.text(bar)}"

    def loss(self, config: TrainConfig, output: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The recipe's loss of a batch; ``lengths`` [B] of sequences that end at different steps."""
        options: dict[str, Any] = config.loss_arguments()
        if self.kind == "classes":
            options["label_smoothing"] = config.label_smoothing
        if self.class_weights is not None:
            options["class_weights"] = self.class_weights
        if lengths is not None and output.dim() == 3:
            options["lengths"] = lengths
        return find_loss(config.loss)(output, targets, **options)


def task_of(data: Samples, metric: str | None = None) -> Task:
    """The task of a set, measured by ``metric``: targets that are floats are numbers, those that are bool labels."""
    return Task(data.labels.is_floating_point(), multilabel=data.labels.dtype == torch.bool, metric=metric)


def training_task(config: TrainConfig, data: Samples) -> Task:
    """The task of a recipe and its training set.

    Raises:
        ValueError: a loss of classes for float targets or the other way round; class weights that do not fit.
    """
    task = task_of(data, config.metric)
    if task.kind != config.kind:
        usual, fitting = _LOSSES[task.kind]
        names = ", ".join(map(repr, fitting))
        must = f"train.loss must be one of {names}, as the targets of {data.name!r} are {task.kind}"
        raise bad_value("[train]", must, repr(config.loss), f"set train.loss={usual}")
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
    return replace(task, class_weights=None if given is None else given.to(data.labels.device))


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
