"""Whether the numbers that a network holds are numbers: asked at the borders, where data and weights come in."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitspike.checks import all_finite, bad_value, finite
from bitspike.layers.base import Synapse
from bitspike.layers.norm import BatchNorm
from bitspike.neurons import Neuron


def not_numbers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers (name, value) that hold NaN or inf.

    A buffer of the user's own module may hold inf, as a mask of attention does.
    """
    for name, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            yield name, value
    for path, module in model.named_modules():
        for name, value in module.named_buffers(path, recurse=False):
            bad = ~value.isfinite() if _known(module) else value.isnan()
            if bool(bad.any()):
                yield name, value


def _known(module: nn.Module) -> bool:
    """Whether the class is ours or torch's; a copy of a traced network holds the user's buffers in plain modules."""
    ours = type(module).__module__.startswith(("bitspike.", "torch.nn."))
    return ours and type(module) is not nn.Module and not isinstance(module, fx.GraphModule)


@torch.no_grad()
def check_numbers(where: str, model: nn.Module) -> None:
    """Raise unless all that a network computes with is finite and every variance is one; waits for the device.

    Looks at parameters and buffers (see `not_numbers`), at running variances (>= 0, and > 0 with eps), at quantized
    weights (a factor ``exp(raw)`` may be inf where raw is not) and at what one level of a spike is worth.

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
    all_finite(where, not_numbers(model))
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
