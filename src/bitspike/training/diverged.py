"""The end of a run whose loss or weights are no numbers any more: what is said of it, and what is left of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checked import NotFiniteError, checked
from bitspike.checks import message
from bitspike.layers import not_numbers
from bitspike.training.task import Task


class DivergedError(ValueError):
    """A run was stopped because its loss, weights or logits hold NaN or inf; checkpoints are those of before.

    Attributes:
        epoch, step: counted from 1; the step of the epoch at which it was seen. history: records of the epochs before.
        best: state of the network after the best of them, {} where there is none. task: what they are measured by.
    """

    def __init__(
        self,
        finding: str,
        epoch: int,
        step: int,
        history: list[dict[str, Any]],
        best: dict[str, Tensor],
        task: Task,
    ) -> None:
        where = f"train (epoch {epoch}, step {step})"
        super().__init__(
            message(where, "loss and weights must be finite", finding, "lower train.lr or set train.clip_norm")
        )
        self.epoch: int = epoch
        self.step: int = step
        self.history: list[dict[str, Any]] = history
        self.best: dict[str, Tensor] = best
        self.task: Task = task

    def summary(self) -> dict[str, Any]:
        """findings (what happened), stopped (epoch, step), history, and the best of it, as plain values."""
        eligible = [record for record in self.history if record.get("within_budgets", True)]
        validation = f"validation_{self.task.measure}"
        best = max(eligible, key=lambda record: self.task.quality(record[validation]), default=None)
        return {
            "findings": [str(self)],
            "stopped": {"epoch": self.epoch, "step": self.step},
            "best_epoch": best and best["epoch"],
            f"best_{validation}": best and best[validation],
            "history": self.history,
        }


@torch.no_grad()
def sound(model: nn.Module) -> bool:
    """Whether all parameters are finite and no buffer holds NaN; waits for the device once."""
    found = [value.isfinite().all() for value in model.parameters()]
    found += [value.isnan().logical_not().all() for value in model.buffers() if value.is_floating_point()]
    return not found or bool(torch.stack(found).all())


@torch.no_grad()
def reason(model: nn.Module, x: Tensor, cast: AbstractContextManager[Any], alone: bool) -> str:
    """Where NaN or inf are: in weights or buffers, or else in the layer that makes them of the batch x, run once more.

    Args:
        alone: False where several processes train together; then no batch is run.
    """
    wild, count = [name for name, _ in not_numbers(model)], len(list(model.parameters())) + len(list(model.buffers()))
    if wild:
        return f"{len(wild)} of {count} weights and buffers hold NaN or inf, the first is {wild[0]!r}"
    if not alone:
        return "all weights are finite"
    try:
        with cast, checked():
            model(x)
    except NotFiniteError as error:
        return str(error).removesuffix(".")
    return "weights and layers are finite: it was the loss itself, or a batch before"
