"""Contracts of a layer over time and of a synapse (a linear map with quantized weights)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every
from torch.nn.utils.prune import BasePruningMethod

from bitspike.checks import bad_value, time_first
from bitspike.functional import once, repeats, still
from bitspike.ops import Place, integer_forward, saver
from bitspike.quantizers import Float, Quantizer
from bitspike.renamed import old_method
from bitspike.sealed import Sealed

_KINDS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"


_CHANGES = {"WeightNorm": "weight norm", "SpectralNorm": "spectral norm", "Pruning": "pruning"}


def hooked(module: nn.Module) -> bool:
    """Whether something happens when the module is called, beside its forward: hooks of its own, or of all modules."""
    kinds = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(kinds) or any(getattr(every, f"_global{name}", None) for name in _KINDS)


def changed_by(*modules: nn.Module) -> str:
    """What changes modules' weights or results at every call, so that they are not what their class says.

    >>> from torch.nn.utils.parametrizations import weight_norm
    >>> changed_by(weight_norm(nn.Linear(2, 2))), changed_by(nn.Linear(2, 2))
    ('weight norm', '')
    """
    found: list[str] = []
    for module in modules:
        parts = [part for of_one in getattr(module, "parametrizations", {}).values() for part in of_one]
        kinds = [type(part).__name__.lstrip("_") for part in parts]
        found += [_CHANGES.get(kind, kind) for kind in kinds]
        for hook in (hook for name in _KINDS for hook in getattr(module, name).values()):
            kind = "Pruning" if isinstance(hook, BasePruningMethod) else type(hook).__name__
            found.append(_CHANGES.get(kind, "hooks"))
    return ", ".join(dict.fromkeys(found))


class TimeLayer(Sealed, nn.Module, ABC):
    """What all layers share that work on every time step.

    A leaf of the traced graph that works on [T, B, ...].

    Attributes:
        scaling: what happens to a factor on its input: "linear" (it comes out, per channel, any sign), "positive"
            (it comes out if positive), "add" (a factor that all inputs share comes out), "product" (those of its two
            inputs come out, multiplied), "none" (it does not come out; folding puts an explicit gain before it).
        keeps_format: True where the output is made of unchanged spikes of the input (max pooling, flattening).
        stateful: True where a result depends on earlier time steps; then `stream_step` is used in streams.
        causal: False where a result depends on later time steps; a stream refuses it.
    """

    scaling: str = "none"
    keeps_format: bool = False
    stateful: bool = False
    causal: bool = True

    def stream_step(self, x: Tensor, state: Any | None) -> tuple[Tensor, Any]:
        """One chunk [t, B, ...] and the state after the last chunk (None at first) → (output, state)."""
        raise NotImplementedError(f"{type(self).__name__}: a stateful layer must define stream_step")

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A factor [] or [C] on the input [T, B, C, ...] of this shape, as a factor on the output."""
        return factor

    def mixes(self, shape: tuple[int, ...]) -> bool:
        """Whether a channel of the output holds values of several channels of an input [T, B, C, ...] of this shape, so
        that only a factor which those share comes out."""
        return False

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int] | None:
        """(n, d) of a pool, whose outputs are sums of at most n values of a channel of [T, B, C, ...] over d.

        A value may count more than once. (0, 0) where the shape must be known; None of any layer that is no such pool.
        """
        return None

    def pool_windows(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """(values in every window, what their sum is divided by) of such a pool, int64 of the shape of one channel.

        None where that is a matter of the class, which `bitspike.cost` knows.
        """
        return None


class Synapse(TimeLayer):
    """What all layers with weights share.

    A linear map whose weight passes through a quantizer.

    Attributes:
        weight: latent weight [O, I, ...]; bias: [O] or None; quantizer: this layer's own.
        role: "first", "last", "downsample" or "hidden"; set by builders, read by policies and by cost.
        groups: groups of channels that are mapped apart; the weight is then [O, I/groups, ...].
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    quantizer: Quantizer
    role: str = "hidden"
    groups: int = 1
    sealed: ClassVar[tuple[str, ...]] = ("groups",)
    tensors: ClassVar[tuple[str, ...]] = ("weight", "bias")

    quantise_with: ClassVar[Callable[..., Any]] = old_method("quantise_with", "quantize_with")

    @abstractmethod
    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply a given weight to x [T, B, I, ...]."""

    @abstractmethod
    def macs(self, out_shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of one sample and step that produce an output [T, B, ...] of this shape."""

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, I, ...] through the quantized weight; a still image once for all steps (see `once`)."""
        weight = self.quantizer(self.weight)
        integer, keeper = integer_forward(), saver()
        connect = self.connect if integer is None else integer.map_of(self, x[:1] if still(x) else x)

        def over_steps(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return once(lambda step: connect(step, weight, bias), x)

        y = over_steps(x, weight, self.bias)
        if keeper is not None and y.requires_grad:
            keeper.linear(y, over_steps, x, weight, self.bias)
        return y

    def columns(self, factor: Tensor) -> Tensor:
        """A factor [] or [I] per input channel, to broadcast over the weight."""
        if not factor.dim():
            return factor
        rest = [1] * (self.weight.dim() - 2)
        if self.groups == 1:
            return factor.reshape(1, -1, *rest)
        rows = self.weight.shape[0] // self.groups
        return factor.reshape(self.groups, -1).repeat_interleave(rows, 0).reshape(*self.weight.shape[:2], *rest)

    def quantize_with(self, prototype: Quantizer) -> None:
        """Give the layer its own copy of a quantizer, initialised from the present weight."""
        self.quantizer = prototype.replicate(self.weight)

    def place(self, x: Tensor) -> Place | str:
        """Where a zero-padded 2-D convolution of x puts its window, or why there is none; for `bitspike.int8`."""
        return "the layer is no 2-D convolution"


def new_quantizer(prototype: Quantizer | None, weight: Tensor) -> Quantizer:
    """A layer's own quantizer; full precision where none is named."""
    return (Float() if prototype is None else prototype).replicate(weight)


def merge_time(where: str, x: Tensor, axes: int, indices: bool = False) -> Tensor:
    """[T, B, ...] with that many axes → [T·B, ...]; raises `ValueError` on another number of axes.

    With ``indices`` x may hold numbers of words.

    A view where the steps lie one after the other, channels-last frames included. Steps that an encoder only repeats
    are copied in the memory order of a frame.
    """
    time_first(where, x, indices=indices)
    if x.dim() != axes:
        names = {3: "[T, B, C]", 5: "[T, B, C, H, W]"}.get(axes, f"{axes} axes")
        raise bad_value(where, f"the input must be {names}", list(x.shape), "check the layer before")
    if repeats(x):
        return torch.cat(x.unbind(0))
    return x.flatten(0, 1)


def in_full(x: Tensor) -> Tensor:
    """x itself, or in float32 where it has half precision, which holds no odd number above 2,048 (bfloat16: 256)."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def split_time(y: Tensor, like: Tensor) -> Tensor:
    """[T·B, ...] → [T, B, ...] with T and B of ``like``."""
    return y.unflatten(0, like.shape[:2])
