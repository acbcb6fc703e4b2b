"""The package ``nir``, which is optional, and what both directions say of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from bitspike.checks import message

NOTE = "bitspike"
"""Key under which a graph and its nodes hold what NIR has no word for; another reader loses nothing by it."""
VERSION = 1


class Convention(NamedTuple):
    """How one system reads or writes a neuron.

    Attributes:
        dt: its time step, in seconds. unit: whether its neurons ignore r, so that a current counts dt/τ times.
        exponential: the factor per step is exp(−1/τ), τ in steps, and nothing multiplies the current.
        soft: what fires is subtracted, as many times as the membrane holds the threshold.
        nodes: names of the nodes that it reads; none: all of them.
    """

    dt: float = 1e-4
    unit: bool = False
    exponential: bool = False
    soft: bool = False
    nodes: tuple[str, ...] = ()


_DENSE = ("Affine", "Conv2d", "Flatten", "LIF")
CONVENTIONS = {
    "nir": Convention(),
    "snntorch": Convention(nodes=(*_DENSE, "AvgPool2d")),
    "norse": Convention(dt=2.0**-10, unit=True, nodes=(*_DENSE, "IF", "SumPool2d")),
    "sinabs": Convention(exponential=True, soft=True, nodes=(*_DENSE, "IF", "SumPool2d")),
}
"""Reader or maker → its convention; docs/deploy.md has them as a table, with what was measured."""


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
