"""What only moves numbers: views, permutations, slices, shuffles, borders that are copies."""

from __future__ import annotations

from typing import Any

import torch

from bitspike.lower.rules.functions.base import Call, refused
from bitspike.lower.rules.moved import moved
from bitspike.lower.wire import Refused, Wire


def move(call: Call) -> Wire:
    """One output."""
    return moved(call.low, call.name, call.run, call.x, call.source, call.lead, call.samples)


def attribute(call: Call) -> Wire:
    """``x.mT`` and ``x.T``."""
    if call.args[1] not in ("mT", "T"):
        raise refused(f"the attribute {call.args[1]}")
    return move(call)


def pieces(call: Call) -> tuple[Wire, ...]:
    """Several outputs, each a move of its own."""
    count = len(call.run(torch.zeros(*[1] * call.lead, *call.shape, dtype=torch.float64)))

    def one(i: int) -> Any:
        return lambda x: call.run(x)[i]

    name = call.name
    return tuple(
        moved(call.low, f"{name}.{i}", one(i), call.x, call.source, call.lead, call.samples) for i in range(count)
    )


def same(call: Call) -> Wire:
    """Nothing.

    Raises:
        Refused: it rounds numbers, or drops some.
    """
    if call.module is None:
        numbers = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(*[1] * call.lead, -1)
        if not torch.equal(call.run(numbers).double(), numbers):
            raise Refused(f"{call.what} changes the numbers")
    return call.x
