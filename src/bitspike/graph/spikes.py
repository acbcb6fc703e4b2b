"""What an edge that is made of spikes carries: alphabets, the value of a level, and the trains it is made of.

One rule for every pass: folding, counting, forecasting, streaming and lowering all ask `follow`. Pools of averages,
sums and concatenations of spikes are spikes: whole numbers with an alphabet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from bitspike.formats import SpikeFormat, added, formats_over_time, multiplied_over_time, union
from bitspike.graph.meeting import meeting, train_of
from bitspike.graph.moves import axis_of, joined, kind_of, summands, taken, whole_in
from bitspike.layers import (
    Encoder,
    Gain,
    Join,
    MeanReadout,
    PairProduct,
    Product,
    Squeeze,
    TimeLayer,
    Windows,
)
from bitspike.neurons import Neuron

Formats = tuple[SpikeFormat, ...]
_ONE = torch.ones((), dtype=torch.float64)
_REAL = SpikeFormat(real=True)


@dataclass(frozen=True)
class Form:
    """One alphabet as ``Σ count·k`` over the levels k of trains, step by step.

    Attributes:
        terms: (name of the node that sends the train, count). real: the values are no such sums, only their steps are
            known. steps: where it is not 0, the form has so many steps, all alike.
    """

    terms: tuple[tuple[str, int], ...]
    real: bool = False
    steps: int = 0

    def formats(self, trains: Mapping[str, Sequence[SpikeFormat]]) -> Formats:
        """Alphabet at every step, given the alphabets of every train at its steps; real where there is no format."""
        steps = max(len(trains[name]) for name, _ in self.terms)
        found = []
        for t in range(steps):
            active = [(trains[name][t], count) for name, count in self.terms if t < len(trains[name])]
            total = None if self.real else added([record for record, _ in active], [count for _, count in active])
            lone = active[0][0] if len(active) == 1 else None
            found.append(total or (lone if lone is not None and lone.real else _REAL))
        if not self.steps:
            return tuple(found)
        return (union(found) or _REAL,) * self.steps

    def bits(self, trains: Mapping[str, Sequence[SpikeFormat]], t: int) -> int:
        """Bits of `formats` at a step of the trains, by plain arithmetic, which compiled code can do."""
        active = [(trains[name][t], count) for name, count in self.terms if t < len(trains[name])]
        several = sum(count for _, count in active) > 1
        low = sum(record.low * count for record, count in active)
        high = sum(record.high * count for record, count in active)
        bent = several and any(record.slope != 1 for record, _ in active)
        if bent and len(active) == 1:
            high, bent = high * active[0][0].ratio, not active[0][0].ratio
        if self.real or bent or low < -(2**15) or high >= 2**16 or any(record.real for record, _ in active):
            return 32
        return (high - low).bit_length()

    def times(self, count: int) -> Form:
        """The form of sums of so many values."""
        return replace(self, terms=tuple((name, own * count) for name, own in self.terms))


@dataclass(frozen=True)
class Spikes:
    """What an edge carries: ``value = scale·k``, k on the alphabets of its part; and the trains behind it.

    Attributes:
        parts: one per alphabet: its `Form` (of the steps of trains, whatever a `Squeeze` adds up) and the formats of k
            at each step (the last one for later steps), None where the values are real.
        channels: [C], which part a channel belongs to; None where there is one part.
        scale: value of one level, as of an emission: [], [C], [steps, 1] or [steps, C].
        unit: the same of a spike of the trains, without the divisors of sums over time.
        last: scale and unit are those of the last axis of [T, B, ..., C]; what follows is known as real values.
    """

    parts: tuple[tuple[Form, Formats | None], ...]
    channels: Tensor | None = None
    scale: Tensor = _ONE
    unit: Tensor = _ONE
    last: bool = False

    @property
    def whole(self) -> bool:
        """Whether all values are spikes with formats (those of real-valued neurons included)."""
        return not self.last and all(formats is not None for _, formats in self.parts)

    @property
    def format(self) -> SpikeFormat | None:
        """The least alphabet that holds all values; None where there is none."""
        records = [record for _, formats in self.parts for record in formats or ()]
        return union(records) if records and self.whole else None

    def trains(self, sent: Mapping[str, Sequence[SpikeFormat]]) -> list[Formats]:
        """Alphabets of every part over the steps of the trains, given those of every train."""
        return [form.formats(sent) for form, _ in self.parts]

    def counts(self, values: int) -> list[int]:
        """How many of so many values of a sample and step belong to every part."""
        if self.channels is None:
            return [values]
        size = len(self.channels)
        return [values * int((self.channels == part).sum()) // size for part in range(len(self.parts))]

    def _real(self) -> Spikes:
        """The same trains through a linear map that is not known: real values at all steps."""
        forms = {replace(form, terms=tuple((n, 1) for n, _ in form.terms), real=True) for form, _ in self.parts}
        names = sorted({term for form in forms for term in form.terms})
        return Spikes(((Form(tuple(names), True), None),))

    def _blurred(self) -> Spikes:
        """The same trains, real values."""
        return replace(self, parts=tuple((form, None) for form, _ in self.parts), scale=_ONE)

    def _axes_lost(self) -> Spikes:
        """Real values where factors belong to the last axis: no layer carries them."""
        return replace(self._blurred(), unit=_ONE, last=False) if self.last else self

    def _summed(self, count: int, divisor: float, over_time: bool = False) -> Spikes:
        """Sums of so many values that are divided by a number; sums over the steps of a train leave that as it is."""
        parts = []
        for form, formats in self.parts:
            sums = None if formats is None else [record.summed(count) for record in formats]
            kept = None if sums is None or None in sums else tuple(r for r in sums if r is not None)
            parts.append((form if over_time else form.times(count), _scaled(kept, divisor)))
        unit = self.unit if over_time else self.unit / divisor
        slopes = {record.slope for _, formats in self.parts for record in formats or ()} if count > 1 else {1.0}
        if slopes - {1.0}:  # the sums count in the lesser amplitude
            if len(slopes) > 1:
                return self._blurred()
            divisor /= min(slopes)
        return replace(self, parts=tuple(parts), scale=self.scale / divisor, unit=unit)

    def _over_time(self, steps: int, divisor: float) -> Spikes:
        """The sum of so many steps."""
        if self.scale.dim() > 1 or not steps:
            return self._blurred()
        parts = []
        for form, formats in self.parts:
            records = None if formats is None else formats_over_time(formats, steps)
            total = None if records is None else added(records, [1] * steps)
            parts.append((form, _scaled(None if total is None else (total,), divisor)))
        return replace(self, parts=tuple(parts), scale=self.scale / divisor)


def _scaled(formats: Formats | None, divisor: float) -> Formats | None:
    """Formats of means: a level is worth something."""
    if formats is None or divisor == 1:
        return formats
    return tuple(replace(f, amplitude="layer") if f.amplitude == "none" else f for f in formats)


def carried(module: TimeLayer, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A factor [], [C], [steps, 1] or [steps, C] on the input of a layer, [T, B, C, ...], as one on its output."""
    if factor.dim() < 2 or factor.shape[1] == 1:
        return module.carry(factor, shape) if factor.dim() < 2 else factor
    return torch.stack([module.carry(row, shape) for row in factor])


