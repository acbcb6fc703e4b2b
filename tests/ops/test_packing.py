"""Packed spikes come back bit for bit, whatever their alphabet, factor, size and memory order."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from bitspike import native
from bitspike.ops import pack_spikes, packing, stored_bits, unpack_spikes
from bitspike.ops.packing import packed_if_levels

ALPHABETS = [(0, 1), (-1, 1), (0, 3), (-3, 3), (0, 15), (-7, 7), (0, 255), (-127, 127)]
FACTORS = [1.0, 0.25, 0.3, 0.731, -0.4, 1e-6, 700.3]


def spikes(shape: tuple[int, ...], low: int, high: int, factor: float | Tensor, seed: int = 0) -> Tensor:
    """Every level occurs where there is room."""
    k = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))
    flat = k.view(-1)
    some = torch.arange(low, high + 1)[: flat.numel()]
    flat[: some.numel()] = some
    return k.float() * factor


def same(s: Tensor, other: Tensor) -> None:
    assert other.dtype == s.dtype and other.stride() == s.stride()
    kind = torch.int16 if s.dtype == torch.bfloat16 else torch.int32
    assert torch.equal(other.view(kind), s.view(kind))  # the sign of zero too


@pytest.mark.parametrize(("low", "high"), ALPHABETS)
@pytest.mark.parametrize("factor", FACTORS)
def test_round_trip(low: int, high: int, factor: float) -> None:
    for size in (1, 2, 7, 8, 9, 63, 64, 65, 2047, 2048, 2049, 5003):
        s = spikes((size,), low, high, factor)
        packed = pack_spikes(s, low, high, factor)
        assert packed.codes.numel() == (size * packed.bits + 7) // 8 or native.library() is None
        same(s, unpack_spikes(packed))


@pytest.mark.skipif(native.library() is None, reason="no native library")
def test_spikes_that_are_worth_nothing() -> None:
    """A raw amplitude may be 0: its spikes are 0, whatever their levels."""
    s = torch.zeros(5)
    for factor in (0.0, torch.zeros(())):
        assert torch.equal(unpack_spikes(pack_spikes(s, -1, 1, factor)), s)


def test_bits_lie_least_significant_first() -> None:
    k = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0, 0, 1])
    assert pack_spikes(k, 0, 1, 1.0).codes.tolist() == [0b00011001, 0b10]
    k = torch.tensor([1.0, -1, 0, 1, -1])
    assert pack_spikes(k, -1, 1, 1.0).codes.tolist() == [0b10_01_00_10, 0b00]
    assert pack_spikes(torch.tensor([3.0, 9, 15]), 0, 15, 1.0).codes.tolist() == [0x93, 0x0F]


@pytest.mark.skipif(native.library() is None, reason="no native library")
@pytest.mark.parametrize("isa", native.available_isas())
def test_threads_and_instruction_sets_give_the_same_bytes(isa: str) -> None:
    threads = torch.get_num_threads()
    s = spikes((70_001,), -1, 1, 0.3)
    wanted = pack_spikes(s, -1, 1, 0.3).codes
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.isa(isa):
                packed = pack_spikes(s, -1, 1, 0.3)
                assert torch.equal(packed.codes, wanted)
                same(s, unpack_spikes(packed))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("library", [True, False])
def test_layouts_dtypes_and_factors_of_channels(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not library:
        monkeypatch.setattr(packing, "_library", lambda: None)
    channel = torch.tensor([0.3, -0.7, 1.0]).reshape(3, 1, 1)
    for factor in (0.25, 0.3, torch.tensor(0.3), channel):
        s = spikes((2, 5, 3, 7, 3), 0, 3, factor)
        last = s.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 5))
        wide = (s.double(),) if isinstance(factor, float) and factor == 0.25 else ()
        for x in (s, last, s.bfloat16(), last.bfloat16(), *wide):
            for wait in (True, False):
                packed = packed_if_levels(x, 0, 3, factor, wait)
                assert packed is not None
                same(x, unpack_spikes(packed))


def test_nothing_and_too_much() -> None:
    empty = torch.empty(0, 3)
    assert unpack_spikes(pack_spikes(empty, 0, 1, 1.0)).shape == (0, 3)
    assert stored_bits(0, 256) == 0
    with pytest.raises(ValueError, match=r"must fill their memory, got \(2,\)"):
        pack_spikes(torch.zeros(6)[::2], 0, 1, 1.0)
    with pytest.raises(ValueError, match=r"must fit into 8 bits, got 0\.\.256"):
        pack_spikes(torch.zeros(3), 0, 256, 1.0)


@pytest.mark.parametrize("isa", [*native.available_isas(), None])
@pytest.mark.parametrize(("low", "high"), ALPHABETS)
@pytest.mark.parametrize("factor", [0.25, 0.3, -0.4])
def test_what_is_no_level_is_not_packed(
    isa: str | None, low: int, high: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN, infinities, values between levels, and levels that the bits cannot hold; wherever they lie."""
    if isa is None:
        monkeypatch.setattr(packing, "_library", lambda: None)
        beyond = (low - 1, low + 256)
    else:
        beyond = (low - 1, low + (1 << stored_bits(low, high)))
    strange = [math.nan, math.inf, -math.inf, (low + 0.3) * factor, *(level * factor for level in beyond), 1e30, -1e30]
    with native.isa(isa) if isa else nullcontext():
        for at in (0, 4, 2100, 40_000, 40_004):
            for value in strange:
                s = spikes((40_005,), low, high, factor)
                found = [packed_if_levels(s, low, high, factor, wait) for wait in (True, False)]
                assert all(packed is not None and torch.equal(unpack_spikes(packed), s) for packed in found)
                s[at] = value
                assert packed_if_levels(s, low, high, factor) is None
                unseen = packed_if_levels(s, low, high, factor, wait=False)
                assert unseen is None if isa else unpack_spikes(unseen).isnan().all()  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"the factor times a level -?\d+\.\.\d+, got another value or NaN"):
            pack_spikes(s, low, high, factor)
