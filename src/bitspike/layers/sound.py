"""Whether the numbers that a network holds are numbers: asked at the borders, where data and weights come in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitspike.checks import all_finite, bad_value, finite
from bitspike.layers.base import Synapse
from bitspike.layers.norm import BatchNorm
from bitspike.neurons import Neuron


@torch.no_grad()
def check_numbers(where: str, model: nn.Module) -> None:
    """Raise unless all that a network computes with is finite and every variance is one; waits for the device.

    Looks at parameters and buffers, at running variances (>= 0, and > 0 with eps), at quantized weights (a factor
    ``exp(raw)`` may be inf where raw is not) and at what one level of a spike is worth.

    Args:
        where: who asks. model: any module.

    Raises:
        ValueError: names the tensor; for a variance the layer, the channel and the value.

    >>> net = nn.Sequential(BatchNorm(2)); net[0].running_var[1] = -0.5
    >>> check_numbers("fold", net)
    Traceback (most recent call last):
        ...
    ValueError: fold: the running variance of '0' must be >= 0, got -0.5 in channel 1; train it again.
    """
    all_finite(where, [*model.named_parameters(), *model.named_buffers()])
    for name, module in model.named_modules():
        if isinstance(module, (BatchNorm, _BatchNorm)) and module.running_var is not None:
            _check_variance(where, name, module.running_var, module.eps)
        elif isinstance(module, Synapse) and not module.quantizer.format.real:
            finite(where, f"the quantized weight of {name!r}", module.quantizer(module.weight))
        elif isinstance(module, Neuron):
            finite(where, f"the amplitude of {name!r}", module.emission.scale())


def _check_variance(where: str, name: str, variance: Tensor, eps: float) -> None:
    wrong = ~((variance >= 0) & (variance.double() + eps > 0))
    if bool(wrong.any()):
        channel = int(wrong.flatten().nonzero()[0])
        value = float(variance.flatten()[channel])
        must = f"the running variance of {name!r} must be >= 0" + (", and > 0 where eps is 0" if value == 0 else "")
        raise bad_value(where, must, f"{value:g} in channel {channel}", "train it again")