def follow(
    item: fx.Node,
    module: nn.Module | None,
    known: Mapping[str, Spikes | None],
    shapes: Mapping[str, tuple[int, ...]],
    steps: Mapping[str, int],
) -> Spikes | None:
    """What the output of a node carries; None where it is not made of spikes, or shapes must be known and are not.

    Args:
        item: the node. module: what it calls. known: what the nodes before carry. shapes: of the nodes before and of
            the node, [T, B, C, ...]; those that are known. steps: time steps of the nodes before; 0 where unknown.
    """
    if isinstance(module, Neuron):
        formats = tuple(getattr(module, "formats", (module.format,)))
        scale, axes = module.emission.scale(), len(shapes.get(item.name, range(4)))
        last = module.emission.channel_dim == -1 and scale.dim() > 0 and axes > 3
        return Spikes(((Form(((item.name, 1),)), formats),), None, scale, scale, last)
    if isinstance(module, Encoder):
        return None if module.format is None else Spikes(((Form(((item.name, 1),)), (module.format,)),))
    if any(spikes is not None and spikes.last for spikes in known.values()):
        known = {name: spikes._axes_lost() if spikes else None for name, spikes in known.items()}
    kind = "add" if isinstance(module, TimeLayer) and module.scaling == "add" else kind_of(item)
    if isinstance(module, PairProduct):
        return _multiplied(item, module, known, shapes)
    if kind == "add":
        return _sum(module, [(known.get(n.name), steps.get(n.name, 0)) for n in summands(item)], shapes.get(item.name))
    if kind == "concat":
        return _side_by_side([(known.get(n.name), shapes.get(n.name)) for n in joined(item)], item)
    if kind == "select" and module is None:
        source = whole_in(item).name
        spikes, shape = known.get(source), shapes.get(source)
        index = None if spikes is None or shape is None else taken(item, shape)
        return None if spikes is None or index is None else _picked(spikes, index)
    linear = isinstance(module, TimeLayer) and module.scaling == "linear"  # of others it reads the sizes alone
    if module is None or not item.all_input_nodes or (len(item.all_input_nodes) > 1 and not linear):
        return None
    source = item.all_input_nodes[0].name
    spikes = known.get(source)
    if spikes is None:
        return None
    if isinstance(module, (nn.Identity, nn.Dropout)):
        return spikes
    through = isinstance(module, TimeLayer) and module.scaling in ("linear", "positive")
    if not through or not isinstance(module, TimeLayer) or isinstance(module, MeanReadout):
        return None
    return _layer(module, spikes, shapes.get(source), shapes.get(item.name), steps.get(source, 0))


