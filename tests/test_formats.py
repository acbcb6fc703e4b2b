"""Records of spikes and weights: bits, labels, refusals; packing is the inverse of unpacking."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.formats import SpikeFormat, WeightFormat, pack, unpack

spike_formats = st.builds(SpikeFormat, st.integers(-40, 0), st.integers(1, 300))
weight_formats = st.one_of(
    st.integers(1, 200).map(lambda q: WeightFormat(-q, q)),
    st.integers(1, 9).map(lambda q: WeightFormat(-q, q, stride=2)),
    st.tuples(st.integers(0, 15), st.integers(1, 2)).map(
        lambda drawn: WeightFormat(-(2 ** drawn[0]), 2 ** drawn[0], stride=drawn[1], spacing="power")
    ),
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(
        lambda ends: WeightFormat(-(2 ** ends[0]) // 2, 2 ** ends[1], spacing="power")
    ),
    st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(lambda ends: WeightFormat(*ends)),
)


def alphabet(record: SpikeFormat | WeightFormat) -> list[int]:
    if getattr(record, "spacing", "uniform") == "power":
        inner = {0} if record.stride == 1 else set()
        powers = {sign * 2**e for sign in (1, -1) for e in range(16)}
        return sorted(k for k in powers | inner if record.low <= k <= record.high)
    return list(range(record.low, record.high + 1, getattr(record, "stride", 1)))


@given(spike_formats | weight_formats)
def test_bits_hold_the_levels_and_no_fewer_would(record: SpikeFormat | WeightFormat) -> None:
    assert record.levels == len(alphabet(record))
    assert 2 ** (record.bits - 1) < record.levels <= 2**record.bits
    assert record.information_bits == pytest.approx(math.log2(len(alphabet(record))))


@given(st.data(), spike_formats | weight_formats, st.lists(st.integers(1, 5), max_size=3))
def test_unpack_is_the_inverse_of_pack(data: st.DataObject, record: Any, shape: list[int]) -> None:
    count = math.prod(shape)
    levels = data.draw(st.lists(st.sampled_from(alphabet(record)), min_size=count, max_size=count))
    k = torch.tensor(levels).reshape(shape)
    packed = pack(k, record)
    assert packed.dtype == torch.uint8
    assert packed.shape == (-(-count * record.bits // 8),)
    assert torch.equal(unpack(packed, record, tuple(shape)), k)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_any_integer_dtype_packs(dtype: torch.dtype) -> None:
    k = torch.tensor([0, 1, 3, 2, 1], dtype=dtype)
    assert unpack(pack(k, SpikeFormat(0, 3)), SpikeFormat(0, 3), (5,)).tolist() == k.tolist()


def test_packing_by_hand() -> None:
    """3-bit codes of −3..3 (level + 3), least significant bit first: 0, 6, 3 → 000 011 110 and padding."""
    assert pack(torch.tensor([-3, 3, 0]), WeightFormat(-3, 3)).tolist() == [0b11110000, 0]
    assert pack(torch.tensor([1, -1, 0]), SpikeFormat(-1, 1)).tolist() == [0b010010]
    power = WeightFormat(-4, 4, spacing="power")  # −4 −2 −1 0 1 2 4 are codes 0 … 6: 6, 0, 4 → 110 000 100
    assert pack(torch.tensor([4, -4, 1]), power).tolist() == [0b00000110, 1]
    assert pack(torch.zeros(0, dtype=torch.int64), power).tolist() == []
    assert pack(torch.zeros(0, dtype=torch.int64), SpikeFormat()).tolist() == []
    assert unpack(torch.zeros(0, dtype=torch.uint8), SpikeFormat(), (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("record", "bits", "label", "adds"),
    [
        (SpikeFormat(), 1, "{0,1}", True),
        (SpikeFormat(-1, 1), 2, "{-1,0,1}", True),
        (SpikeFormat(-1, 1, amplitude="channel"), 2, "{-1,0,1}·a", True),
        (SpikeFormat(0, 3, fraction_bits=1), 2, "{0..3}·2^-1", False),
        (SpikeFormat(0, 4, unary=4), 3, "{0..4}", False),
        (SpikeFormat(real=True), 32, "real", False),
        (WeightFormat(-1, 1, stride=2), 1, "±1", True),
        (WeightFormat(-1, 1, scale="input"), 2, "{-1,0,1}·α", True),
        (WeightFormat(-7, 7, scale="output"), 4, "4 bit·α", False),
        (WeightFormat(real=True), 32, "float", False),
        (WeightFormat(0, 2), 2, "2 bit", False),
        (WeightFormat(-64, 64, scale="layer", spacing="power"), 4, "{0,±2^0..±2^6}·α", False),
        (WeightFormat(-8, 8, stride=2, spacing="power"), 3, "{±2^0..±2^3}", False),
        (WeightFormat(-2, 8, spacing="power"), 3, "{-2,-1,0,1,2,4,8}", False),
        (WeightFormat(-1, 1, spacing="power"), 2, "{-1,0,1}", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_formats_of_the_papers(record: SpikeFormat | WeightFormat, bits: int, label: str, adds: bool) -> None:
    assert (record.bits, record.label(), record.adds) == (bits, label, adds)


def test_a_ternary_spike_stores_two_bits_and_tells_less() -> None:
    assert SpikeFormat(-1, 1).bits == 2
    assert SpikeFormat(-1, 1).information_bits == pytest.approx(1.585, abs=1e-3)
    assert SpikeFormat(-1, 1).signed and not SpikeFormat().signed and not SpikeFormat(-1, 1, real=True).signed
    assert SpikeFormat(real=True).levels == WeightFormat(real=True).levels == 0
    assert SpikeFormat(real=True).information_bits == 32.0


def test_the_unit_format_has_bare_levels() -> None:
    assert SpikeFormat(-1, 3, 2, "channel", unary=3).unit() == SpikeFormat(-1, 3, unary=3)


def test_records_are_values() -> None:
    assert SpikeFormat(0, 3) == SpikeFormat(0, 3) and len({WeightFormat(), WeightFormat()}) == 1
    with pytest.raises(FrozenInstanceError):
        SpikeFormat().high = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "where", "words"),
    [
        (lambda: SpikeFormat(1, 2), "SpikeFormat", ["low"]),
        (lambda: SpikeFormat(0, 0), "SpikeFormat", ["high"]),
        (lambda: SpikeFormat(fraction_bits=17), "SpikeFormat", ["fraction_bits"]),
        (lambda: SpikeFormat(unary=-1), "SpikeFormat", ["unary"]),
        (lambda: SpikeFormat(amplitude="chanel"), "SpikeFormat", ["did you mean 'channel'?"]),
        (lambda: WeightFormat(-1, 0), "WeightFormat", ["high"]),
        (lambda: WeightFormat(-1, 1, stride=3), "WeightFormat", ["stride"]),
        (lambda: WeightFormat(-1, 2, stride=2), "WeightFormat", ["stride must divide"]),
        (lambda: WeightFormat(-3, 4, spacing="power"), "WeightFormat", ["power of two", "-3..4"]),
        (lambda: WeightFormat(-4, 6, spacing="power"), "WeightFormat", ["power of two", "-4..6"]),
        (lambda: WeightFormat(0, 4, stride=2, spacing="power"), "WeightFormat", ["low must be negative"]),
        (lambda: WeightFormat(spacing="powers"), "WeightFormat", ["did you mean 'power'?"]),
        (lambda: pack(torch.tensor([3]), WeightFormat(-4, 4, spacing="power")), "pack", ["{0,±2^0..±2^2}", "3..3"]),
        (lambda: pack(torch.tensor([8]), WeightFormat(-4, 4, spacing="power")), "pack", ["8..8"]),
        (lambda: pack(torch.tensor([-8]), WeightFormat(-4, 4, spacing="power")), "pack", ["-8..-8"]),
        (
            lambda: unpack(torch.tensor([7], dtype=torch.uint8), WeightFormat(-4, 4, spacing="power"), (1,)),
            "unpack",
            ["[0, 6]", "got 7"],
        ),
        (lambda: WeightFormat(scale="channel"), "WeightFormat", ["scale"]),
        (lambda: pack(torch.tensor([2]), SpikeFormat()), "pack", ["{0,1}", "got 2..2"]),
        (lambda: pack(torch.tensor([-1]), SpikeFormat()), "pack", ["{0,1}"]),
        (lambda: pack(torch.tensor([0]), WeightFormat(-1, 1, stride=2)), "pack", ["±1"]),
        (lambda: pack(torch.tensor([1]), SpikeFormat(real=True)), "pack / unpack", ["real"]),
        (lambda: unpack(torch.zeros(1, dtype=torch.uint8), SpikeFormat(), (9,)), "unpack", ["2 bytes", "1 bytes"]),
        (lambda: unpack(torch.zeros(2, dtype=torch.uint8), SpikeFormat(), (8,)), "unpack", ["1 bytes", "2 bytes"]),
        (lambda: unpack(torch.zeros(1, dtype=torch.int64), SpikeFormat(), (8,)), "unpack", ["uint8", "int64"]),
        (lambda: unpack(torch.tensor([3], dtype=torch.uint8), SpikeFormat(-1, 1), (1,)), "unpack", ["[0, 2]", "got 3"]),
    ],
)
def test_bad_values(make: Callable[[], object], where: str, words: list[str], refuses: Any) -> None:
    with refuses(where, *words):
        make()


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: SpikeFormat(0, 1.0), "SpikeFormat"),  # type: ignore[arg-type]
        (lambda: WeightFormat(-1, True), "WeightFormat"),
        (lambda: pack(torch.tensor([1.0]), SpikeFormat()), "pack"),
        (lambda: pack(torch.tensor([True]), SpikeFormat()), "pack"),
    ],
)
def test_bad_types(make: Callable[[], object], where: str, refuses: Any) -> None:
    with refuses(where, kind=TypeError):
        make()
