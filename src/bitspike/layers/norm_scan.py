"""A batch norm and the neuron behind it: as one operation where that changes nothing else, or one after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bitspike.checks import floating
from bitspike.functional import repeats
from bitspike.layers.base import hooked
from bitspike.layers.norm import BatchNorm
from bitspike.layers.padding import valid_lengths
from bitspike.layers.sync import synced
from bitspike.neurons import Neuron
from bitspike.ops import ScanFacts, choose


def norm_then_fire(
    norm: nn.Module, neuron: nn.Module, y: Tensor, shortcut: Callable[[], Tensor] | None = None
) -> Tensor:
    """``neuron(norm(y))``, or ``neuron(norm(y) + shortcut())``.

    In training it is the operation "norm_scan", whose native kernel writes neither norm(y) nor the sum. The modules are
    called in evaluation, with statistics per step or of several processes, where a membrane starts charged, where a
    module has hooks, and by a trace, which so sees them all, in the order in which they are written.

    Args:
        norm, neuron: any modules. y: [T, B, C, ...]. shortcut: gives a tensor like y.

    Returns:
        What the neuron gives, shaped like y.
    """
    if not (isinstance(norm, BatchNorm) and isinstance(neuron, Neuron) and _plain(norm, neuron, y)):
        y = norm(y)
        return neuron(_writable(y, neuron) if shortcut is None else y + _floating(shortcut()))  # type: ignore[no-any-return]
    added = None if shortcut is None else _floating(shortcut())
    spec = neuron.fused()
    if added is not None and (added.shape != y.shape or added.dtype != y.dtype):
        return neuron(norm(y) + added)  # type: ignore[no-any-return]
    kernel = choose("norm_scan", y.device.type, ScanFacts(spec, y.dtype, norm.weight.dtype))
    return neuron.record_spikes(kernel.function(neuron, y, norm.parts(), added, spec))


def _floating(added: Tensor) -> Tensor:
    """What a shortcut gives, if it is floating; while a network is traced it is no tensor."""
    if isinstance(added, Tensor):
        floating("norm_then_fire (shortcut)", added)
    return added


def _writable(x: Tensor, module: nn.Module) -> Tensor:
    """x, or a copy for a module that writes into its input where that repeats one step (a ReLU in place, say)."""
    writes = getattr(module, "inplace", False) is True
    return x.contiguous() if writes and isinstance(x, Tensor) and repeats(x) else x


class Chain(nn.Sequential):
    """`nn.Sequential` in which a batch norm and the neuron right behind it run through `norm_then_fire`.

    >>> import torch
    >>> from bitspike.neurons import LIF
    >>> Chain(BatchNorm(3), LIF())(torch.randn(2, 4, 3, 5, 5)).shape
    torch.Size([2, 4, 3, 5, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        """x through all layers."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            pair = layers and isinstance(layer, BatchNorm) and isinstance(layers[0], Neuron)
            x = norm_then_fire(layer, layers.pop(0), x) if pair else layer(_writable(x, layer))
        return x


def _plain(norm: BatchNorm, neuron: Neuron, y: object) -> bool:
    """Whether nothing beside the result depends on the two modules being called."""
    return (
        isinstance(y, Tensor)
        and valid_lengths() is None
        and norm.training
        and norm.mode != "per_step"
        and y.dim() > 2
        and y.shape[2] == norm.weight.numel() < y.numel()
        and y.device == norm.weight.device
        and (y.dtype == norm.weight.dtype or _half(y, norm.weight))
        and not synced()
        and not neuron.membrane.initial
        and not neuron.features_last(y)
        and type(norm).forward is BatchNorm.forward
        and type(neuron).forward is Neuron.forward
        and type(neuron).run is Neuron.run
        and not (hooked(norm) or hooked(neuron))
    )


def _half(y: Tensor, weight: Tensor) -> bool:
    """Whether autocast made y bfloat16 beside float32 parameters; membranes are float32 then."""
    wide = weight.dtype == torch.float32 and torch.is_autocast_enabled(y.device.type)
    return wide and y.dtype == torch.bfloat16
