"""Random networks whose numbers lie on a dyadic grid, and why one of them has no exact program all the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.graph import Node, trace
from bitspike.layers import AvgPool2d, GlobalAvgPool, Join, Restimulate, Squeeze, Synapse, Windows
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged
from lower_nets import on_grid
from networks import exact_log
from random_networks.build import new_inputs, new_network
from random_networks.plan import Plan, chooser, draw

SAMPLES = 6


def random_network(seed: int) -> tuple[nn.Module, Tensor, str]:
    """(network in float64 on a dyadic grid, inputs of it, what it is); the same for the same seed.

    ``bitspike.fold(model, x)``, ``bitspike.compile(folded, x, **WIDE)`` make its program.
    """
    plan = draw(seed, chooser(seed))
    return *tuned(plan), str(plan)


def tuned(plan: Plan, count: int = SAMPLES) -> tuple[nn.Module, Tensor]:
    """The network of a plan, every layer of which fires if it can be helped, and inputs."""
    model, x = new_network(plan), new_inputs(plan, count)
    random_numbers(model.double(), plan.seed)
    return on_grid(model, x), x


@torch.no_grad()
def random_numbers(model: nn.Module, seed: int) -> None:
    """Trained thresholds that are powers of two times those given."""
    r = random.Random(seed)
    for module in model.modules():
        if isinstance(module, Neuron) and module.membrane.raw_threshold is not None:
            raw = module.membrane.raw_threshold
            logs = [exact_log(r.choice((0.5, 1.0, 2.0)), raw.dtype) for _ in range(raw.numel())]
            raw.copy_(torch.stack(logs).reshape(raw.shape))


@torch.no_grad()
def rounded(model: nn.Module, x: Tensor) -> dict[str, str]:
    """What no program computes exactly: node → "real" (spikes), "sigmoid", or "divisor", "scale" (no power of two)."""
    found: dict[str, str] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        y = call()
        cause = _cause(node.module, args)
        if cause:
            found[node.name] = cause
        return y

    trace(model).run(x, handler=note)
    return found


def _cause(module: nn.Module | None, args: tuple[Any, ...]) -> str:
    if isinstance(module, Neuron) and module.format.real:
        return "real"
    if isinstance(module, Restimulate) and module.weight is not None:
        return "sigmoid"
    if isinstance(module, Synapse) and not module.quantizer.format.real:
        scale = module.quantizer.to_int(module.weight)[1]  # its bounds may keep it off the grid
        return "" if bool((torch.frexp(scale)[0] == 0.5).all()) else "scale"
    divisor = 1
    if isinstance(module, (AvgPool2d, GlobalAvgPool)):
        divisor = module.window(tuple(args[0].shape))
    elif isinstance(module, Squeeze):
        divisor = 1 if module.passes(len(args[0])) else len(args[0])
    elif isinstance(module, Windows):
        divisor = module.divisor(len(args[0]))
    elif isinstance(module, Join):
        steps = {len(x) for x in args}
        divisor = 1 if len(steps) == 1 else _product(steps)
    elif isinstance(module, Merged) and isinstance(module.body, (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)):
        sides, wanted = args[0].shape[3:], module(args[0]).shape[3:]
        divisor = _product(n // w for n, w in zip(sides, wanted, strict=True))
    return "divisor" if divisor & (divisor - 1) else ""


def _product(numbers: Any) -> int:
    product = 1
    for number in numbers:
        product *= int(number)
    return product
