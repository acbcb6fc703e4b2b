"""One training run: recipe and data in, trained network and figures out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.data import Batches, ImageSet, Splits
from bitspike.graph import trace
from bitspike.layers import Synapse
from bitspike.models import Network
from bitspike.training.build import build_model
from bitspike.training.losses import SpikePenalty, mean_loss, tet_loss
from bitspike.training.recipe import Recipe, TrainConfig

Progress = Callable[[dict[str, float]], None]


@dataclass
class Run:
    """A finished training run.

    Attributes:
        model: the network after the last epoch, in evaluation mode.
        history: one record per epoch: epoch, loss, train_accuracy, validation_accuracy (NaN without a split), lr,
            time_s.
    """

    model: Network
    history: list[dict[str, float]]


def fit(recipe: Recipe, splits: Splits, progress: Progress | None = None) -> Run:
    """Train on the train split; the validation split is read after every epoch, the test split never.

    Args:
        recipe: everything that decides the result. splits: the data.
        progress: called after every logging interval and epoch with the figures so far.

    Raises:
        ValueError: the loss is NaN or inf at a logging interval (the run is stopped there), or a bad recipe.
    """
    config = recipe.train
    torch.set_num_threads(config.threads)
    model = build_model(recipe, splits.train)
    optimiser = make_optimiser(model, config)
    regulariser = recipe.regulariser
    penalty = None
    if regulariser.kind != "none":
        penalty = SpikePenalty(regulariser.kind, regulariser.weight, regulariser.target, regulariser.per_layer)
    graph = trace(model) if penalty else None
    history: list[dict[str, float]] = []
    for epoch in range(config.epochs):
        start = time.perf_counter()
        model.train()
        batches = _batches(recipe, splits.train, epoch)
        loss_sum, correct, seen, rate = 0.0, 0, 0, 0.0
        for index, (x, labels) in enumerate(batches):
            rate = learning_rate(config, epoch + index / len(batches))
            for group in optimiser.param_groups:
                group["lr"] = rate
            output, extra = penalty.run(graph, x) if penalty and graph else (model(x), None)
            loss = _loss(config, output, labels)
            total = loss if extra is None else loss + extra
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimiser.step()
            loss_sum += float(loss.detach()) * len(labels)
            correct += int((_mean(output).argmax(1) == labels).sum())
            seen += len(labels)
            if (index + 1) % config.log_every == 0 or index + 1 == len(batches):
                _check_loss(loss_sum, epoch, index)
                if progress:
                    share = (index + 1) / len(batches)
                    progress({"epoch": epoch + share, "epochs": config.epochs, "loss": loss_sum / seen})
        record = {
            "epoch": epoch + 1,
            "loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            "validation_accuracy": evaluate(model, splits.validation, recipe.data.eval_batch_size),
            "lr": rate,
            "time_s": time.perf_counter() - start,
        }
        history.append(record)
        if progress:
            progress({**record, "epochs": config.epochs})
    return Run(model.eval(), history)


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW; weight decay on synaptic weights only, never on norms, biases, amplitudes, factors or steps."""
    decayed = [m.weight for m in model.modules() if isinstance(m, Synapse)]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Rate at a fractional epoch: linear warm-up, then cosine to 0 or constant."""
    if epoch < config.warmup_epochs:
        return config.lr * max(epoch, 1e-3) / config.warmup_epochs
    if config.schedule == "constant":
        return config.lr
    share = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


@torch.no_grad()
def logits_of(model: nn.Module, data: ImageSet, batch_size: int) -> Tensor:
    """Mean logits [N, K] of a whole set in its order; the model is left in evaluation mode."""
    model.eval()
    return torch.cat([_mean(model(x)) for x, _ in Batches(data, batch_size)])


def evaluate(model: nn.Module, data: ImageSet, batch_size: int = 500) -> float:
    """Accuracy (share correct) on a set.

    Raises:
        ValueError: the logits hold NaN or inf.
    """
    logits = logits_of(model, data, batch_size)
    if not torch.isfinite(logits).all():
        raise bad_value("evaluate", "logits must be finite", "NaN or inf", "check weights and input")
    return float((logits.argmax(1) == data.labels).double().mean())


def _batches(recipe: Recipe, data: ImageSet, epoch: int) -> Batches:
    config = recipe.data
    return Batches(
        data,
        config.batch_size,
        shuffle=True,
        seed=recipe.seed,
        epoch=epoch,
        augment=config.augment,
        pad=config.pad,
        drop_last=len(data) > config.batch_size,
    )


def _mean(output: Tensor) -> Tensor:
    return output.mean(0) if output.dim() == 3 else output


def _loss(config: TrainConfig, output: Tensor, labels: Tensor) -> Tensor:
    if config.loss == "tet":
        return tet_loss(output, labels, config.tet_weight, config.tet_target, config.label_smoothing)
    return mean_loss(output, labels, config.label_smoothing)


def _check_loss(loss_sum: float, epoch: int, index: int) -> None:
    if not math.isfinite(loss_sum):
        where = f"train (epoch {epoch + 1}, step {index + 1})"
        raise bad_value(where, "the loss must be finite", loss_sum, "lower train.lr or set train.clip_norm")
