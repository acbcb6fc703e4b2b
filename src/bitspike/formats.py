"""What a spike may be and what a weight may be: two plain records, and their packing into bytes.

Everything that folds, counts, compiles or exports a network reads these records and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bitspike.checks import bad_type, bad_value, in_range, integer, one_of, positive

_LEAST_LEVEL, _GREATEST_LEVEL = -(2**15), 2**16 - 1


@dataclass(frozen=True)
class SpikeFormat:
    """Which values a spike may have, and how many bits it takes.

    Alphabet of a spike: ``s = amplitude * 2**-fraction_bits * k`` with integer ``low <= k <= high``, or real.

    With a slope there are two amplitudes: a negative level is worth ``slope`` times a positive one.

    Source: ternary {-1, 0, 1}·a: Ternary Spike (AAAI 2024), eq. 8 and 14; fixed point: multi-bit mechanism
    (arXiv 2407.05739), alphabet 2^-n·{0..2^(m+n)-1}; real values >= threshold: ReverB (ICML 2025).

    Args:
        low: least integer level.
        high: greatest integer level.
        fraction_bits: n >= 0; one level is worth 2^-n.
        amplitude: who scales the levels: "none" (1), "layer" (one factor) or "channel" (one per channel).
        real: the spike is a real number >= threshold or 0; low and high are then not used.
        unary: binary sub-steps that one step may be expanded into (0: the format is sent as it is).
        slope: value of a negative level over that of a positive one, in (0, 1]; 1 where no level is negative.

    >>> SpikeFormat(0, 3, fraction_bits=1).bits
    2
    >>> SpikeFormat(-1, 1).bits, round(SpikeFormat(-1, 1).information_bits, 3)
    (2, 1.585)
    """

    low: int = 0
    high: int = 1
    fraction_bits: int = 0
    amplitude: str = "none"
    real: bool = False
    unary: int = 0
    slope: float = 1.0

    def __post_init__(self) -> None:
        where = "SpikeFormat"
        integer(where, "low", self.low, _LEAST_LEVEL, 0)
        integer(where, "high", self.high, 1, _GREATEST_LEVEL)
        integer(where, "fraction_bits", self.fraction_bits, 0, 16)
        integer(where, "unary", self.unary, 0, _GREATEST_LEVEL)
        one_of(where, "amplitude", self.amplitude, ("none", "layer", "channel"))
        positive(where, "slope", self.slope)
        if self.slope > 1 or (self.slope != 1 and not self.signed):
            must = "the slope must lie in (0, 1], and be 1 where no level is negative"
            raise bad_value(where, must, f"{self.slope:g} for {self.low}..{self.high}", "take a signed format")

    @property
    def levels(self) -> int:
        """Number of values one spike can take (0 for a real spike)."""
        return 0 if self.real else self.high - self.low + 1

    @property
    def bits(self) -> int:
        """Bits stored per neuron and step: ceil(log2 levels); 32 for a real spike."""
        return 32 if self.real else (self.levels - 1).bit_length()

    @property
    def information_bits(self) -> float:
        """Upper bound on the information of one spike, log2(levels), in bits; 32 for a real spike."""
        return 32.0 if self.real else math.log2(self.levels)

    @property
    def signed(self) -> bool:
        """Whether a spike may be negative."""
        return not self.real and self.low < 0

    @property
    def adds(self) -> bool:
        """Whether a synapse only adds or subtracts its weight (binary and ternary spikes with one amplitude)."""
        return not self.real and max(-self.low, self.high) == 1 and self.slope == 1

    def unit(self) -> SpikeFormat:
        """The same alphabet as plain integers: no amplitude, no fractional bits; a slope stays."""
        return replace(self, amplitude="none", fraction_bits=0)

    def summed(self, count: int) -> SpikeFormat | None:
        """The alphabet of a sum of so many spikes; None where that is no format.

        Real spikes and too many levels have none. Of two amplitudes the sums count in the lesser one, of which the
        greater one must be a power of two times as much: their unit is ``slope`` times that of the spikes.

        >>> SpikeFormat(-1, 2).summed(4), SpikeFormat(0, 255).summed(300)
        (SpikeFormat(low=-4, high=8, fraction_bits=0, amplitude='none', real=False, unary=0, slope=1.0), None)
        >>> SpikeFormat(-1, 1, slope=0.25).summed(2).label(), SpikeFormat(-1, 1, slope=0.3).summed(2)
        ('{-2..8}', None)
        """
        up = self.ratio if count > 1 else 1
        low, high = self.low * count, self.high * count * up
        if self.real or not up or low < _LEAST_LEVEL or high > _GREATEST_LEVEL:
            return None
        return replace(self, low=low, high=high, unary=self.unary * count, slope=self.slope if count == 1 else 1.0)

    @property
    def ratio(self) -> int:
        """The greater of two amplitudes over the lesser one where that is a power of two, else 0; 1 of one amplitude.

        >>> SpikeFormat(-1, 1, slope=0.25).ratio, SpikeFormat(-1, 1, slope=0.3).ratio, SpikeFormat().ratio
        (4, 0, 1)
        """
        if self.slope == 1:
            return 1
        return round(1 / self.slope) if math.frexp(self.slope)[0] == 0.5 and self.slope >= 2**-16 else 0

    def sloped(self, slope: float) -> SpikeFormat:
        """The same alphabet with that value of negative levels."""
        return replace(self, slope=slope)

    def label(self) -> str:
        """A short name for tables.

        >>> SpikeFormat().label(), SpikeFormat(-1, 1, amplitude="layer").label(), SpikeFormat(real=True).label()
        ('{0,1}', '{-1,0,1}·a', 'real')
        """
        if self.real:
            return "real"
        body = (
            ",".join(str(k) for k in range(self.low, self.high + 1)) if self.levels <= 3 else f"{self.low}..{self.high}"
        )
        fraction = f"·2^-{self.fraction_bits}" if self.fraction_bits else ""
        below = f"·({self.slope:g} below 0)" if self.slope != 1 else ""
        return "{" + body + "}" + fraction + ("·a" if self.amplitude != "none" else "") + below


def formats_over_time(records: SpikeFormat | Sequence[SpikeFormat], steps: int) -> tuple[SpikeFormat, ...]:
    """One format per time step; the last record given stands for all later steps.

    >>> [f.bits for f in formats_over_time(SpikeFormat(0, 3), 3)]
    [2, 2, 2]
    >>> [f.bits for f in formats_over_time((SpikeFormat(0, 3), SpikeFormat()), 3)]
    [2, 1, 1]
    """
    given = (records,) if isinstance(records, SpikeFormat) else tuple(records)
    return given[:steps] + given[-1:] * (steps - len(given))


def added(records: Sequence[SpikeFormat], counts: Sequence[int]) -> SpikeFormat | None:
    """The alphabet of ``Σ count·k`` over one level k of each record; None where that is no format.

    >>> added([SpikeFormat(), SpikeFormat(-1, 1)], [1, 2]).label()
    '{-2..3}'
    """
    parts = [record.summed(count) for record, count in zip(records, counts, strict=True)]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts) or (len(parts) > 1 and any(record.slope != 1 for record in records)):
        return None
    low, high = sum(part.low for part in whole), sum(part.high for part in whole)
    if low < _LEAST_LEVEL or high > _GREATEST_LEVEL:
        return None
    unary = sum(part.unary for part in whole) if all(part.unary for part in whole) else 0
    return replace(whole[0], low=low, high=high, unary=unary, amplitude=_sharing(whole))


def multiplied(a: SpikeFormat, b: SpikeFormat, count: int = 1) -> SpikeFormat | None:
    """The alphabet of a sum of so many products of a level of each; None where that is no format.

    Real spikes and too many levels have none, nor have two amplitudes (a slope) by levels of both signs, or summed up.

    >>> multiplied(SpikeFormat(-1, 1), SpikeFormat(0, 3), 2).label(), multiplied(SpikeFormat(), SpikeFormat(real=True))
    ('{-6..6}', None)
    """
    bent = [(one, other) for one, other in ((a, b), (b, a)) if one.slope != 1]
    if a.real or b.real or any(other.signed for _, other in bent) or (bent and count > 1):
        return None
    ends = [count * x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    fraction_bits = a.fraction_bits + b.fraction_bits
    if min(ends) < _LEAST_LEVEL or max(ends) > _GREATEST_LEVEL or fraction_bits > 16:
        return None
    slope = bent[0][0].slope if bent else 1.0
    return SpikeFormat(min(ends), max(ends), fraction_bits, _sharing((a, b)), slope=slope)


def squared(record: SpikeFormat) -> SpikeFormat | None:
    """The alphabet of the square of a level; None where that is no format (real, two amplitudes, too many levels).

    >>> squared(SpikeFormat(-3, 2)).label(), squared(SpikeFormat(-1, 1, slope=0.5))
    ('{0..9}', None)
    """
    high = max(-record.low, record.high) ** 2
    if record.real or record.slope != 1 or high > _GREATEST_LEVEL or 2 * record.fraction_bits > 16:
        return None
    return SpikeFormat(0, high, 2 * record.fraction_bits, record.amplitude)


def multiplied_over_time(
    a: Sequence[SpikeFormat], b: Sequence[SpikeFormat], count: int = 1, alike: bool = False
) -> tuple[SpikeFormat, ...]:
    """`multiplied` at every step of two trains (`squared` where they are one, ``alike``); real at all steps where that
    is no format at one.

    >>> [record.label() for record in multiplied_over_time([SpikeFormat(0, 3), SpikeFormat()], [SpikeFormat(-1, 1)])]
    ['{-3..3}', '{-1,0,1}']
    """
    steps = max(len(a), len(b))
    pairs = zip(formats_over_time(a, steps), formats_over_time(b, steps), strict=True)
    found = [squared(x) if alike else multiplied(x, y, count) for x, y in pairs]
    whole = tuple(record for record in found if record is not None)
    return whole if len(whole) == steps else (SpikeFormat(real=True),) * steps


def union(records: Sequence[SpikeFormat]) -> SpikeFormat | None:
    """The least alphabet that holds those of all records; None where real and integer ones, or slopes, are mixed.

    >>> union([SpikeFormat(), SpikeFormat(-1, 1)]).label()
    '{-1,0,1}'
    """
    first = records[0]
    if any(record.real != first.real or record.slope != first.slope for record in records):
        return None
    unary = max(record.unary for record in records) if all(record.unary for record in records) else 0
    low, high = min(record.low for record in records), max(record.high for record in records)
    return replace(first, low=low, high=high, unary=unary, amplitude=_sharing(records))


def _sharing(records: Sequence[SpikeFormat]) -> str:
    return max((record.amplitude for record in records), key=("none", "layer", "channel").index)


@dataclass(frozen=True)
class WeightFormat:
    """Which values a weight may have, and how many bits it takes.

    Alphabet of a weight: ``w = scale * k`` with integer k on a grid, or real.

    The grid is ``{low, low + stride, ..., high}``, or, with power spacing, 0 and ± the powers of two from low to high.

    Args:
        low: least integer; with power spacing 0 or minus a power of two.
        high: greatest integer; with power spacing a power of two.
        stride: distance of neighbouring integers, with power spacing of those around 0: 1 with the level 0, 2 without.
        scale: sharing of the scale: "none" (1), "layer", "output" channel or "input" channel.
        real: 32-bit floating point; the other fields are then not used.
        spacing: "uniform" or "power".

    >>> WeightFormat(-1, 1, stride=2).bits, WeightFormat(-7, 7).bits, WeightFormat(real=True).bits
    (1, 4, 32)
    >>> WeightFormat(-4, 4, spacing="power").grid(), WeightFormat(-4, 4, stride=2, spacing="power").bits
    ((-4, -2, -1, 0, 1, 2, 4), 3)
    """

    low: int = -1
    high: int = 1
    stride: int = 1
    scale: str = "none"
    real: bool = False
    spacing: str = "uniform"

    def __post_init__(self) -> None:
        where = "WeightFormat"
        integer(where, "low", self.low, -(2**15), 0)
        integer(where, "high", self.high, 1, 2**15)
        integer(where, "stride", self.stride, 1, 2)
        one_of(where, "spacing", self.spacing, ("uniform", "power"))
        if self.spacing == "power" and not (_power(self.low) and _power(self.high)):
            must = "with power spacing high must be a power of two, and low 0 or minus one"
            raise bad_value(where, must, f"{self.low}..{self.high}", "choose -4 and 4, for example")
        if self.spacing == "uniform" and (self.high - self.low) % self.stride:
            raise bad_value(where, "stride must divide high - low", self, "choose stride 1")
        if self.spacing == "power" and self.stride == 2 and not self.low:
            raise bad_value(where, "without the level 0 low must be negative", self, "choose stride 1, or a lower low")
        one_of(where, "scale", self.scale, ("none", "layer", "output", "input"))

    def grid(self) -> Sequence[int]:
        """All integers k, ascending; none where the weights are real."""
        if self.real:
            return ()
        if self.spacing == "uniform":
            return range(self.low, self.high + 1, self.stride)
        below = tuple(-(2**e) for e in reversed(range((-self.low).bit_length())))
        return (*below, *(0,) * (self.stride == 1), *(2**e for e in range(self.high.bit_length())))

    @property
    def levels(self) -> int:
        """Number of values one weight can take (0 for a real weight)."""
        return len(self.grid())

    @property
    def bits(self) -> int:
        """Bits stored per weight: ceil(log2 levels); 32 for a real weight."""
        return 32 if self.real else (self.levels - 1).bit_length()

    @property
    def information_bits(self) -> float:
        """log2(levels) in bits; 32 for a real weight."""
        return 32.0 if self.real else math.log2(self.levels)

    @property
    def adds(self) -> bool:
        """Whether a synapse only adds or subtracts the incoming spike (±1 and ternary weights)."""
        return not self.real and max(-self.low, self.high) == 1

    @property
    def shifts(self) -> bool:
        """Whether a synapse adds or subtracts the incoming spike, shifted: every level is 0 or ± a power of two.

        >>> [WeightFormat(-4, 4, spacing="power").shifts, WeightFormat(-3, 3).shifts, WeightFormat(-2, 2).shifts]
        [True, False, True]
        """
        return not self.real and (self.spacing == "power" or max(-self.low, self.high) <= 2)

    def label(self) -> str:
        """A short name for tables.

        >>> WeightFormat(-1, 1, stride=2, scale="layer").label(), WeightFormat(-7, 7, scale="output").label()
        ('±1·α', '4 bit·α')
        >>> WeightFormat(-64, 64, spacing="power").label(), WeightFormat(-4, 4, stride=2, spacing="power").label()
        ('{0,±2^0..±2^6}', '{±2^0..±2^2}')
        """
        if self.real:
            return "float"
        if (self.low, self.high) == (-1, 1):
            body = "±1" if self.stride == 2 else "{-1,0,1}"
        elif self.spacing == "uniform":
            body = f"{self.bits} bit"
        elif self.low == -self.high:
            body = "{" + "0," * (self.stride == 1) + f"±2^0..±2^{self.high.bit_length() - 1}" + "}"
        else:
            body = "{" + ",".join(str(k) for k in self.grid()) + "}"
        return body + ("·α" if self.scale != "none" else "")


def _power(k: int) -> bool:
    """Whether k is 0 or ± a power of two."""
    return abs(k) & (abs(k) - 1) == 0


def pack(levels: torch.Tensor, record: SpikeFormat | WeightFormat) -> torch.Tensor:
    """Pack integer levels into bytes, ``record.bits`` bits each, least significant bit first.

    The code of a level is its place among the levels of the alphabet, from 0 for the least.

    Args:
        levels: integer tensor of any shape with values of the record's alphabet.
        record: an integer (not real) format.

    Returns:
        uint8 tensor [ceil(numel * bits / 8)]; the shape is the caller's to keep.

    Raises:
        TypeError: the levels are not integers. ValueError: real format, or a level outside the alphabet.

    >>> pack(torch.tensor([1, -1, 1, 1]), WeightFormat(-1, 1, stride=2))
    tensor([13], dtype=torch.uint8)
    """
    grid = _grid(record)
    if levels.is_floating_point() or levels.is_complex() or levels.dtype == torch.bool:
        raise bad_type("pack", "levels must be integers", levels.dtype, "convert them with .to(torch.int64)")
    flat = levels.reshape(-1).to(torch.int64)
    codes, on = _codes(flat, grid)
    if not bool(on.all()):
        got = f"{int(levels.min())}..{int(levels.max())}"
        raise bad_value("pack", f"every level must be on the grid of {record.label()}", got, "quantize first")
    bits = (codes[:, None] >> torch.arange(record.bits, device=codes.device)) & 1
    rows = torch.nn.functional.pad(bits.reshape(-1), (0, -bits.numel() % 8)).reshape(-1, 8)
    return (rows << torch.arange(8, device=rows.device)).sum(1).to(torch.uint8)


def unpack(packed: torch.Tensor, record: SpikeFormat | WeightFormat, shape: tuple[int, ...]) -> torch.Tensor:
    """The inverse of `pack`.

    Args:
        packed: uint8 tensor [ceil(numel * bits / 8)].
        record: the format it was packed with.
        shape: shape of the levels.

    Returns:
        int64 tensor of that shape.

    Raises:
        ValueError: the number of bytes does not fit the shape, or a code is outside the alphabet.

    >>> unpack(torch.tensor([13], dtype=torch.uint8), WeightFormat(-1, 1, stride=2), (4,))
    tensor([ 1, -1,  1,  1])
    """
    grid = _grid(record)
    size = math.prod(shape)
    wanted = -(-size * record.bits // 8)
    if packed.dtype != torch.uint8 or packed.numel() != wanted:
        got = f"{packed.numel()} bytes of {packed.dtype}"
        raise bad_value(
            "unpack", f"{list(shape)} at {record.bits} bits takes {wanted} bytes of uint8", got, "check both"
        )
    place = torch.arange(max(8, record.bits), device=packed.device)
    bits = (packed.to(torch.int64)[:, None] >> place[:8]) & 1
    codes = (bits.reshape(-1)[: size * record.bits].reshape(size, record.bits) << place[: record.bits]).sum(1)
    if size:
        in_range("unpack", "the greatest code", int(codes.max()), 0, len(grid) - 1)
    if isinstance(grid, range):
        return (codes * grid.step + grid.start).reshape(shape)
    return torch.tensor(grid, device=codes.device)[codes].reshape(shape)


def _grid(record: SpikeFormat | WeightFormat) -> Sequence[int]:
    if record.real:
        raise bad_value("pack / unpack", "the format must be an integer grid", "a real format", "keep it as floats")
    return record.grid() if isinstance(record, WeightFormat) else range(record.low, record.high + 1)


def _codes(k: torch.Tensor, grid: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the levels k [N] in an ascending grid, and whether each is on it."""
    if isinstance(grid, range):
        codes = torch.div(k - grid.start, grid.step, rounding_mode="floor")
        return codes, (k >= grid.start) & (k <= grid[-1]) & ((k - grid.start) % grid.step == 0)
    known = torch.tensor(grid, device=k.device)
    codes = torch.searchsorted(known, k).clamp(max=len(grid) - 1)
    return codes, known[codes] == k
