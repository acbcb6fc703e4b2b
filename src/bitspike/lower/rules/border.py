"""Borders that are copies: reflected, replicated, from the other side."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bitspike.layers import Synapse
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.moved import moved
from bitspike.lower.wire import Wire
from bitspike.upgrade.layers import Convolution


def bordered(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """What a convolution with a border of its own reads."""
    assert isinstance(module, Convolution)

    def pad(numbers: torch.Tensor) -> torch.Tensor:
        return F.pad(numbers, module.border, mode=module.padding_mode)

    return low.straight(moved(low, f"{name}.border", pad, x, source), source)
