"""Densities on the calibration data: a program's input, made from what the network is fed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.graph import Graph
from bitspike.lower.rules.given import Given, sent
from bitspike.runtime import Program
from bitspike.runtime.arithmetic import round_half
from bitspike.runtime.density import densities

SAMPLES = 16
"""Of the first batch: shares of thousands of numbers need no more."""


@torch.no_grad()
def measured_densities(program: Program, found: Given, graph: Graph, batch: Tensor) -> dict[str, float]:
    """Operation with weights → share of its input that is not 0, on samples of a calibration batch.

    Args:
        program: compiled from the graph. found: its input. graph: the folded network. batch: what the network takes.
    """
    part = batch.narrow(graph.batch_axis, 0, min(SAMPLES, batch.shape[graph.batch_axis])).detach()
    return densities(program, _fed(found, graph, part))


def _fed(found: Given, graph: Graph, batch: Tensor) -> Any:
    value, x = found.record.value, batch.double().cpu().numpy()
    if found.pixels is not None:
        lead = (-1,) + (1,) * (len(value.shape) - 1)
        mean, std = (np.array(each, np.float64).reshape(lead) for each in (found.pixels.mean, found.pixels.std))
        return np.clip(round_half((x * std + mean) * found.pixels.top), value.low, value.high).astype(value.dtype)
    given = sent(graph, found, batch).cpu().numpy()
    if found.record.scale is not None or graph.batch_axis:
        return given
    return np.clip(round_half(given.astype(np.float64)), value.low, value.high).astype(value.dtype)
