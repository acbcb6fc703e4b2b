"""A user's file, which `mypy` with the checks of --strict must accept (pyproject.toml lists it); it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import bitspike
from bitspike.cost import Cost, cost
from bitspike.fold import Folded
from bitspike.hub import Pretrained, from_pretrained
from bitspike.lower import compile as to_program
from bitspike.models import Network, mlp
from bitspike.neurons import LIF, MultiBit, Neuron
from bitspike.quantizers import Uniform
from bitspike.runtime import Program, load, save

if TYPE_CHECKING:
    from typing_extensions import assert_type


def built(neuron: Neuron) -> Network:
    """A network of any neuron."""
    return mlp(neuron, Uniform(4), T=2, shape=(1, 8, 8), hidden=(16,))


def used(path: Path, net: Network, x: Tensor) -> Cost:
    """Fold, compile, save, load, count: every type on the way is known."""
    folded = bitspike.fold(net, x)
    assert_type(folded, Folded)
    program = to_program(folded, x)
    assert_type(program, Program)
    save(program, path)
    assert_type(load(path), Program)
    return cost(folded.graph, x)


pretrained = from_pretrained("zoo:digits/ternary")
if TYPE_CHECKING:
    assert_type(pretrained, Pretrained)
nets: list[Network] = [built(LIF()), built(MultiBit(m=1, n=1)), pretrained.model]
costs: list[Cost] = [used(Path("net.bitspike"), net, torch.zeros(2, 1, 8, 8)) for net in nets]
