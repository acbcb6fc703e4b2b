"""Functions that only put numbers elsewhere, read off numbered places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.gather import gather
from bitspike.lower.wire import Array, Refused, Wire

_SAMPLES = {1: (3,), 2: (2, 3)}
"""Samples, or steps and samples, that places are numbered in, to see that none is mixed with another."""


def moved(
    low: Lowering,
    name: str,
    call: Callable[[Tensor], Any],
    x: Wire,
    source: str,
    lead: int = 1,
    samples: tuple[int, ...] = (),
) -> Wire:
    """What a function that only moves numbers makes of a wire; nothing is written where all are kept.

    Args:
        call: of tensors [B, *shape], or [T, B, *shape] with ``lead`` 2. source: node of x.
        samples: that it is to be called on, where the code has read their number.
    """
    inside = _places(call, low.shape(x), samples or _SAMPLES[lead])
    if not inside.ndim:
        raise Refused("its output has no axis beside the batch, a program's values have 1 to 4; keep one of size 1")
    places = inside if x.at is None else np.where(inside >= 0, x.at.reshape(-1)[inside], -1)
    flat, value = places.reshape(-1), low.value(x)
    if len(flat) == value.size and (places >= 0).all() and (np.bincount(flat, minlength=value.size) == 1).all():
        same = places.shape == value.shape and np.array_equal(flat, np.arange(value.size))
        return x.placed(None if same else places)
    try:
        return gather(low, x, places, source, name)
    except Refused:
        if x.at is None:
            raise
        return gather(low, low.straight(x, source), inside, source, name)


@torch.no_grad()
def _places(call: Callable[[Tensor], Any], shape: tuple[int, ...], samples: tuple[int, ...]) -> Array:
    """Place of every number of a sample of the output, −1 for zeros.

    Raises:
        Refused: a number that is none of its own sample.
    """
    size, lead = int(np.prod(shape, dtype=np.int64)), len(samples)
    count = int(np.prod(samples))
    numbers = 1 + torch.arange(count * size, dtype=torch.float64).reshape(*samples, *shape)
    found: Any = call(numbers)
    if not isinstance(found, Tensor) or found.shape[:lead] != samples:
        raise Refused(
            "it does not keep time and batch in front" if lead == 2 else "it does not keep the batch in front"
        )
    rows = found.reshape(count, -1).numpy()
    places = rows - 1 - size * np.arange(count)[:, None]
    places[rows == 0] = -1
    whole = (places == np.floor(places)).all() and ((places >= -1) & (places < size)).all()
    if not whole or not (places == places[:1]).all():
        raise Refused("it mixes samples, or makes numbers that it was not given")
    return places[0].astype(np.int64).reshape(found.shape[lead:])
