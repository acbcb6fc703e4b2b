"""The one traced graph of a network, and edits on a private copy of it."""

from bitspike.graph.graph import Edges, Graph, Node, trace
from bitspike.graph.moves import adds
from bitspike.graph.roles import ends, roles, unseen, warn_unseen
from bitspike.graph.spikes import Form, Spikes
from bitspike.graph.surgery import Surgery
from bitspike.graph.traced import Traced

__all__ = [
    "Edges",
    "Form",
    "Graph",
    "Node",
    "Spikes",
    "Surgery",
    "Traced",
    "adds",
    "ends",
    "roles",
    "trace",
    "unseen",
    "warn_unseen",
]
