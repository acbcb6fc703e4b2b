"""A model for which training is over: what computes its weights from others is gone."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bitspike.ann2snn.rectifier import WHERE
from bitspike.checks import bad_value
from bitspike.upgrade.mapping import remembers
from bitspike.upgrade.upgrading import private_copy


def trained(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose norms with cumulative averages (momentum None) are as any other, and in which
    weights that are computed from others (weight norm, spectral norm, pruning) are weights.

    Raises:
        ValueError: a module with memory, as spiking networks of other libraries have.
    """
    ours = private_copy(model).eval()
    for name, module in list(ours.named_modules()):
        if remembers(module):
            must, got = "the model must be an ANN", f"{remembers(module)} {name!r}"
            raise bad_value(WHERE, must, got, "pass the network with its activations in place of neurons")
        if isinstance(module, _BatchNorm) and module.momentum is None:
            module.momentum = 0.0
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                nn.utils.remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
        if hasattr(module, "parametrizations") and name:
            parent, _, own = name.rpartition(".")
            setattr(ours.get_submodule(parent), own, _plain(module))
    return ours


def _plain(module: nn.Module) -> nn.Module:
    """A module of the class that it had before its parameters were parametrized, with their present values.

    `torch.nn.utils.parametrize` makes a class that copies share, so that removing it there would break the original.
    """
    kind: Any = type(module).__bases__[0]
    made: nn.Module = kind.__new__(kind)
    made.__dict__ = dict(module.__dict__)
    made._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    made._parameters = dict(module._parameters)
    for name in module.parametrizations:  # type: ignore[union-attr]
        value = getattr(module, str(name)).detach().clone()
        made.register_parameter(str(name), nn.Parameter(value, requires_grad=value.is_floating_point()))
    return made