def _layer(
    module: TimeLayer,
    spikes: Spikes,
    shape: tuple[int, ...] | None,
    out: tuple[int, ...] | None,
    steps: int,
) -> Spikes | None:
    """What a linear or max-like layer makes of spikes."""
    if isinstance(module, Gain):
        return _gained(module, spikes)
    if (pooled := module.pooled(shape)) is not None:
        return spikes._summed(*pooled) if pooled[0] else None
    if isinstance(module, Squeeze):
        if module.passes(steps):
            return spikes
        if steps and steps == module.T and not module.always:
            return spikes._summed(1, 1 / module.summed_steps, True)
        return _squeezed(spikes, steps, float(module.divisor(steps)) if module.summed and steps else steps)
    if isinstance(module, Windows):
        frames = module.frames or steps
        return _windowed(module, spikes, frames) if frames else None
    if module.keeps_format:
        return _moved(module, spikes, shape, out)
    if shape and out and shape[1:] == out[1:] and shape[0] != out[0]:
        return spikes._blurred()  # a sum, mean or hold over time
    return spikes._real()


def _gained(gain: Gain, spikes: Spikes) -> Spikes:
    """Shifted to the left, integers stay integers; any other factor makes real values of them, of the same trains."""
    parts = []
    if gain.channel_dim == -1 and gain.factor.dim():
        return replace(spikes._blurred(), unit=_ONE)
    for form, formats in spikes.parts:
        shifted = [gain.format_of(record) for record in formats or ()]
        parts.append((form, tuple(r for r in shifted if r is not None) if shifted and None not in shifted else None))
    whole = all(formats is not None for _, formats in parts)
    return replace(
        spikes,
        parts=tuple((form, formats if whole else None) for form, formats in parts),
        scale=spikes.scale if whole else _ONE,
        unit=spikes.unit * gain.factor.detach().double().cpu(),
    )


def _squeezed(spikes: Spikes, steps: int, divisor: float) -> Spikes:
    return spikes if steps == divisor == 1 else spikes._over_time(steps, divisor)


def _windowed(windows: Windows, spikes: Spikes, frames: int) -> Spikes:
    count, factor = windows.divisor(frames), windows.factor(frames)
    widest = tuple((form, None if f is None else _widest(f)) for form, f in spikes.parts)
    if spikes.scale.dim() > 1 and frames != windows.T:
        return spikes._blurred()
    if frames == windows.T:
        return spikes if factor == 1 else spikes._summed(1, 1 / factor)
    sums = replace(spikes, parts=widest)._summed(count, 1 / factor if windows.summed else count)
    return replace(sums, parts=tuple((replace(form, steps=windows.T), f) for form, f in sums.parts))


def _widest(formats: Formats) -> Formats | None:
    record = union(formats)
    return None if record is None else (record,)


def _moved(
    module: TimeLayer, spikes: Spikes, shape: tuple[int, ...] | None, out: tuple[int, ...] | None
) -> Spikes | None:
    """What a layer that keeps spikes makes of the factors and parts of channels."""
    per_channel = any(f.dim() and f.shape[-1] > 1 for f in (spikes.scale, spikes.unit))
    if spikes.channels is None and not per_channel:
        return spikes
    if shape is None:
        return None
    if module.mixes(shape):
        return spikes._real()
    channels = spikes.channels
    if channels is not None:  # what is padded belongs to no part: -1 becomes the first one
        channels = (module.carry((channels + 2).double(), shape) - 2).clamp(min=0).long()
    scale, unit = carried(module, spikes.scale, shape), carried(module, spikes.unit, shape)
    sizes = {f.shape[-1] for f in (scale, unit, channels) if f is not None and f.dim()} - {1}
    if out is not None and sizes - {out[2] if len(out) > 2 else 1}:
        return None
    return Spikes(spikes.parts, channels, scale, unit)


