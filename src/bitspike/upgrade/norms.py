"""Norms of torch that run as they are: what they measure, or the constants that they amount to."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.layers.base import changed_by
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.parts import name_of

_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LAST = (nn.LayerNorm, nn.RMSNorm)
_FUNCTIONS = {
    "group_norm": ("num_groups", "weight", "bias"),
    "layer_norm": ("normalized_shape", "weight", "bias"),
    "rms_norm": ("normalized_shape", "weight"),
    "instance_norm": ("running_mean", "running_var", "weight", "bias", "use_input_stats"),
}


Constants = tuple[Tensor, Tensor, list[nn.Parameter], torch.dtype]


@dataclass(frozen=True)
class Measured:
    """A norm that divides by a deviation of what it gets.

    Attributes:
        groups: deviations of a sample and step. centred: whether a mean is subtracted. weighted, shifted: whether
            factors, and shifts, of its own follow. numbers: of these.
    """

    groups: int
    centred: bool
    weighted: bool
    shifted: bool
    numbers: int


def measures(module: nn.Module | None) -> str:
    """The class or function of a norm that divides by what it measures; "" of everything else.

    >>> measures(Merged(nn.GroupNorm(2, 4), "norm")), measures(nn.GroupNorm(2, 4))
    ('GroupNorm', '')
    """
    body = module.body if isinstance(module, Merged) else None
    if body is None or changed_by(*body.modules()):
        return ""
    if type(body) in (nn.GroupNorm, *_LAST) or (type(body) in _INSTANCE and not _tracks(body)):
        return type(body).__name__
    call = _call(body)
    return name_of(call) if call is not None else ""


def measured(module: nn.Module | None, shape: Sequence[int]) -> Measured | None:
    """What such a norm measures of [T, B, C, ...]; None where that cannot be read off, and of everything else."""
    if not measures(module):
        return None
    assert isinstance(module, Merged)
    body: Any = module.body
    call = _call(body)
    values = math.prod(shape[2:])
    if call is not None:
        given = {**dict(zip(_FUNCTIONS[name_of(call)], call.args[1:], strict=False)), **call.kwargs}
        own = [_held(body, given.get(name)) for name in ("weight", "bias")]
        groups = _groups(name_of(call), given, shape, values)
    else:
        own = [getattr(body, name, None) for name in ("weight", "bias")]
        if type(body) in _INSTANCE:
            groups = shape[2]
        else:
            groups = body.num_groups if type(body) is nn.GroupNorm else values // math.prod(body.normalized_shape)
    if not groups:
        return None
    centred = "RMS" not in type(body).__name__ and (call is None or name_of(call) != "rms_norm")
    weight, bias = own
    numbers = sum(one.numel() for one in own if one is not None)
    return Measured(groups, centred, weight is not None, bias is not None, numbers)


def is_norm(module: nn.Module | None) -> bool:
    """Whether `cost` knows a layer as a norm, whatever mode it is in."""
    return bool(measures(module)) or (isinstance(module, Merged) and constants(module, True) is not None)


def is_constant(module: nn.Module) -> bool:
    """Whether `constants` says what a layer is."""
    return constants(module) is not None


@torch.no_grad()
def constants(module: nn.Module | None, training: bool = False) -> Constants | None:
    """(scale, shift) [C] in float64 of a norm of channels with running statistics, in evaluation mode, its parameters
    and its dtype; None of everything else. With ``training`` in training mode, too."""
    body: Any = module.body if isinstance(module, Merged) else None
    if type(body) not in (*_BATCH, *_INSTANCE) or body.running_mean is None or changed_by(*body.modules()):
        return None
    if body.training and not training:
        return None
    scale = (body.running_var.double() + body.eps).rsqrt()
    scale = scale if body.weight is None else scale * body.weight.double()
    shift = -body.running_mean.double() * scale
    shift = shift if body.bias is None else shift + body.bias.double()
    return scale, shift, list(body.parameters()), body.running_mean.dtype


def _tracks(body: Any) -> bool:
    """Whether statistics are constants."""
    return not body.training and body.running_mean is not None


def _call(body: nn.Module) -> fx.Node | None:
    """The one call of a piece of a graph, if it is a norm of what comes in."""
    calls = [n for n in body.graph.nodes if n.op.startswith("call")] if isinstance(body, fx.GraphModule) else []
    if len(calls) != 1 or name_of(calls[0]) not in _FUNCTIONS or not calls[0].args:
        return None
    (call,) = calls
    source = call.args[0]
    given = {**dict(zip(_FUNCTIONS[name_of(call)], call.args[1:], strict=False)), **call.kwargs}
    measured = given.get("use_input_stats", True) is True
    return call if isinstance(source, fx.Node) and source.op == "placeholder" and measured else None


def _held(body: nn.Module, given: Any) -> Tensor | None:
    """A parameter that a call reads."""
    return operator.attrgetter(str(given.target))(body) if isinstance(given, fx.Node) else None


def _groups(name: str, given: dict[str, Any], shape: Sequence[int], values: int) -> int:
    """Deviations of a sample and step; 0 where they cannot be read off."""
    if name == "instance_norm":
        return shape[2]
    found = given.get("num_groups" if name == "group_norm" else "normalized_shape")
    if name == "group_norm":
        return found if isinstance(found, int) else 0
    sides = found if isinstance(found, (tuple, list)) else (found,)
    return values // math.prod(sides) if all(isinstance(side, int) for side in sides) else 0
