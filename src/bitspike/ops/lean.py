"""Training in less memory: spikes are kept as bits, and what a linear map makes of spikes is computed again.

Between the forward and the backward pass a layer keeps the input of its linear map and the input of its norm. Inside
`lean` the first is kept as packed levels, if it is made of spikes, and the second is not kept at all: the backward
pass runs the linear map once more on the unpacked spikes. Same operations on the same numbers: gradients are equal.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.ops.packing import PackedSpikes, dense, packed_if_levels, stored_bits, unpack_spikes

Map = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _Known:
    """A tensor of the forward pass that need not be kept as it is."""

    def __init__(self, tensor: Tensor) -> None:
        self.alive: weakref.ref[Tensor] = weakref.ref(tensor)
        self.version: int = tensor._version

    def keep(self) -> bool:
        """Now or never: the tensor is still there. Whether `restore` will give it back."""
        return True

    def restore(self) -> Tensor:
        """A tensor with the same memory."""
        raise NotImplementedError


class _Spikes(_Known):
    """Spikes, packed when a layer first wants to keep them."""

    def __init__(self, s: Tensor, low: int, high: int, factor: float | Tensor, last: dict[object, Tensor]) -> None:
        super().__init__(s)
        self.alphabet: tuple[int, int, float | Tensor] = low, high, factor
        self.packed: PackedSpikes | None = None
        self.key: object = object()
        self.last: dict[object, Tensor] = last  # the spikes unpacked last; a layer wants its own twice

    def keep(self) -> bool:
        s = self.alive()
        if self.packed is None and s is not None:
            self.packed = packed_if_levels(s, *self.alphabet, wait=False)
        return self.packed is not None

    def restore(self) -> Tensor:
        assert self.packed is not None
        if self.key not in self.last:
            self.last.clear()
            self.last[self.key] = unpack_spikes(self.packed)
        return self.last[self.key]


class _Product(_Known):
    """What a linear map made of its input."""

    def __init__(self, y: Tensor, again: Callable[[], Tensor]) -> None:
        super().__init__(y)
        self.again: Callable[[], Tensor] = again
        self.stride: tuple[int, ...] = y.stride()

    def restore(self) -> Tensor:
        y = self.again()
        return y if y.stride() == self.stride else torch.empty_strided(y.shape, self.stride, dtype=y.dtype).copy_(y)


class _View(NamedTuple):
    """A part of a known tensor."""

    known: _Known
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt


class _Plain(NamedTuple):
    """A tensor kept as it is, with the count of its in-place changes."""

    tensor: Tensor
    version: int


class Saver:
    """What `lean` knows about the tensors of a forward pass, by the address of their memory."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._last: dict[object, Tensor] = {}

    def spikes(self, s: Tensor, low: int, high: int, factor: float | Tensor) -> None:
        """``s = factor·k`` with k in low..high has been emitted."""
        if stored_bits(low, high) and dense(s):
            self._known[_address(s)] = _Spikes(s, low, high, factor, self._last)

    def linear(self, y: Tensor, function: Map, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """``y = function(x, weight, bias)`` has been computed."""
        given = self.pack(x.detach())
        numbers = [None if given is None else _Plain(given.detach(), given._version) for given in (weight, bias)]
        autocast = _autocast(y.device.type)

        def again() -> Tensor:
            with torch.no_grad(), autocast():
                w, b = (None if kept is None else self.unpack(kept) for kept in numbers)
                assert w is not None
                return function(self.unpack(given), w, b)

        self._known[_address(y)] = _Product(y, again)

    def pack(self, tensor: Tensor) -> _View | _Plain:
        """Autograd wants to keep a tensor."""
        known = self._known.get(_address(tensor))
        own = None if known is None else known.alive()
        if known is None or own is None or _address(own) != _address(tensor) or own.dtype != tensor.dtype:
            return _Plain(tensor, tensor._version)
        if own._version != known.version or not known.keep():  # changed in place, or NaN: not what was made known
            return _Plain(tensor, tensor._version)
        return _View(known, tensor.size(), tensor.stride(), tensor.storage_offset())

    def forget(self) -> None:
        """The forward pass is over; what autograd keeps does not need the table."""
        self._known.clear()

    @staticmethod
    def unpack(kept: _View | _Plain) -> Tensor:
        """Autograd wants it back."""
        if isinstance(kept, _View):
            return kept.known.restore().as_strided(kept.size, kept.stride, kept.offset)
        if kept.tensor._version != kept.version:
            must = "a tensor needed for the gradient must not be changed in place before the backward pass"
            raise RuntimeError(f"lean: {must}, got version {kept.tensor._version} instead of {kept.version}")
        return kept.tensor


_SAVERS: list[Saver] = []


def saver() -> Saver | None:
    """The saver of the innermost `lean` around this call, or None."""
    return _SAVERS[-1] if _SAVERS else None


@contextmanager
def lean() -> Iterator[None]:
    """A forward pass inside keeps spikes as bits and computes linear maps again in the backward pass.

    Outputs and gradients are those of the ordinary pass; a step takes about one more forward pass of the linear maps.
    Any network of bitspike's layers will do; the recipe key ``train.memory`` switches it on.

    Yields:
        None. The backward pass may come after the block.

    Raises:
        ValueError: inside `torch.compile`, which plans its memory itself.

    >>> from bitspike.layers import Linear
    >>> layer, x = Linear(3, 2), torch.ones(1, 1, 3)
    >>> with lean():
    ...     y = layer(x)
    >>> y.sum().backward()
    """
    if torch.compiler.is_compiling():
        todo = "compile without it, or train uncompiled"
        raise bad_value("lean", "the network must run uncompiled", "torch.compile", todo)
    own = Saver()
    _SAVERS.append(own)
    try:
        with torch.autograd.graph.saved_tensors_hooks(own.pack, own.unpack):
            yield
    finally:
        _SAVERS.remove(own)
        own.forget()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _autocast(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """The autocast state of now, to be entered later."""
    if not torch.is_autocast_enabled(device):
        return nullcontext
    dtype = torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype)
