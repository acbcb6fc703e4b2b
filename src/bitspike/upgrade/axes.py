"""Which axis of a value holds its channels, as the layer says that it comes from."""

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
_THROUGH = (nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU)
_SAME = {operator.add, torch.add, operator.mul, torch.mul, F.relu, F.dropout, torch.relu, operator.iadd}


def channel_dim_of(root: nn.Module, node: fx.Node) -> int | None:
    """Axis of the channels of an activation's input: 1, -1 for features in the last axis, None where nothing tells.

    >>> from torch import fx
    >>> net = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.ReLU()))
    >>> channel_dim_of(net, next(node for node in net.graph.nodes if node.target == "2"))
    -1
    """
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            if isinstance(module, _BEHIND + _AFTER):
                return -1 if isinstance(module, _BEHIND) else 1
            if not isinstance(module, _THROUGH):
                return None
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            return _FUNCTIONS[node.target]  # type: ignore[index]
        elif node.op != "call_function" or node.target not in _SAME:
            return None
    return None
