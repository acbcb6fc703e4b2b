"""The package ``nir``, which is optional, and what both directions say of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bitspike.checks import message
from bitspike.lower.wire import Refused

NOTE = "bitspike"
"""Key under which a graph and its nodes hold what NIR has no word for; another reader loses nothing by it."""
VERSION = 1


class Convention(NamedTuple):
    """How one system reads or writes a neuron.

    Attributes:
        dt: its time step, in seconds. unit: whether its neurons ignore r, so that a current counts dt/τ times.
        exponential: the factor per step is exp(−1/τ), τ in steps, and nothing multiplies the current.
        soft: what fires is subtracted, as many times as the membrane holds the threshold.
        nodes: names of the nodes that it reads; none: all of them. uniform: it has one threshold a layer.
    """

    dt: float = 1e-4
    unit: bool = False
    exponential: bool = False
    soft: bool = False
    nodes: tuple[str, ...] = ()
    uniform: bool = False


_DENSE = ("Affine", "Conv2d", "Flatten", "LIF")
CONVENTIONS = {
    "nir": Convention(),
    "snntorch": Convention(nodes=(*_DENSE, "AvgPool2d"), uniform=True),
    "norse": Convention(dt=2.0**-10, unit=True, nodes=(*_DENSE, "IF", "SumPool2d")),
    "sinabs": Convention(exponential=True, soft=True, nodes=(*_DENSE, "IF", "SumPool2d")),
}
"""Reader or maker → its convention; docs/deploy.md has them as a table, with what was measured."""


def refuse_for(reader: str, convention: Convention, node: Any) -> None:
    """Raise `Refused` where a reader has no word for a node, or drops a part of it."""
    kind = type(node).__name__
    todo = "write it for reader='nir'"
    if convention.nodes and kind not in (*convention.nodes, "Input", "Output"):
        raise Refused(f"{reader} reads no {kind} of NIR; {todo}")
    if convention.nodes and kind == "SumPool2d" and bool((node.padding != 0).any()):
        raise Refused(f"{reader} drops the padding of a SumPool2d; {todo}")
    if convention.uniform and kind == "LIF" and np.unique(node.v_threshold).size > 1:
        raise Refused(f"{reader} takes one threshold a layer; {todo}")


def package(where: str) -> Any:
    """The module ``nir``.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        text = message(where, "the package nir must be installed", "none", 'pip install "bitspike[nir]"')
        raise ImportError(text) from error
    return nir
