"""Class weights: by hand, over processes and batches alike, in recipes, and refused where they have no meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.data import gather
from bitspike.training import fit, recipe_from_mapping
from bitspike.training.losses import LOSSES, REGRESSION_LOSSES, mean_loss, tet_loss
from bitspike.training.losses.base import cross_entropy
from bitspike.training.recipe import Recipe, TrainConfig
from bitspike.training.task import training_task


def recipe(**train: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "w",
            "model": {"name": "mlp", "options": {"hidden": [16]}},
            "neuron": {"name": "multibit"},
            "weight": {"name": "float"},
            "train": {"epochs": 4, "lr": 0.01, "optimiser": "adamw", "threads": 1, **train},
        }
    )


def uneven() -> Any:
    """Two overlapping classes, one of them rare."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(600, generator=generator) < 0.08).long()
    x = torch.randn(600, 4, generator=generator) + labels.unsqueeze(1)
    return gather([(x, labels)])


def test_by_hand() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 0, 2, 1, 2])
    weights = torch.tensor([0.5, 2.0, 1.0])
    each = F.cross_entropy(logits, labels, reduction="none")
    wanted = (each * torch.tensor([0.5, 0.5, 1.0, 2.0, 1.0])).mean()
    assert torch.allclose(mean_loss(logits, labels, class_weights=weights), wanted)
    steps = torch.stack([logits, logits])
    assert torch.allclose(tet_loss(steps, labels, weight=0.0, class_weights=weights), wanted)
    halves = [cross_entropy(logits[a:b], labels[a:b], 0.1, weights) * (b - a) / 5 for a, b in ((0, 2), (2, 5))]
    whole = cross_entropy(logits, labels, 0.1, weights)
    assert torch.allclose(halves[0] + halves[1], whole), "batches add up, so processes agree"
    assert torch.equal(mean_loss(logits, labels, 0.1), F.cross_entropy(logits, labels, label_smoothing=0.1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_one_change_nothing(smoothing: float) -> None:
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    plain, weighted = mean_loss(logits, labels, smoothing), mean_loss(logits, labels, smoothing, torch.ones(3))
    assert torch.allclose(plain, weighted)


def test_a_rare_class_is_found_where_classes_count_alike() -> None:
    splits, recalls = uneven(), []
    for train in ({}, {"balance_classes": True}, {"class_weights": [0.1, 1.0], "label_smoothing": 0.1}):
        model = fit(recipe(**train), splits).model
        rare = splits.train.labels == 1
        with torch.no_grad():
            recalls.append(float((model(splits.train.images[rare]).argmax(1) == 1).float().mean()))
    assert recalls[0] < 0.5 < min(recalls[1:]), recalls


def test_balanced_weights_are_counted() -> None:
    splits = uneven()
    counts = torch.bincount(splits.train.labels)
    task = training_task(recipe(balance_classes=True).train, splits.train)
    assert task.class_weights is not None
    assert torch.allclose(task.class_weights, len(splits.train) / (2 * counts.float()))
    assert training_task(recipe().train, splits.train).class_weights is None


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"class_weights": [1.0, -1.0]}, r"a class weight must lie in \[0, 1000000"),
        ({"class_weights": [float("nan")]}, "finite"),
        ({"class_weights": [0.0, 0.0]}, "the greatest of class_weights must be at least 1e-6"),
        ({"class_weights": [1.0], "balance_classes": True}, "not be given together"),
        ({"class_weights": 3}, "must be a list"),
        ({"loss": "mse", "class_weights": [1.0]}, "class_weights must be left out where the loss is 'mse'"),
        ({"loss": "huber", "label_smoothing": 0.1}, "label_smoothing must be left out where the loss is 'huber'"),
    ],
)
def test_bad_weights_are_refused(train: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        TrainConfig(**train)


def test_a_loss_of_ones_own_says_whether_it_takes_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))

    @LOSSES.register("plain")
    def plain(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    TrainConfig(loss="plain", label_smoothing=0.1)
    with pytest.raises(ValueError, match="balance_classes must be left out where the loss is 'plain'"):
        TrainConfig(loss="plain", balance_classes=True)


@pytest.mark.parametrize("loss", [entry for _, entry in REGRESSION_LOSSES.items()])
def test_regression_losses(loss: Callable[..., Tensor]) -> None:
    """Zero at the target, a mean over the batch, of steps that of their mean, and its own gradient."""
    target = torch.randn(6, 3, dtype=torch.float64)
    output = (target + torch.randn(6, 3, dtype=torch.float64)).requires_grad_()
    assert float(loss(target, target)) == 0 < float(loss(output.detach(), target))
    halves = (loss(output[:3], target[:3]) + loss(output[3:], target[3:])) / 2
    assert torch.allclose(loss(output, target), halves)
    assert torch.allclose(loss(torch.stack([output - 1, output + 1]), target), loss(output, target))
    assert torch.autograd.gradcheck(lambda y: loss(y, target), output)