def _sum(
    module: nn.Module | None, branches: Sequence[tuple[Spikes | None, int]], shape: tuple[int, ...] | None
) -> Spikes | None:
    """The sum of branches with so many steps."""
    spikes = [one for one, _ in branches if one is not None]
    if not spikes or len(spikes) < len(branches):
        return None
    counts = [count for _, count in branches]
    if isinstance(module, Join) and len(set(counts)) > 1:
        if module.keep_time or not all(counts):
            return None
        spikes = [_squeezed(one, count, count) for one, count in zip(spikes, counts, strict=True)]
    sizes = {len(one.channels) for one in spikes if one.channels is not None}
    if len(sizes) > 1 or (sizes and shape is not None and sizes != {shape[2]}):
        return None  # one broadcasts over the channels of the other
    if torch.get_default_device().type == "meta":
        return None  # nothing is known of values
    units, scales = ratios([one.unit for one in spikes]), ratios([one.scale for one in spikes])
    met = meeting([one.channels for one in spikes])
    assert met is not None
    rows, index = met
    parts = [_added([one.parts[k] for one, k in zip(spikes, row, strict=True)], units, scales) for row in rows]
    whole = all(formats is not None for _, formats in parts)
    least = min(spikes, key=lambda one: float(one.scale.abs().mean()))
    return _merged(
        [(form, formats if whole else None) for form, formats in parts],
        index,
        least.scale if whole else _ONE,
        min((one.unit for one in spikes), key=lambda unit: float(unit.abs().mean())),
    )


def _multiplied(
    item: fx.Node, module: PairProduct, known: Mapping[str, Spikes | None], shapes: Mapping[str, tuple[int, ...]]
) -> Spikes | None:
    """A product of two kinds of spikes: a train of its own for all parts that meet, of integers where both alphabets
    and their product are."""
    names = [str(n) for n in item.args if isinstance(n, fx.Node)]
    spikes = [one for one in (known.get(name) for name in names) if one is not None]
    if len(names) < 2 or len(spikes) < 2:
        return None
    count = module.summands(*(shapes.get(name) for name in names))
    a, b = spikes
    whole, met = all(one.whole for one in spikes), meeting([one.channels for one in spikes])
    over = [one.scale for one in spikes if one.scale.dim() > 1]
    if not whole or met is None or not count or len({len(scale) for scale in over}) > 1:
        return None
    alike = names[0] == names[1] and isinstance(module, Product)
    parts = []
    for k, (p, q) in enumerate(met[0]):
        formats = multiplied_over_time(a.parts[p][1] or (), b.parts[q][1] or (), count, alike)
        parts.append((Form(((train_of(item.name, k), 1),)), formats))
    scale, unit = (x.reshape(()) if x.shape == (1,) else x for x in (a.scale * b.scale, a.unit * b.unit))
    return Spikes(tuple(parts), met[1], scale, unit)


def _added(
    parts: Sequence[tuple[Form, Formats | None]], units: list[int] | None, scales: list[int] | None
) -> tuple[Form, Formats | None]:
    """A part of a sum: ratios of the trains and of the values are whole numbers, or None."""
    forms = [form for form, _ in parts]
    real = units is None or any(form.real for form in forms) or len({form.steps for form in forms}) > 1
    terms: dict[str, int] = {}
    for form, ratio in zip(forms, units or [1] * len(forms), strict=True):
        for name, count in form.terms:
            terms[name] = terms.get(name, 0) + count * ratio
    steps = forms[0].steps if len({form.steps for form in forms}) == 1 else 0
    form = Form(tuple(terms.items()), real, steps)
    given = [formats for _, formats in parts if formats is not None]
    if scales is None or len(given) < len(parts):
        return form, None
    length = max(len(formats) for formats in given)
    over = [formats_over_time(formats, length) for formats in given]
    sums = [added([formats[t] for formats in over], scales) for t in range(length)]
    whole = tuple(record for record in sums if record is not None and not record.real)
    return form, whole if len(whole) == length else None


