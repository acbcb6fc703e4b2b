"""Linear maps and convolutions, each as the row that it is or is made of."""

from __future__ import annotations

from typing import Any

from bitspike.fold.expand import UnarySynapse
from bitspike.graph import Node
from bitspike.layers import Conv2d, ConvTranspose2d, Linear, Synapse
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.at_places import pointwise
from bitspike.lower.rules.border import bordered
from bitspike.lower.rules.transposed import transposed
from bitspike.lower.rules.volume import volume
from bitspike.lower.rules.written import written
from bitspike.lower.wire import Refused, Wire
from bitspike.upgrade.layers import Convolution
from bitspike.upgrade.pointwise import Pointwise
from bitspike.upgrade.transposed import TransposedConvolution


def synapse(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Any synapse: the sum is an integer, what it is worth waits for the next rescale, and so does the bias."""
    module = node.module.synapse if isinstance(node.module, UnarySynapse) else node.module
    assert isinstance(module, Synapse)
    return connected(low, node.name, module, wires[0], low.source(node))


def connected(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """What a synapse makes of a wire."""
    if type(module) is Pointwise:
        return pointwise(low, name, module, x, source)
    if type(module) is Linear:
        return _linear(low, name, module, x, source)
    if type(module) in (ConvTranspose2d, TransposedConvolution):
        return transposed(low, name, module, low.straight(x, source), source)
    x = low.straight(x, source)
    if module.weight.dim() == 5:
        return volume(low, name, module, x, source)
    attributes = place(module)
    if isinstance(module, Convolution) and module.padding_mode != "zeros":
        x = bordered(low, name, module, x, source)
    real = module.quantizer.format.real
    x = low.operand(x, source, columns=real)
    axes = module.weight.dim() - 1
    if len(low.value(x).shape) != axes:
        raise Refused(f"its input has {len(low.value(x).shape)} axes, a program's has {axes}")
    return written(low, name, module, "convolution", x, attributes)


def _linear(low: Lowering, name: str, module: Synapse, x: Wire, source: str) -> Wire:
    """A linear map of features; numbers that lie elsewhere take their columns of the weight along."""
    if len(low.shape(x)) != 1:
        raise Refused(f"its input has {len(low.shape(x))} axes, a linear map's has 1")
    at = None if x.at is None else x.at.reshape(-1)
    if at is not None:
        x = low.in_a_row(x) if len(low.value(x).shape) > 1 else x
    x = low.operand(x.placed(None), source, columns=module.quantizer.format.real)
    return written(low, name, module, "linear", x, {}, at)


def place(module: Synapse) -> dict[str, Any]:
    """Attributes of the row of a convolution, without the exponent; borders other than zeros are none of it."""
    if type(module) is Conv2d:
        stride, ends = list(module.strides()), list(module.paddings())
        return {"stride": stride, "before": ends, "after": list(ends), "dilation": [1, 1], "groups": module.groups}
    if type(module) is not Convolution:
        raise Refused(f"{type(module).__name__} is no convolution or linear map of a program")
    axes = module.weight.dim() - 2
    before = after = [0] * axes
    if module.padding_mode != "zeros":
        pass
    elif module.padding == "same":
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
