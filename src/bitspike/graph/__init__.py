"""The one traced graph of a network, and edits on a private copy of it."""

from bitspike.graph.graph import Graph, Node, adds, trace
from bitspike.graph.surgery import Surgery
from bitspike.graph.traced import Traced

__all__ = ["Graph", "Node", "Surgery", "Traced", "adds", "trace"]
