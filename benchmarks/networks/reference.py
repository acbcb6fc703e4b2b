"""What a spiking network made of a user's model should do, found without tracing it.

The user's own forward runs once a time step. A torch function mode catches every activation as it is called and lets
a neuron step in its place, with a state for the n-th call of a step; a dispatch mode sees the matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from bitspike.neurons import Neuron

FUNCTIONS: dict[type[nn.Module], tuple[Callable[..., Any], ...]] = {
    nn.ReLU: (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    nn.ReLU6: (F.relu6,),
    nn.Hardswish: (F.hardswish,),
    nn.SiLU: (F.silu,),
    nn.GELU: (F.gelu,),
    nn.PReLU: (F.prelu, torch.prelu),
    nn.LeakyReLU: (F.leaky_relu,),
}
_aten = torch.ops.aten
_INPUT = {_aten.convolution: 0, _aten.addmm: 1, _aten.mm: 0, _aten.bmm: 0, _aten.baddbmm: 1}


class Spiking(TorchFunctionMode):
    """While it is active, the n-th activation of a time step is the n-th neuron."""

    def __init__(self, neuron: Neuron, kinds: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.neuron, self.caught = neuron, {f for kind in kinds for f in FUNCTIONS[kind]}
        self.states: list[Any] = []
        self.call = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.hardtanh and (kwargs["min_val"], kwargs["max_val"]) == (0, 6):  # nn.ReLU6 calls it
            func, args, kwargs = F.relu6, args[:1], {"inplace": kwargs["inplace"]}
        if func not in self.caught:
            return func(*args, **kwargs)
        x = args[0]
        if self.call == len(self.states):
            self.states.append(self.neuron.initial_state(x))
        spikes, self.states[self.call] = self.neuron.step(x.clone(), self.states[self.call])
        self.call += 1
        in_place = kwargs.get("inplace", False) or func in (torch.relu_, Tensor.relu_, F.relu_)
        return x.copy_(spikes) if in_place else spikes


class Products(TorchDispatchMode):
    """Counts multiply-accumulates, and among them those of inputs that are no spikes, silent inputs left out."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.real = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry and not packet.__name__.endswith("backward"):
            macs = flop_registry[packet](*args, **(kwargs or {}), out_val=out) / 2
            x = args[_INPUT.get(packet, 0)]
            self.macs += macs
            if not spikes(x):
                self.real += macs * float((x != 0).double().mean())
        return out


def spikes(x: Tensor) -> bool:
    """Whether all values are small multiples of 1, or of a fraction that a mean of spikes makes."""
    if x.dtype not in (torch.float64, torch.float32):
        return True
    return any(bool(((x * n).round() - x * n).abs().max() < 1e-9) for n in (1, 3, 5, 7, 10, 64, 9, 256, 81))


def run(model: nn.Module, x: Tensor, neuron: Neuron, kinds: tuple[type[nn.Module], ...], T: int) -> Any:
    """Mean output over T steps of the model with neurons in place of its activations; gradients flow."""
    total, mode = None, Spiking(neuron, kinds)
    torch.backends.mha.set_fastpath_enabled(False)  # it calls no activation that could be caught
    for _ in range(T):
        mode.call = 0
        with mode:
            out = model(x)
        total = out if total is None else add(total, out)
    return tree_map(lambda value: value / T, total)


def add(a: Any, b: Any) -> Any:
    if isinstance(a, Tensor):
        return a + b
    if isinstance(a, dict):
        return {key: add(a[key], b[key]) for key in a}
    return type(a)(add(one, other) for one, other in zip(a, b, strict=True))


def products(model: nn.Module, x: Tensor, neuron: Neuron, kinds: tuple[type[nn.Module], ...], T: int) -> Products:
    """Multiply-accumulates of all T steps and all samples."""
    with torch.no_grad(), Products() as counter:
        run(model, x, neuron, kinds, T)
    return counter
