"""Own arrays with a time axis as the three sets of an experiment."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.named_splits import completed
from bitspike.data.sequence_set import DTYPES, SequenceSet
from bitspike.layers.padding import check_lengths


def sequence_splits(
    where: str,
    name: str,
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    top: int,
    validation: int | float,
    seed: int,
    lengths: Mapping[str, Tensor],
) -> Splits:
    """The sets of sequences ``[N, T, ...]``; a part that is not there is carved from the training part.

    Integers are kept in the least of uint8, int8, int16 and int32 that holds those of all parts, floats as float32.

    Args:
        where: what asks, for messages. name: of the data set. pairs: part → (x, y), y int64 ``[N]`` or float32
            ``[N, K]``. classes, top: as in `SequenceSet`. validation, seed: as in `bitspike.data.load`.
        lengths: part → steps of its sequences, int64 ``[N]``; parts without them have T steps. {}: all have.

    Raises:
        ValueError: integers that float32 does not hold, or a sequence that stands in two parts that are given.
    """
    steps = max(x.shape[1] for x, _ in pairs.values())
    given: dict[str, tuple[Tensor, Tensor]] = {}
    ends: dict[str, Tensor | None] = {}
    for part, (x, y) in pairs.items():
        lasts = lengths.get(part, torch.full((len(x),), x.shape[1])) if lengths else None
        ends[part] = lasts
        given[part] = x if lasts is None else _cleared(f"{where} ({part})", x, lasts, steps), y
    kept = least_dtype(where, [x for x, _ in given.values()])
    sets = {
        part: SequenceSet(x.to(kept), y, classes, f"{name}/{part}", top, ends[part]) for part, (x, y) in given.items()
    }
    check_apart(where, sets)
    return completed(name, sets, validation, seed)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences ``[T_i, ...]`` → (values ``[N, T, ...]``, 0 behind the end of each, lengths int64 ``[N]``).

    Raises:
        ValueError: none, an empty one, or shapes that differ in more than the first axis.

    >>> values, lengths = pad([torch.ones(1, 2), torch.ones(3, 2)])
    >>> values[0, :, 0].tolist(), lengths.tolist()
    ([1.0, 0.0, 0.0], [1, 3])
    """
    where = "pad"
    if not sequences or min(x.dim() for x in sequences) < 1 or min(len(x) for x in sequences) < 1:
        raise bad_value(where, "there must be sequences [T, ...] of at least one step", "none", "drop empty ones")
    shapes = {tuple(x.shape[1:]) for x in sequences}
    if len(shapes) > 1 or len({x.dtype for x in sequences}) > 1:
        must = "sequences must agree in dtype and all axes but the first"
        raise bad_value(where, must, sorted(map(str, shapes))[:2], "bring them to one shape")
    return pad_sequence(list(sequences), batch_first=True), torch.tensor([len(x) for x in sequences])


def _cleared(where: str, x: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Sequences with so many steps, 0 from their ends on."""
    check_lengths(where, lengths, len(x), x.shape[1])
    kept = torch.arange(x.shape[1]) < lengths.unsqueeze(1)
    cleared = torch.where(kept.reshape(*kept.shape, *[1] * (x.dim() - 2)), x, x.new_zeros(()))
    return torch.cat([cleared, cleared.new_zeros(len(x), steps - x.shape[1], *x.shape[2:])], 1)


def least_dtype(where: str, arrays: list[Tensor]) -> torch.dtype:
    """The dtype that holds the values of all arrays.

    >>> least_dtype("demo", [torch.tensor([3]), torch.tensor([-200])])
    torch.int16
    """
    if arrays[0].is_floating_point():
        return torch.float32
    ends = [int(end) for x in arrays for end in (x.to(torch.uint8) if x.dtype == torch.bool else x).aminmax()]
    low, high = min(ends), max(ends)
    if max(-low, high) > 2**24:
        must = "integer x must lie within ±2^24, which float32 holds exactly"
        raise bad_value(where, must, f"{low} to {high}", "scale them, e.g. as floats")
    fitting = (d for d in DTYPES if not d.is_floating_point and torch.iinfo(d).min <= low <= high <= torch.iinfo(d).max)
    return next(fitting)


def check_apart(where: str, sets: Mapping[str, SequenceSet]) -> None:
    """Raise if a sequence stands in two parts: then what is learnt by heart would count as understood."""
    rows = {part: _rows(data) for part, data in sets.items()}
    for one, other in itertools.combinations(rows, 2):
        shared = rows[one].keys() & rows[other].keys()
        if shared:
            first = min(shared, key=rows[one].__getitem__)
            got = (
                f"{len(shared)} in both {one!r} and {other!r}, such as [{rows[one][first]}] and [{rows[other][first]}]"
            )
            raise bad_value(where, "no sequence may stand in two parts", got, "take them out of one")


def _rows(data: SequenceSet) -> dict[bytes, int]:
    """Hash of every sequence → its first number."""
    found: dict[bytes, int] = {}
    for number, row in enumerate(data.images.flatten(1).numpy()):
        ends = data.steps if data.lengths is None else int(data.lengths[number])
        found.setdefault(hashlib.sha256(ends.to_bytes(4, "little") + row.tobytes()).digest(), number)
    return found
