"""The activations that a neuron can take over, and which neurons can take over which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_type, bad_value
from bitspike.functional import round_half
from bitspike.layers import ClipFloor
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.mapping import activation

WHERE = "ann2snn"
_CEILINGS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}


@dataclass(frozen=True)
class Rectifier:
    """``a = clip(x, 0, ceiling)``, on a grid if it has levels; with a slope ``a = x`` above 0 and ``slope·x`` below.

    Args:
        kind: class name. ceiling: greatest value; inf for ReLU. levels: of a `ClipFloor`, else 0.
        slope: of a LeakyReLU, in (0, 1]; else 0.

    >>> Rectifier("LeakyReLU", slope=0.5)(torch.tensor([-2.0, 3.0])).tolist()
    [-1.0, 3.0]
    """

    kind: str
    ceiling: float = math.inf
    levels: int = 0
    slope: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """The activation itself."""
        if self.slope:
            return torch.where(x < 0, x * self.slope, x)
        if self.levels:
            step = self.ceiling / self.levels
            return round_half((x / step).clamp(0, self.levels)) * step
        return x.clamp(0, self.ceiling) if math.isfinite(self.ceiling) else x.clamp_min(0)


@runtime_checkable
class Rectifies(Protocol):
    """A neuron with signed levels whose negative ones can have another value, or only take back."""

    def rectify(self, slope: float, cancels_only: bool) -> None:
        """See `bitspike.neurons.Signed.rectify`."""


def check_neuron(neuron: Neuron) -> None:
    """Raise unless a neuron can take over a rectifier: integrate, fire levels, subtract what was sent."""
    if not isinstance(neuron, Neuron):
        got = getattr(neuron, "__name__", type(neuron).__name__)
        raise bad_type(WHERE, "the neuron must be a Neuron", got, "e.g. MultiBit(2, 2, decay=1.0)")
    name, membrane = type(neuron).__name__, neuron.membrane
    if neuron.format.real:
        raise bad_value(WHERE, "the neuron must emit levels", f"{name} with real spikes", "take MultiBit")
    if neuron.format.signed and not isinstance(neuron, Rectifies):
        must = "a signed neuron must be able to take spikes back, as a ReLU sends nothing below 0"
        raise bad_value(WHERE, must, f"{name} ({neuron.format.label()})", "take Signed, LIF, MultiBit or Integer")
    if type(neuron).threshold_scale is not Neuron.threshold_scale:
        must = "the thresholds must be numbers of their own, as the amplitude is set here"
        raise bad_value(WHERE, must, f"{name}, whose step is both", "take MultiBit or Integer")
    if membrane.raw_decay is not None or membrane.fixed_decay != 1 or membrane.reset_kind != "soft":
        must = f"{name} must be integrate-and-fire with soft reset"
        got = f"decay {membrane.fixed_decay:g}, {membrane.reset_kind} reset"
        raise bad_value(WHERE, must, got, "pass decay=1.0 and reset='soft'")


def check_slope(neuron: Neuron, rectifier: Rectifier, where: str) -> None:
    """Raise `ValueError` where an activation with negative values meets an unsigned format."""
    if rectifier.slope and not neuron.format.signed:
        must = f"{rectifier.kind} sends values below 0, so the format must be signed"
        raise bad_value(f"{WHERE} {where}", must, neuron.format.label(), "take Signed(D, decay=1.0)")


def rectifier_of(module: nn.Module | None, where: str) -> Rectifier:
    """What an activation is; raises `ValueError` for one that no neuron can take over."""
    body = module.body if isinstance(module, Merged) else module
    if isinstance(body, ClipFloor):
        return Rectifier("ClipFloor", float(body.ceiling().detach()), body.levels)
    kind = _kind(body)
    if kind is nn.LeakyReLU:
        return _leaky(_slope(body), where)
    if kind not in _CEILINGS:
        name = kind.__name__ if kind else type(body).__name__
        must = "the activation must be ReLU, ReLU6, LeakyReLU or ClipFloor"
        raise bad_value(f"{WHERE} {where}", must, name, "retrain with one")
    return Rectifier(kind.__name__, _CEILINGS[kind])


def _leaky(slope: float, where: str) -> Rectifier:
    if not 0 <= slope <= 1:
        raise bad_value(f"{WHERE} {where}", "the slope of a LeakyReLU must lie in [0, 1]", slope, "retrain with one")
    return Rectifier("LeakyReLU", slope=slope)


def _kind(body: nn.Module | None) -> type[nn.Module] | None:
    """The class of activation that a module is, or that a traced function stands for."""
    if isinstance(body, fx.GraphModule):
        kinds = [activation(body, node) for node in body.graph.nodes]
        return next((kind for kind in kinds if kind is not None), None)
    return type(body) if body is not None else None


def _slope(body: nn.Module | None) -> float:
    """The negative slope of a LeakyReLU, as a module or a function."""
    if isinstance(body, nn.LeakyReLU):
        return float(body.negative_slope)
    assert isinstance(body, fx.GraphModule)
    node = next(n for n in body.graph.nodes if activation(body, n) is nn.LeakyReLU)
    if node.op == "call_module":
        return _slope(body.get_submodule(str(node.target)))
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
    return float(given)
