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
from bitspike.upgrade.mapping import activation, clamped

WHERE = "ann2snn"
_CEILINGS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
_HARDTANH = (("min_val", -1.0), ("max_val", 1.0))


@dataclass(frozen=True)
class Rectifier:
    """``a = clip(x, 0, ceiling)``, on a grid if it has levels; with a slope ``a = x`` above 0 and ``slope·x`` below,
    and nothing beyond ±ceiling.

    What an analog operation sends is rectified as well: by no slope where it sends nothing below 0, else by slope 1.

    Args:
        kind: class name. ceiling: greatest value; inf for ReLU. levels: of a `ClipFloor`, else 0.
        slope: of a LeakyReLU, in (0, 1]; else 0.

    >>> Rectifier("LeakyReLU", slope=0.5)(torch.tensor([-2.0, 3.0])).tolist()
    [-1.0, 3.0]
    >>> Rectifier("Hardtanh", 1.0, slope=1.0)(torch.tensor([-2.0, 0.5])).tolist()
    [-1.0, 0.5]
    """

    kind: str
    ceiling: float = math.inf
    levels: int = 0
    slope: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """The activation itself."""
        if self.slope:
            inside = x.clamp(-self.ceiling, self.ceiling) if math.isfinite(self.ceiling) else x
            return torch.where(inside < 0, inside * self.slope, inside)
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
    if neuron.feeds_back:
        raise bad_value(WHERE, "the neuron must not feed its spikes back, as no ReLU does", name, "take its neuron")
    if neuron.format.real:
        raise bad_value(WHERE, "the neuron must emit levels", f"{name} with real spikes", "take MultiBit")
    if neuron.format.signed and not isinstance(neuron, Rectifies):
        must = "a signed neuron must be able to take spikes back, as a ReLU sends nothing below 0"
        raise bad_value(WHERE, must, f"{name} ({neuron.format.label()})", "take Signed, LIF, MultiBit or Integer")
    moving = type(neuron).threshold_scale_at is not Neuron.threshold_scale_at
    if moving or type(neuron).threshold_scale is not Neuron.threshold_scale:
        must = "the thresholds must be numbers of their own, as the amplitude is set here"
        got = f"{name}, whose threshold moves" if moving else f"{name}, whose step is both"
        raise bad_value(WHERE, must, got, "take MultiBit or Integer")
    if membrane.raw_threshold is not None:
        must = f"the thresholds of {name} must be fixed, as they are set here"
        raise bad_value(WHERE, must, f"train_threshold={membrane.threshold_kind!r}", "train them after the conversion")
    if membrane.raw_decay is not None or membrane.fixed_decay != 1 or membrane.reset_kind != "soft":
        must = f"{name} must be integrate-and-fire with soft reset"
        got = f"decay {membrane.fixed_decay:g}, {membrane.reset_kind} reset"
        raise bad_value(WHERE, must, got, "pass decay=1.0 and reset='soft'")


def check_slope(neuron: Neuron, kind: str, negative: bool, where: str) -> None:
    """Raise `ValueError` where an activation with negative values meets an unsigned format."""
    if negative and not neuron.format.signed:
        must = f"{kind} sends values below 0, so the format must be signed"
        raise bad_value(f"{WHERE} {where}", must, neuron.format.label(), "take Signed(D, decay=1.0)")


def rectifier_of(module: nn.Module | None) -> Rectifier | None:
    """What an activation is; None for one that a neuron cannot take over by itself."""
    body = module.body if isinstance(module, Merged) else module
    if isinstance(body, ClipFloor):
        return Rectifier("ClipFloor", float(body.ceiling().detach()), body.levels)
    call = _call(body) if isinstance(body, fx.GraphModule) else None
    if isinstance(body, fx.GraphModule):
        if call is None:
            return None
        kind = activation(body, call)
        body = body.get_submodule(str(call.target)) if call.op == "call_module" else None
    else:
        kind = type(body) if body is not None else None
    if kind in _CEILINGS:
        return Rectifier(kind.__name__, _CEILINGS[kind])  # type: ignore[index,union-attr]
    if kind is nn.Hardtanh:
        low, high = limits(body, call)
        symmetric = -low == high > 0
        return Rectifier("Hardtanh", high, slope=float(symmetric)) if symmetric or low == 0 < high else None
    if kind is nn.LeakyReLU:
        slope = float(_option(body, call, "negative_slope", 0, 0.01))
        return Rectifier("LeakyReLU", slope=slope) if 0 <= slope <= 1 else None
    return None


def limits(body: nn.Module | None, call: fx.Node | None) -> tuple[float, float]:
    """Least and greatest value of a Hardtanh, as a module, a function or a clamp."""
    between = None if call is None else clamped(call.target, call.args, call.kwargs)
    if between is not None:
        return between
    low, high = (_option(body, call, name, place, value) for place, (name, value) in enumerate(_HARDTANH))
    return float(low), float(high)


def _option(body: nn.Module | None, call: fx.Node | None, name: str, place: int, default: float) -> float:
    """An option of an activation: of the module, or of the call of a function, where it is a number."""
    if body is not None:
        return float(getattr(body, name))
    assert call is not None
    given = call.args[place + 1] if len(call.args) > place + 1 else call.kwargs.get(name, default)
    return float(given) if isinstance(given, (int, float)) else math.nan


def _call(body: fx.GraphModule) -> fx.Node | None:
    """The only call of a piece of a graph with one input and no constants; None where it is none such."""
    inner = [node for node in body.graph.nodes if node.op != "output"]
    calls = [node for node in inner if node.op.startswith("call")]
    return calls[0] if len(inner) == 2 and len(calls) == 1 else None
