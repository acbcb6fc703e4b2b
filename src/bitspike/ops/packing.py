"""Spikes as their levels in 1, 2, 4 or 8 bits, and back to the same values bit for bit."""

from __future__ import annotations

import ctypes
import math
import struct
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from bitspike import native
from bitspike.checks import bad_value
from bitspike.ops import buffers

_ARGS = struct.Struct("<2Q4q2d")  # PackArgs of csrc/scan/kernels.h


class PackedSpikes(NamedTuple):
    """What `pack_spikes` returns.

    Args:
        codes: uint8, levels less ``low``: [ceil(numel·bits / 8)] in memory order, or one of 8 bits an element, shaped
            and laid out as the spikes.
        bits: of a code. low: least level. factor: value of a level; a tensor broadcasts against the spikes.
        dtype, size, stride: of the spikes.
    """

    codes: Tensor
    bits: int
    low: int
    factor: float | Tensor
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]


def stored_bits(low: int, high: int) -> int:
    """Bits that a level takes: the next of 1, 2, 4, 8; 0 where there are more than 256 levels.

    >>> stored_bits(0, 1), stored_bits(-1, 1), stored_bits(0, 7), stored_bits(0, 256)
    (1, 2, 4, 0)
    """
    levels = high - low + 1
    return next((bits for bits in (1, 2, 4, 8) if levels <= 1 << bits), 0)


def pack_spikes(s: Tensor, low: int, high: int, factor: float | Tensor) -> PackedSpikes:
    """The levels of spikes ``s = factor·k``, k in low..high.

    float32 spikes with one factor are packed by native code; where the factor is one per channel, the spikes are
    bfloat16 or there is no library, a level takes a byte.

    Raises:
        ValueError: more than 256 levels, spikes whose elements do not fill their memory (see `dense`), or values that
            are no such levels (`packed_if_levels` returns None instead).

    >>> packed = pack_spikes(torch.tensor([0.0, 0.5, 1.5, 1.0]), 0, 3, 0.5)
    >>> unpack_spikes(packed).tolist()
    [0.0, 0.5, 1.5, 1.0]
    """
    packed = packed_if_levels(s, low, high, factor)
    if packed is None:
        must = f"every value must be the factor times a level {low}..{high}"
        raise bad_value("pack_spikes", must, "another value or NaN", "keep these spikes as they are")
    return packed


def packed_if_levels(s: Tensor, low: int, high: int, factor: float | Tensor, wait: bool = True) -> PackedSpikes | None:
    """`pack_spikes`, or None where a value would not come back as it is: NaN, or no level that the bits can hold.

    Without ``wait`` nothing waits for a device: where native code does not pack, NaN comes back instead, everywhere.
    """
    bits = stored_bits(low, high)
    if not bits:
        raise bad_value("pack_spikes", "levels must fit into 8 bits", f"{low}..{high}", "keep these spikes as they are")
    if not dense(s):
        raise bad_value("pack_spikes", "the elements must fill their memory", s.stride(), "call contiguous()")
    s = s.detach()
    single = isinstance(factor, float) or factor.numel() == 1
    if single and s.dtype == torch.float32 and s.device.type == "cpu" and _library() is not None:
        value = float(factor)
        codes = torch.empty((s.numel() * bits + 7) // 8, dtype=torch.uint8, device="cpu")
        wrong = _call("bitspike_pack", s, codes, bits, low, value)
        return None if wrong else PackedSpikes(codes, bits, low, value, s.dtype, s.size(), s.stride())
    codes = (s.to(_wide(s.dtype)) / factor).round_().sub_(low).clamp_(0, 255).nan_to_num_(0.0).to(torch.uint8)
    kept = factor.detach() if isinstance(factor, Tensor) else factor
    packed = PackedSpikes(codes, 8, low, kept, s.dtype, s.size(), s.stride())
    back = unpack_spikes(packed)
    if wait:
        return packed if torch.equal(back, s) else None
    same = (back == s).all().to(_wide(s.dtype))
    return packed._replace(factor=same / same * kept)  # 1, or 0/0


def unpack_spikes(packed: PackedSpikes) -> Tensor:
    """The spikes, with their values, dtype and memory order."""
    if packed.codes.shape == packed.size and packed.codes.stride() == packed.stride and packed.bits == 8:
        return (packed.codes.to(_wide(packed.dtype)) + packed.low).mul_(packed.factor).to(packed.dtype)
    s = buffers.empty((math.prod(packed.size),), packed.dtype).as_strided(packed.size, packed.stride)
    _call("bitspike_unpack", s, packed.codes, packed.bits, packed.low, float(packed.factor))
    return s


def dense(x: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or repetition."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _call(name: str, s: Tensor, codes: Tensor, bits: int, low: int, factor: float) -> int:
    if not s.numel():
        return 0
    numbers = s.numel(), bits, low, torch.get_num_threads(), factor, 1.0 / factor if factor else 0.0  # then all are 0
    return getattr(_library(), name)(_ARGS.pack(s.data_ptr(), codes.data_ptr(), *numbers)) or 0


@cache
def _prepared(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, gives in (("bitspike_pack", ctypes.c_int64), ("bitspike_unpack", None)):
        getattr(library, name).argtypes, getattr(library, name).restype = [ctypes.c_char_p], gives
    return library


def _library() -> ctypes.CDLL | None:
    library = native.library()
    return None if library is None else _prepared(library)