def ratios(factors: Sequence[Tensor]) -> list[int] | None:
    """Whole numbers that factors are of the least among them, at every channel and step; None where they are not."""
    if any(factor.is_meta for factor in factors):
        return None  # nothing is known of their values
    least = min(factors, key=lambda factor: float(factor.abs().mean()))
    found = []
    for factor in factors:
        try:
            ratio = factor / least
        except RuntimeError:
            return None
        nearest = ratio.reshape(-1)[0].round()
        if not (nearest >= 1 and ((ratio - nearest).abs() <= 1e-12 * nearest).all()):
            return None
        found.append(int(nearest))
    return found


def _side_by_side(branches: Sequence[tuple[Spikes | None, tuple[int, ...] | None]], item: fx.Node) -> Spikes | None:
    """A concatenation along channels, or along the places of one kind of spikes."""
    spikes = [one for one, _ in branches if one is not None]
    shapes = [shape for _, shape in branches if shape is not None]
    if not spikes or len(spikes) < len(branches) or len(shapes) < len(branches):
        return _alike(spikes) if spikes and len(spikes) == len(branches) else None
    axis = axis_of(item, len(shapes[0]))
    if axis < 2:
        return None
    if axis > 2:
        return _alike(spikes)
    sizes = [shape[2] for shape in shapes]
    parts = [part for one in spikes for part in one.parts]
    index, start = [], 0
    for one, size in zip(spikes, sizes, strict=True):
        own = torch.zeros(size, dtype=torch.int64) if one.channels is None else one.channels
        if len(own) != size:
            return None
        index.append(own + start)
        start += len(one.parts)
    scale, unit = (_row([getattr(one, key) for one in spikes], sizes) for key in ("scale", "unit"))
    return None if scale is None or unit is None else _merged(parts, torch.cat(index), scale, unit)


def _alike(spikes: Sequence[Spikes]) -> Spikes | None:
    """One of several that carry the same kind of spikes, with one alphabet and value; None if they do not."""
    first = spikes[0]
    same = all(
        one.channels is None
        and [formats for _, formats in one.parts] == [formats for _, formats in first.parts]
        and one.scale.shape == first.scale.shape == ()
        and torch.equal(one.scale, first.scale)
        and torch.equal(one.unit, first.unit)
        for one in spikes
    )
    return first if same and len({one.parts for one in spikes}) == 1 else None


def side_by_side(factors: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Factors [] or [C] of branches with so many channels as one of their concatenation."""
    if all(not factor.dim() and factor == factors[0] for factor in factors):
        return factors[0]
    return torch.cat([factor.reshape(-1).expand(size) for factor, size in zip(factors, sizes, strict=True)])


def _row(factors: Sequence[Tensor], sizes: Sequence[int]) -> Tensor | None:
    if any(factor.dim() and factor.shape[-1] not in (1, size) for factor, size in zip(factors, sizes, strict=True)):
        return None
    steps = max(len(factor) if factor.dim() == 2 else 0 for factor in factors)
    if not steps:
        return side_by_side(factors, sizes)
    rows = []
    for factor, size in zip(factors, sizes, strict=True):
        own = factor if factor.dim() == 2 else factor.reshape(1, -1)
        later = own[-1:].expand(steps - len(own), -1)
        rows.append(torch.cat([own, later]).expand(steps, size))
    return torch.cat(rows, 1)


def _picked(spikes: Spikes, index: Tensor) -> Spikes:
    """The channels of an index."""

    def pick(factor: Tensor) -> Tensor:
        return factor[..., index] if factor.dim() and factor.shape[-1] > 1 else factor

    channels = None if spikes.channels is None else spikes.channels[index]
    return _merged(list(spikes.parts), channels, pick(spikes.scale), pick(spikes.unit))


def _merged(
    parts: Sequence[tuple[Form, Formats | None]], channels: Tensor | None, scale: Tensor, unit: Tensor
) -> Spikes:
    """Spikes in which parts that are alike are one, and no part is empty."""
    if channels is None:
        return Spikes((parts[0],), None, scale, unit)
    places: dict[tuple[Form, Formats | None], int] = {}
    order = [places.setdefault(parts[int(k)], len(places)) for k in channels.tolist()]
    index = torch.tensor(order) if len(places) > 1 else None
    return Spikes(tuple(places), index, scale, unit)
