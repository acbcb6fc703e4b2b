"""Figures of a network on a whole set."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bitspike.checks import finite, one_of
from bitspike.data import Batches, Samples
from bitspike.graph.traced import Traced
from bitspike.layers import check_numbers, lengths_of, mean_over_steps
from bitspike.layers.encoders.base import check_intensities, reads_intensities
from bitspike.training.measures import measures_of
from bitspike.training.task import Task, task_of
from bitspike.training.train_config import TrainConfig
from bitspike.training.unequal import run_batch


@torch.no_grad()
def logits_of(model: nn.Module, data: Samples, batch_size: int) -> Tensor:
    """Mean logits [N, K] of a whole set in its order; the model is left in evaluation mode.

    Raises:
        ValueError: a logit is NaN or inf.
    """
    model.eval()
    logits = torch.cat([mean_over_steps(run_batch(model, x), lengths_of(x)) for x, _ in Batches(data, batch_size)])
    finite("evaluate", "the logits", logits)
    return logits


def evaluate(model: nn.Module, data: Samples, batch_size: int = 500, metric: str | None = None) -> float:
    """Accuracy (share correct) on a set; of numbers the root of the mean squared error, of sets of labels micro-F1.

    Args:
        model, data: what, and on what. batch_size: samples at a time. metric: another of
            `bitspike.training.measures.MEASURES` for such targets.

    Raises:
        ValueError: weights, buffers or logits hold NaN or inf (a threshold would hide them), a running variance is
            negative, pixels lie outside [0, 1] for an encoder that reads intensities, or a metric of other targets or
            one that these do not define.
    """
    kind = task_of(data).kind
    if metric is not None:
        one_of("evaluate", f"the metric of {kind}", metric, measures_of(kind))
    task = task_of(data, metric)
    return scores(model, data, batch_size, task, (task.measure,))[task.measure]


def scores(
    model: nn.Module, data: Samples, batch_size: int, task: Task, names: Iterable[str] | None = None
) -> dict[str, float]:
    """Several measures of one pass over a set, as `Task.scores`."""
    check_numbers("evaluate", model)
    check_range("evaluate", model, data)
    return task.scores(logits_of(model, data, batch_size), data.labels, names)


@torch.no_grad()
def loss_of(model: nn.Module, data: Samples, batch_size: int, samples: int, config: TrainConfig, task: Task) -> float:
    """Mean loss of the first samples of a set, in the modes that the network's layers are in.

    Args:
        model, data: what, and on what. batch_size: samples at a time. samples: how many; all where there are fewer.
        config: with the loss and its options. task: of the run.
    """
    total, seen, samples = 0.0, 0, min(samples, len(data))
    for x, y in Batches(data, min(batch_size, samples)):
        total += float(task.loss(config, run_batch(model, x).float(), y, lengths_of(x))) * len(y)
        seen += len(y)
        if seen >= samples:
            break
    return total / seen


def check_range(where: str, model: nn.Module, data: Samples) -> None:
    """Raise `ValueError` unless black and white, normalised, lie in the range that the network's encoder reads."""
    if reads_intensities(model.net if isinstance(model, Traced) else model):
        check_intensities(where, data.ends())
