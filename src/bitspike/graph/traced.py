"""A network that a pass has made, with its graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bitspike.graph.graph import Graph


class Traced(nn.Module):
    """Wraps the network of a graph, in evaluation mode.

    Attributes:
        net: the traced network.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.net: nn.Module = graph.model
        self.eval()

    @property
    def graph(self) -> Graph:
        """Its graph; nodes have the names they had in the network it was made from."""
        return Graph(self.net, self.net.graph)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Any:
        """Samples [B, ...] → what the network returns; logits [B, K] of a classifier."""
        return self.net(x)
