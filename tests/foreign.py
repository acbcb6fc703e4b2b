"""Stand-ins for SpikingJelly and snnTorch: their update equations, written down by hand, under their names.

`benchmarks/peers/upgrade.py` runs the same pages on the real libraries.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def spike_function(slope: Callable[[Tensor], Tensor], strict: bool) -> Callable[[Tensor], Tensor]:
    """[x >= 0], or [x > 0], with a derivative given by hand."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return (x > 0 if strict else x >= 0).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * slope(ctx.saved_tensors[0])

    return Spike.apply


def atan_slope(alpha: float) -> Callable[[Tensor], Tensor]:
    return lambda x: alpha / 2 / (1 + (math.pi / 2 * alpha * x) ** 2)


def sigmoid_slope(alpha: float) -> Callable[[Tensor], Tensor]:
    return lambda x: alpha * torch.sigmoid(alpha * x) * torch.sigmoid(-alpha * x)


def fast_slope(slope: float) -> Callable[[Tensor], Tensor]:
    return lambda x: 1 / (1 + slope * x.abs()) ** 2


class ATan:
    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha, self.slope = alpha, atan_slope(alpha)

    def __call__(self, x: Tensor) -> Tensor:
        return spike_function(self.slope, False)(x)


class Sigmoid(ATan):
    def __init__(self, alpha: float = 4.0) -> None:
        self.alpha, self.slope = alpha, sigmoid_slope(alpha)


