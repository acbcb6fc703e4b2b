"""Least squares over the weights of a layer: what arrives is not what the ANN had, so other weights serve better."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitspike.graph import adds
from bitspike.layers import Conv2d, Linear, Synapse
from bitspike.sealed import amend
from bitspike.upgrade.layers import Convolution

RIDGE = 0.1  # chosen on held-out images, see docs/log.md
ROWS = 4  # values for each weight of a channel; with fewer, linear maps learn the data by heart
_CHUNK, _CHUNK_VALUES = 64, 2**25


def feeders(item: fx.Node, root: nn.Module, before: Sequence[nn.Module]) -> list[fx.Node]:
    """Nodes of the layers in ``before`` whose outputs, in a sum perhaps, are the input of a neuron's node.

    Behind an average pool a layer is none of them.
    """
    found: list[fx.Node] = []
    open_nodes = list(item.all_input_nodes)
    while open_nodes:
        node = open_nodes.pop(0)
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (Conv2d, Linear, Convolution)):
            found += [node] * any(module is one for one in before)
        elif adds(node) or isinstance(module, (nn.Identity, nn.Dropout)):
            open_nodes += node.all_input_nodes
    return found


def fits(module: Synapse, output: Tensor, current: Tensor) -> bool:
    """Whether the data can say what a layer's weights should be, at least `ROWS` values for each.

    Args:
        output, current: of the layer, and of the neuron, over time [T, B, O, ...]. Where the output is spread over a
            larger current, its weights are not fitted.
    """
    return output.shape == current.shape and output[0, :, 0].numel() >= ROWS * module.weight[0].numel()


def refit(module: Synapse, x: Tensor, current: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(ΔW, Δb) that bring a current to what it should be: the least

        mean |wanted − current − ΔW∗x − Δb|² + RIDGE·mean(x²)·|ΔW|²

    over samples, positions and inputs of a window. A channel that lacks no more than rounding stays as it is.

    Source: least-squares reconstruction of layers, as in post-training quantization; that it starts from the ANN's
    weights and also makes up for the errors of shortcuts is ours.

    Args:
        module: its weights are not read. x: mean of its inputs over time [B, I, ...]. current, wanted: [B, O, ...].
    """
    groups = getattr(module, "groups", 1)
    inputs = module.weight[0].numel()
    gram = torch.zeros(groups, inputs + 1, inputs + 1, dtype=torch.float64, device=x.device)
    cross = torch.zeros(groups, inputs + 1, len(module.weight) // groups, dtype=torch.float64, device=x.device)
    reach, scale = _power(x), _power(wanted)  # squares of any numbers stay finite; powers of two round nothing
    x, wanted = x / reach, wanted / scale
    missing = wanted - current / scale
    chunk = max(1, min(_CHUNK, _CHUNK_VALUES // (groups * inputs * missing[0, 0].numel())))
    for part, lack in zip(x.split(chunk), missing.split(chunk), strict=True):
        windows = _windows(module, part).transpose(0, 1).reshape(groups, inputs, -1)
        windows = torch.cat([windows, torch.ones_like(windows[:, :1])], 1)
        lacking = lack.transpose(0, 1).reshape(groups, -1, windows.shape[2])
        gram += windows @ windows.mT
        cross += windows @ lacking.mT
    squares = gram.diagonal(dim1=1, dim2=2)[:, :-1]
    penalty = RIDGE * squares.mean(1, keepdim=True)
    squares += torch.where(penalty > 0, penalty, 1)  # where nothing arrives: the bias alone
    solved = torch.linalg.solve(gram, cross)
    change, shift = solved[:, :-1].mT.reshape(module.weight.shape), solved[:, -1].flatten()
    axes = [axis for axis in range(missing.dim()) if axis != 1]
    lacks = missing.square().mean(axes) > close(x.dtype) ** 2 * wanted.square().mean(axes)
    change = change * lacks.reshape(-1, *[1] * (change.dim() - 1))
    return (change * (scale / reach)).to(module.weight), (shift * lacks * scale).to(module.weight)


def close(dtype: torch.dtype) -> float:
    """The share of a value below which a difference is left to rounding and corrected by nothing."""
    return float(torch.finfo(dtype).eps ** 0.5 / 16)


def _power(x: Tensor) -> float:
    """The power of two above the greatest magnitude; 1 where all is 0."""
    return math.ldexp(1.0, math.frexp(float(x.abs().max()))[1])


def _windows(module: Synapse, x: Tensor) -> Tensor:
    """What a layer multiplies its weights with: [B, groups · inputs of a window, positions]."""
    if isinstance(module, Linear):
        return x.unsqueeze(2)
    if isinstance(module, Conv2d):
        return F.unfold(x, module.weight.shape[2:], padding=module.padding, stride=module.stride)
    probe = copy.copy(module)
    amend(probe, groups=x.shape[1])
    kernel = module.weight.shape[2:]
    taps = torch.eye(math.prod(kernel), dtype=x.dtype, device=x.device).reshape(-1, 1, *kernel)
    return probe.connect(x.unsqueeze(0), taps.repeat(x.shape[1], *[1] * (len(kernel) + 1)), None)[0].flatten(2)
