"""Which axis of a value holds its channels, as the layers say that it comes from."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from bitspike.layers import BatchNorm, Synapse

_BEHIND = (nn.Linear, nn.LayerNorm, nn.Bilinear, nn.Embedding)  # layers of features in the last axis
_AFTER = (_ConvNd, _NormBase, nn.GroupNorm, Synapse, BatchNorm)  # of channels in axis 1
_FUNCTIONS = {
    **dict.fromkeys((F.linear, F.layer_norm, torch.matmul, torch.bmm, operator.matmul), -1),
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d, F.batch_norm, F.group_norm, F.instance_norm), 1),
}
_THROUGH = (nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
_SAME = {operator.add, operator.iadd, torch.add, operator.sub, operator.mul, torch.mul, F.relu, torch.relu, F.dropout}
_METHODS = {"add", "add_", "mul", "mul_", "relu", "relu_", "contiguous", "clone"}


def channel_dim_of(root: nn.Module, node: fx.Node) -> int | None:
    """Axis of the channels of an activation's input: 1, -1 for features in the last axis, None where nothing tells.

    It is what the layers in front say, through sums, products and what works on every value alone; where they disagree,
    nothing tells.

    >>> from torch import fx
    >>> net = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.ReLU()))
    >>> channel_dim_of(net, next(node for node in net.graph.nodes if node.target == "2"))
    -1
    """
    found: set[int] = set()
    pending, seen = list(node.all_input_nodes[:1]), set[fx.Node]()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _BEHIND + _AFTER):
            found.add(-1 if isinstance(module, _BEHIND) else 1)
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            found.add(_FUNCTIONS[node.target])  # type: ignore[index]
        elif (
            isinstance(module, _THROUGH)
            or (node.op == "call_function" and node.target in _SAME)
            or (node.op == "call_method" and node.target in _METHODS)
        ):
            pending += node.all_input_nodes
    return found.pop() if len(found) == 1 else None