class BaseNode(nn.Module):
    """Charge H from V and X, fire at H >= v_threshold, reset to v_reset or by subtraction; V starts at v_reset or 0."""

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Any = None,
        detach_reset: bool = False,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.detach_reset, self.step_mode = (
            v_threshold,
            v_reset,
            detach_reset,
            step_mode,
        )
        self.surrogate_function = surrogate_function or Sigmoid()
        self._memories: dict[str, Any] = {"v": v_reset or 0.0}

    def charge(self, v: Any, x: Tensor) -> Tensor:
        raise NotImplementedError

    def emit(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(output, what subtracts, what resets)."""
        spike = self.surrogate_function(h - self.v_threshold)
        return spike, spike, spike

    def forward(self, x: Tensor) -> Tensor:
        h = self.charge(self._memories["v"], x)
        out, sent, fired = self.emit(h)
        if self.detach_reset:
            sent, fired = sent.detach(), fired.detach()
        if self.v_reset is None:
            self._memories["v"] = h - sent * self.v_threshold
        else:
            self._memories["v"] = (1.0 - fired) * h + fired * self.v_reset
        return out


class IFNode(BaseNode):
    def charge(self, v: Any, x: Tensor) -> Tensor:
        return v + x


class LIFNode(BaseNode):
    def __init__(self, tau: float = 2.0, decay_input: bool = True, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tau, self.decay_input = tau, decay_input

    def charge(self, v: Any, x: Tensor) -> Tensor:
        rest = self.v_reset or 0.0
        return v + (x - (v - rest)) / self.tau if self.decay_input else v - (v - rest) / self.tau + x


class ParametricLIFNode(BaseNode):
    def __init__(self, init_tau: float = 2.0, decay_input: bool = True, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1.0)))

    def charge(self, v: Any, x: Tensor) -> Tensor:
        rest, rate = self.v_reset or 0.0, self.w.sigmoid()
        return v + (x - (v - rest)) * rate if self.decay_input else v - (v - rest) * rate + x


class TernaryLIFNode(LIFNode):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def emit(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b = self.surrogate_function(h - self.v_threshold) - self.surrogate_function(-h - self.v_threshold)
        return self.scale * b, b, b.abs()


class QIFNode(IFNode):
    """A neuron that no LIF is."""


class ILIFNode(BaseNode):
    """round(clip(H/v_threshold, 0, D)), soft reset."""

    def __init__(self, D: int = 4, tau: float = 4 / 3, v_threshold: float = 1.0) -> None:
        super().__init__(v_threshold, None)
        self.D, self.tau = D, tau

    def charge(self, v: Any, x: Tensor) -> Tensor:
        return v * (1 - 1 / self.tau) + x

    def emit(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = (h / self.v_threshold).clamp(0, self.D).round()
        return count, count, count


def over_time(node: nn.Module, x: Tensor) -> Tensor:
    """A node from rest on [T, B, ...]."""
    reset_net(node)
    y = torch.stack([node(step) for step in x])
    reset_net(node)
    return y


def reset_net(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, BaseNode):
            module._memories["v"] = module.v_reset or 0.0


def set_step_mode(net: nn.Module, mode: str) -> None:
    for module in net.modules():
        if hasattr(module, "step_mode"):
            module.step_mode = mode


def spikingjelly() -> dict[str, types.ModuleType]:
    """Modules for `sys.modules`."""
    root, base = types.ModuleType("spikingjelly"), types.ModuleType("spikingjelly.activation_based")
    parts: dict[str, dict[str, Any]] = {
        "functional": {"reset_net": reset_net, "set_step_mode": set_step_mode},
        "surrogate": {"ATan": ATan, "Sigmoid": Sigmoid},
        "neuron": {kind.__name__: kind for kind in (BaseNode, IFNode, LIFNode, ParametricLIFNode, QIFNode)},
        "layer": {},
    }
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Flatten, nn.Linear):

        def init(self: Any, *args: Any, of: type = kind, **kwargs: Any) -> None:
            of.__init__(self, *args, **kwargs)  # type: ignore[misc]
            self.step_mode = "s"

        own = {"__init__": init, "__module__": f"{base.__name__}.layer"}
        parts["layer"][kind.__name__] = type(kind.__name__, (kind,), own)
    found = {root.__name__: root, base.__name__: base}
    for name, content in parts.items():
        module = types.ModuleType(f"{base.__name__}.{name}")
        vars(module).update(content)
        setattr(base, name, module)
        found[module.__name__] = module
    return found


class SpikingNeuron(nn.Module):
    """snnTorch's base class, which is known by its name."""


class Leaky(SpikingNeuron):
    """The reset R of the membrane before, detached; U = beta·U + X − R·threshold, beta·(1 − R)·U + X, or no reset.

    Fires at U > threshold. Without delay what fires is reset at once, and its gradient is not cut.
    """

    def __init__(
        self,
        beta: float,
        threshold: float = 1.0,
        spike_grad: Any = None,
        reset_mechanism: str = "subtract",
        learn_beta: bool = False,
        graded_spikes_factor: float = 1.0,
        reset_delay: bool = True,
        inhibition: bool = False,
        state_quant: Any = False,
    ) -> None:
        super().__init__()
        self.beta: Any = nn.Parameter(torch.tensor(beta)) if learn_beta else torch.tensor(beta)
        self.threshold, self.graded_spikes_factor = torch.tensor(threshold), torch.tensor(graded_spikes_factor)
        self.spike_grad = spike_grad or spike_function(atan_slope(2.0), True)
        self.reset_mechanism, self.reset_delay = reset_mechanism, reset_delay
        self.inhibition, self.state_quant = inhibition, state_quant
        self.register_buffer("mem", torch.zeros(0), False)

    def reset_mem(self) -> Tensor:
        return torch.zeros(0)

    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        before = torch.zeros_like(x) if mem is None or mem.shape != x.shape else mem
        reset = self.spike_grad(before - self.threshold).detach()
        if self.reset_mechanism == "zero":
            before = (1 - reset) * before
        u = self.beta.clamp(0, 1) * before + x
        if self.reset_mechanism == "subtract":
            u = u - reset * self.threshold
        spikes = self.spike_grad(u - self.threshold)
        if not self.reset_delay:
            late = spikes - reset
            u = u - late * {"zero": u, "subtract": self.threshold, "none": 0 * u}[self.reset_mechanism]
        return spikes * self.graded_spikes_factor, u


def handed_on(node: Leaky, x: Tensor) -> Tensor:
    """A Leaky from rest on [T, B, ...]."""
    mem, found = None, []
    for step in x:
        spikes, mem = node(step, mem)
        found.append(spikes)
    return torch.stack(found)


def snntorch() -> dict[str, types.ModuleType]:
    """Modules for `sys.modules`."""
    module = types.ModuleType("snntorch")
    vars(module).update({"Leaky": Leaky, "SpikingNeuron": SpikingNeuron})
    return {"snntorch": module}
