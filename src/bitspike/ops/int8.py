"""Forward convolutions in int8: who emitted integer spikes is noted, and convolutions of them ask the dispatch table.

The backward pass stays as it is. What cannot run in int8 runs as always, and `Int8.report` says what and why.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.ops.convolve import ConvolveFacts, Levels, Map
from bitspike.ops.dispatch import REFERENCE, choose, explain


class _Noted(NamedTuple):
    """Spikes of the forward pass and the count of their in-place changes."""

    alive: weakref.ref[Tensor]
    version: int
    levels: Levels


class Int8:
    """What `int8` knows about the spikes of a forward pass, by the address of their memory.

    Attributes:
        taken: calls of linear maps that ran in int8 (or would have, without NaN among their spikes).
        kept: reason → calls that did not, for that reason.
    """

    def __init__(self) -> None:
        self._noted: dict[int, _Noted] = {}
        self.taken: int = 0
        self.kept: Counter[str] = Counter()

    def spikes(self, s: Tensor, alphabet: Any, factor: float | Tensor) -> None:
        """``s = factor·k`` with k in the alphabet, a `bitspike.formats.SpikeFormat`, has been emitted."""
        if alphabet.real or s.device.type != "cpu" or s.is_inference():  # there, changes in place are not counted
            return
        single = isinstance(factor, float) or factor.numel() == 1
        single = single and alphabet.slope == 1  # negative levels may have an amplitude of their own
        levels = Levels(alphabet.low, alphabet.high, float(factor) if single else None)
        self._noted[_address(s)] = _Noted(weakref.ref(s), s._version, levels)

    def map_of(self, layer: Any, x: Tensor) -> Map:
        """The map that takes the layer's input, quantized weight and bias to its output."""
        if torch.compiler.is_compiling():
            _refuse_compiling()
        weight, device = layer.weight, x.device.type
        fan_in = math.prod(weight.shape[1:])
        autocast = torch.is_autocast_enabled(device)
        facts = ConvolveFacts(self._of(x), layer.place(x), layer.quantizer.format, fan_in, x, autocast)
        kernel = choose("convolve", device, facts)
        if kernel.name == REFERENCE:
            self.kept[explain("convolve", device, facts).splitlines()[0].partition(": ")[2]] += 1
        else:
            self.taken += 1
        return kernel.function(layer, facts)  # type: ignore[no-any-return]

    def report(self) -> str:
        """How many linear maps ran in int8, and why the others did not."""
        lines = [f"in int8: {self.taken} calls of linear maps"]
        lines += [f"in floating point: {count}, because {reason}" for reason, count in self.kept.most_common()]
        return "\n".join(lines)

    def forget(self) -> None:
        """The forward pass is over."""
        self._noted.clear()

    def _of(self, x: Tensor) -> Levels | str:
        noted = self._noted.get(_address(x))
        own = None if noted is None else noted.alive()
        if noted is None or own is None or _address(own) != _address(x) or own.dtype != x.dtype:
            return "the input is not known to be integer spikes"
        return noted.levels if own._version == noted.version else "the spikes were changed in place"


_ACTIVE: list[Int8] = []


def integer_forward() -> Int8 | None:
    """The record of the innermost `int8` around this call, or None."""
    return _ACTIVE[-1] if _ACTIVE else None


@contextmanager
def int8() -> Iterator[Int8]:
    """A forward pass inside multiplies integer spikes with integer weights in int8, exactly, on the CPU.

    For convolutions in channels-last order whose input comes straight from neurons with one amplitude for all channels
    and steps, with quantized weights; all others run in floating point and are counted with the reason. Outputs differ
    from those of the float convolution by its rounding; gradients are those of the float convolution. The recipe key
    ``train.forward`` switches it on.

    Yields:
        `Int8`, the record: ``taken`` maps ran in int8, ``report()`` says why others did not. The backward pass may come
        after the block.

    Raises:
        ValueError: inside `torch.compile`.

    >>> from bitspike.layers import Linear
    >>> with int8() as record:
    ...     y = Linear(3, 2)(torch.ones(1, 1, 3))
    >>> print(record.report())
    in int8: 0 calls of linear maps
    in floating point: 1, because the layer is no 2-D convolution
    """
    if torch.compiler.is_compiling():
        _refuse_compiling()
    own = Int8()
    _ACTIVE.append(own)
    try:
        yield own
    finally:
        _ACTIVE.remove(own)
        own.forget()


def _refuse_compiling() -> None:
    todo = "compile without it, or run uncompiled"
    raise bad_value("int8", "the network must run uncompiled", "torch.compile", todo)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
