"""Optimiser, schedule, and the optimiser's state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.layers import Synapse
from bitspike.training.train_config import TrainConfig


def make_optimiser(
    model: nn.Module, config: TrainConfig, own: Mapping[str, tuple[list[nn.Parameter], float]] | None = None
) -> torch.optim.Optimizer:
    """SGD or AdamW; weight decay on synaptic weights only, never on norms, biases, amplitudes, factors or steps.

    Args:
        model: the network. config: table [train].
        own: name → (parameters, peak learning rate) of groups beside the two usual ones; their groups carry "name" and
            "share", the factor on the scheduled rate.
    """
    own = {} if own is None else own
    decayed = [m.weight for m in model.modules() if isinstance(m, Synapse)]
    chosen = {id(p) for p in [*decayed, *(p for parameters, _ in own.values() for p in parameters)]}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    for name, (parameters, rate) in own.items():
        groups.append({"params": parameters, "weight_decay": 0.0, "name": name, "share": rate / config.lr})
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Rate at a fractional epoch: linear warm-up, then cosine to 0 or constant."""
    if epoch < config.warmup_epochs:
        return config.lr * min(max(epoch, 1e-3) / config.warmup_epochs, 1.0)
    if config.schedule == "constant":
        return config.lr
    share = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser as ``optimiser.INDEX.NAME`` → tensor, for a checkpoint."""
    found = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                found[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    return found


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` returned.

    Raises:
        ValueError: a tensor does not fit the parameters.
    """
    document = optimiser.state_dict()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, index, field = name.split(".", 2)
        if kind != "optimiser" or int(index) >= len(parameters):
            raise bad_value("resume", "the optimiser's state must fit the network", name, "start the run afresh")
        if value.dim() and value.shape != parameters[int(index)].shape:
            raise bad_value(
                "resume", f"{name} must be {list(parameters[int(index)].shape)}", list(value.shape), "as above"
            )
        state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict({**document, "state": state})
