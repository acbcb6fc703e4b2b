"""Linear maps and convolutions: integer weights as they are, real ones by output channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bitspike.fold.expand import UnarySynapse
from bitspike.graph import Node
from bitspike.layers import Conv2d, Linear, Synapse
from bitspike.lower.fixed_point import quantized_rows
from bitspike.lower.lowering import Lowering
from bitspike.lower.report import LayerReport
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime import Grid
from bitspike.runtime.ops.sums import accumulator_bits
from bitspike.upgrade.layers import Convolution


def synapse(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Any synapse: the sum is an integer, what it is worth waits for the next rescale, and so does the bias."""
    module = node.module.synapse if isinstance(node.module, UnarySynapse) else node.module
    assert isinstance(module, Synapse)
    real = module.quantizer.format.real
    attributes = place(module)
    x = low.operand(wires[0], low.source(node), columns=real)
    value = low.value(x)
    axes = module.weight.dim() - 1
    if len(value.shape) != axes:
        raise Refused(f"its input has {len(value.shape)} axes, a program's has {axes}")
    weight, grid, scale, error, factor = _weights(low, module, x)
    whole = grid is not None and not real and scale.ndim == 0 and scale == 1
    bias = module.bias
    extra: dict[str, Any] = {"weight": (weight, grid)}
    kind = "linear" if axes == 1 else "convolution"
    name = low.add(kind, node.name, [x], {**attributes, "exponent": 0 if whole and factor == 1 else None}, **extra)
    written = low.builder.values[name]
    low.report.layers.append(
        LayerReport(
            node.name,
            "synapse",
            weight_bits=grid.bits if grid is not None else low.options.weight_bits,
            weight_error=error,
            spike_bits=max(1, (value.high - value.low).bit_length()),
            accumulator_bits=accumulator_bits(written),
            low=written.low,
            high=written.high,
        )
    )
    given = 0.0 if bias is None else bias.detach().double().cpu().numpy()
    return wire(name, scale * factor, given)


def place(module: Synapse) -> dict[str, Any]:
    """Attributes of the row of a synapse, without the exponent."""
    if type(module) is Linear:
        return {}
    if type(module) is Conv2d:
        twice = [module.padding] * 2
        return {"stride": [module.stride] * 2, "before": twice, "after": twice, "dilation": [1, 1], "groups": 1}
    if type(module) is not Convolution:
        raise Refused(f"{type(module).__name__} is no convolution or linear map of a program")
    axes = module.weight.dim() - 2
    if axes == 3:
        raise Refused("a program convolves over one or two axes, not three")
    if module.padding_mode != "zeros":
        raise Refused(f"a program pads with zeros, not {module.padding_mode!r}")
    before = after = [0] * axes
    if module.padding == "same":
        pairs = module.border
        before = [int(pairs[2 * (axes - 1 - i)]) for i in range(axes)]
        after = [int(pairs[2 * (axes - 1 - i) + 1]) for i in range(axes)]
    elif module.padding != "valid":
        given = module.padding if isinstance(module.padding, tuple) else (module.padding,) * axes
        before = after = [int(p) for p in given]
    return {
        "stride": [int(s) for s in module.stride],
        "before": before,
        "after": after,
        "dilation": [int(d) for d in module.dilation],
        "groups": module.groups,
    }


def _weights(low: Lowering, module: Synapse, x: Wire) -> tuple[Array, Grid | None, Array, float, float]:
    """(integers, grid, scale [] or [O], error, the factor of x that stays outside)."""
    record, latent = module.quantizer.format, module.weight.detach().double().cpu()
    if record.real:
        factor = torch.as_tensor(x.factor)
        columns = module.columns(factor) if factor.dim() else torch.ones(())
        bits = low.options.weight_bits
        k, rows, error = quantized_rows((latent * columns).numpy(), bits)
        grid = Grid(-127, 127) if bits == 8 else None
        return k, grid, rows, float(error.max(initial=0.0)), 1.0 if factor.dim() else float(x.factor)
    levels, scale = module.quantizer.to_int(latent)
    if scale.shape[1] > 1:
        raise Refused("it has a weight factor per input channel; fold the network")
    k = np.rint(levels.numpy()).astype(np.int64)
    grid = Grid(record.low, record.high, record.stride, record.spacing)
    return k, grid, wire("", scale.double().reshape(-1).numpy()).factor, 0.0, float(x.factor)
