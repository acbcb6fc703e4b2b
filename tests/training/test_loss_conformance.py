"""Every registered loss keeps the contract; losses that break it are caught; recipes choose by name."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from bitspike.testing import ConformanceError, check_loss
from bitspike.training.losses import LABEL_LOSSES, LOSSES, REGRESSION_LOSSES, loss_options, mean_loss
from bitspike.training.recipe import TrainConfig


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss(name: str) -> None:
    loss = LOSSES[name]
    try:
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))
        time = False
    except ValueError:
        time = True
    check_loss(loss, time=time)
    parameters = inspect.signature(loss).parameters
    assert all(parameters[key].default is not inspect.Parameter.empty for key in loss_options(name))


def summed(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return mean_loss(logits, labels).expand(2)


def upside_down(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return -mean_loss(logits, labels)


def first_sample(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return mean_loss(logits[..., :1, :], labels[:1])


def cut(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return mean_loss(logits, labels) + 2 * (logits.detach() ** 2).mean()


def writes(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    labels.add_(1).remainder_(4)
    return mean_loss(logits, labels)


@pytest.mark.parametrize("loss", [summed, upside_down, first_sample, cut, writes])
def test_a_broken_loss_is_caught(loss: object) -> None:
    with pytest.raises(ConformanceError):
        check_loss(loss)  # type: ignore[arg-type]


def test_a_recipe_names_a_loss_and_its_options() -> None:
    assert TrainConfig(loss="tet").loss_arguments() == {"weight": 1e-3, "target": 1.0}
    assert TrainConfig(loss="tet", loss_options={"target": 2.0}).loss_arguments() == {"weight": 1e-3, "target": 2.0}
    assert TrainConfig().loss_arguments() == {}
    found = [*sorted(LOSSES.items()), *sorted(REGRESSION_LOSSES.items()), *sorted(LABEL_LOSSES.items())]
    names = ", ".join(repr(name) for name, _ in found)
    with pytest.raises(ValueError, match=f"TrainConfig: loss must be one of {names}, got 'mena'"):
        TrainConfig(loss="mena")
    with pytest.raises(ValueError, match="an option of the loss 'tet' must be one of 'weight', 'target'"):
        TrainConfig(loss="tet", loss_options={"wieght": 1})
    with pytest.raises(ValueError, match="'mse' must be left out, as there are none, got 'weight'; remove it"):
        TrainConfig(loss="mse", loss_options={"weight": 1})
