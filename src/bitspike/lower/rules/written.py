"""The row of a synapse: integer weights as they are, real ones by output channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bitspike.layers import Synapse
from bitspike.lower.fixed_point import quantized_rows
from bitspike.lower.lowering import Lowering
from bitspike.lower.report import LayerReport
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime import Grid
from bitspike.runtime.ops.sums import accumulator_bits


def written(
    low: Lowering,
    name: str,
    module: Synapse,
    kind: str,
    x: Wire,
    attributes: dict[str, Any],
    at: Array | None = None,
    formed: Callable[[Array], Array] | None = None,
) -> Wire:
    """The row of a synapse that reads a wire with few bits.

    Args:
        at: place in the value of every feature of the network. formed: makes the row's weight of the layer's.
    """
    value, real = low.value(x), module.quantizer.format.real
    weight, grid, scale, error, factor = _weights(low, module, x, at)
    if formed is not None:
        weight = formed(weight)
        if grid is not None and (weight == 0).any() and 0 not in grid.levels:
            grid = Grid(grid.low, grid.high, 1, grid.spacing)
    whole = grid is not None and not real and scale.ndim == 0 and scale == 1
    rows: dict[str, Any] = {"weight": (weight, grid)}
    made = low.add(kind, name, [x], {**attributes, "exponent": 0 if whole and factor == 1 else None}, **rows)
    sums = low.builder.values[made]
    low.report.layers.append(
        LayerReport(
            name,
            "synapse",
            weight_bits=grid.bits if grid is not None else low.options.weight_bits,
            weight_error=error,
            spike_bits=max(1, (value.high - value.low).bit_length()),
            accumulator_bits=accumulator_bits(sums),
            low=sums.low,
            high=sums.high,
        )
    )
    bias = module.bias
    given = np.zeros(()) if bias is None else bias.detach().double().cpu().numpy()
    times = sums.shape[0] // len(module.weight)  # outputs of a channel beside each other
    parts = [np.repeat(n, times) if n.ndim else n for n in (np.asarray(scale * factor), given)]
    return wire(made, *parts)


def _weights(
    low: Lowering, module: Synapse, x: Wire, at: Array | None = None
) -> tuple[Array, Grid | None, Array, float, float]:
    """(integers, grid, scale [] or [O], error, the factor of x that stays outside)."""
    record, latent = module.quantizer.format, module.weight.detach().double().cpu()
    if record.real:
        factor = torch.as_tensor(x.factor)
        columns = module.columns(factor) if factor.dim() else torch.ones(())
        bits = low.options.weight_bits
        k, rows, error = quantized_rows((_lying(latent, at) * columns).numpy(), bits)
        grid = Grid(-127, 127) if bits == 8 else None
        return k, grid, rows, float(error.max(initial=0.0)), 1.0 if factor.dim() else float(x.factor)
    levels, scale = module.quantizer.to_int(latent)
    levels = _lying(levels, at)
    if scale.shape[1] > 1:
        raise Refused("it has a weight factor per input channel; fold the network")
    k = np.rint(levels.numpy()).astype(np.int64)
    grid = Grid(record.low, record.high, record.stride, record.spacing)
    return k, grid, wire("", scale.double().reshape(-1).numpy()).factor, 0.0, float(x.factor)


def _lying(weight: torch.Tensor, at: Array | None) -> torch.Tensor:
    """Columns [O, I] where their inputs lie."""
    return weight if at is None else weight[:, torch.as_tensor(np.argsort(at))]
