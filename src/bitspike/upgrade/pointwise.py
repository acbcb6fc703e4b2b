"""Linear maps of the last axis of [B, N, I] or [B, H, W, I], as a synapse between moves of that axis."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitspike.checks import bad_value, time_first
from bitspike.layers import Synapse
from bitspike.quantizers import Float


class Pointwise(Synapse):
    """A linear map of the channels at every place: [T, B, I, ...] → [T, B, O, ...].

    Args:
        linear: torch's layer; its parameters are taken over, not copied.

    >>> import torch; layer = Pointwise(nn.Linear(4, 3)); y = layer(torch.zeros(1, 2, 4, 7))
    >>> y.shape, layer.macs(tuple(y.shape))
    (torch.Size([1, 2, 3, 7]), 84)
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight: nn.Parameter = linear.weight  # type: ignore[assignment]
        self.bias: nn.Parameter | None = linear.bias
        self.quantizer: Float = Float()

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Map x [T, B, I, ...] with a given weight [O, I]."""
        time_first("Pointwise", x, 4)
        if x.shape[2] != weight.shape[1]:
            must = f"the input must have {weight.shape[1]} channels"
            raise bad_value("Pointwise", must, list(x.shape), "check the layer before")
        return F.linear(x.movedim(2, -1), weight, bias).movedim(-1, 2)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """Weights per place."""
        return self.weight.numel() * math.prod(out_shape[3:])

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


def moving(source: int, target: int) -> nn.Module:
    """A module that moves an axis of [B, ...]."""
    graph = fx.Graph()
    x: Any = graph.placeholder("x")
    graph.output(graph.call_method("movedim", (x, source, target)))
    return fx.GraphModule(nn.Module(), graph, "Move")


def moves_back(module: nn.Module) -> bool:
    """Whether a module moves channels behind all other axes, and does nothing else.

    >>> moves_back(moving(1, -1)), moves_back(moving(-1, 1))
    (True, False)
    """
    calls = [node for node in module.graph.nodes if node.op.startswith("call")] if _written(module) else []
    return len(calls) == 1 and calls[0].target == "movedim" and calls[0].args[1:] == (1, -1)


def _written(module: nn.Module) -> TypeGuard[fx.GraphModule]:
    return isinstance(module, fx.GraphModule)
