"""Linear maps of every channel by itself, axis by axis: resizing, windows that differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from bitspike.lower.rules.along import along, plane
from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.moved import moved
from bitspike.lower.wire import Array, Refused, Wire

_BITS = 14


def resize(call: Call) -> Wire:
    """``y = A·x·Bᵀ`` of every channel, A and B read off and tried out."""
    mode = str(call.option("mode", 3, "nearest") if call.what in ("interpolate", "upsample", "Upsample") else "")
    if mode.startswith("nearest"):
        return moved(call.low, call.name, call.run, call.x, call.source, call.lead, call.samples)
    if call.lead != 1:
        raise Refused(f"{call.what} of torch works on samples without time; upgrade the network")
    low = call.low
    x = low.straight(call.x, call.source)
    shape = low.value(x).shape
    tables = _tables(call, shape)
    whole = [_whole(table) for table in tables]
    x = low.plain(x, call.source, room=math.prod(int(np.abs(k).sum(1).max()) for k, _ in whole))
    factor = x.factor
    if len(shape) == 2:
        made = along(low, x, shape, 1, whole[0][0], call.name)
    else:
        made = plane(low, x, whole[0][0], whole[1][0], call.name)
    divisor = math.prod(d for _, d in whole)
    lost = max(float(np.abs(k / d - table).max()) for (k, d), table in zip(whole, tables, strict=True))
    if lost > 1e-12:
        low.report.notes.append(f"the weights of {call.what} of {call.name} are off by at most {lost:.2g}")
    return Wire(made.name, factor / divisor, np.zeros(()))


@torch.no_grad()
def _tables(call: Call, shape: tuple[int, ...]) -> list[Array]:
    """The map [after, before] of every axis behind the channels.

    Raises:
        Refused: it is no such map.
    """
    sides = shape[1:]
    if len(sides) not in (1, 2):
        raise Refused(f"it resizes {len(sides)} axes; a program has one or two")
    tables: list[Array] = []
    ones = [torch.ones(side, dtype=torch.float64) for side in sides]

    def run(*lines: Any) -> Any:
        image = lines[0] if len(lines) == 1 else lines[0][..., :, None] * lines[1][..., None, :]
        image = image.reshape(-1, 1, *sides)
        return call.run(image.expand(len(image), shape[0], *sides))[:, 0]

    middle = run(*(line[None] for line in ones))[0]
    place = tuple(n // 2 for n in middle.shape)
    for k, side in enumerate(sides):
        lines = [
            torch.eye(side, dtype=torch.float64) if k == j else ones[j].expand(side, -1) for j in range(len(sides))
        ]
        found = run(*lines)
        at = (slice(None), *(slice(None) if k == j else place[j] for j in range(len(sides))))
        tables.append(found[at].T.numpy())
    if len(sides) == 2:
        tables[1] = tables[1] / float(middle[place])
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = call.run(x)
    maps = [torch.as_tensor(table) for table in tables]
    got = x @ maps[0].T if len(sides) == 1 else torch.einsum("ah,bchw,dw->bcad", maps[0], x, maps[1])
    if wanted.shape != got.shape or not torch.allclose(wanted, got, 1e-9, 1e-9):
        raise Refused(f"{call.what} maps no axis by itself")
    return tables


def _whole(table: Array) -> tuple[Array, float]:
    """Integers k and a divisor d with ``table = k/d``: the least one that serves, else a power of two."""
    for divisor in (*(float(d) for d in range(1, 257)), *(2.0**bits for bits in range(9, _BITS + 1))):
        k = np.round(table * divisor)
        if np.abs(k / divisor - table).max() < 1e-12:
            return k.astype(np.int64), divisor
    return np.round(table * 2.0**_BITS).astype(np.int64), 2.0**_BITS
