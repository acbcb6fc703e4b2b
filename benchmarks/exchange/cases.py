"""What the table of exports is made of: one small trained network a kind of spike, folded, and its integer program."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from digit_networks import Residual, digits, fit
from torch import Tensor, nn

from bitspike.export import Exported, export
from bitspike.export.target import TARGETS
from bitspike.fold import Folded, fold
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Refined, Repeat
from bitspike.lower import compile as lower
from bitspike.neurons import LIF, MultiBit, Real, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.runtime import Program

SAMPLES = 16
STEPS = (1, 4)


class NotRun(Exception):  # noqa: N818 (not an error: a tool that is not here)
    """Why something was not run."""


@dataclass(frozen=True)
class Ran:
    """What a system made of the samples.

    Attributes:
        how: what ran it. compared, differ: numbers beside those wanted, and how many are others. what: they are.
        refused: why this one system could not have it, where the target itself could say it.
    """

    how: str
    compared: int
    differ: int
    what: str = "outputs"
    refused: str = ""


def said(error: ValueError) -> str:
    """What an export refused, of its message; any other error is raised again."""
    _, found, reasons = str(error).partition("it cannot: ")
    if not found:
        raise error
    return reasons.removesuffix("; change these.")


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: kind of spikes. T: its time steps. folded: the network. program: its integers. x: samples [N, 1, 8, 8].
        levels: what the interpreter returns for them.
    """

    name: str
    T: int
    folded: Folded
    program: Program
    x: Tensor
    levels: np.ndarray

    def export(self, to: str, path: Any, **options: Any) -> Exported:
        """Write it for a target; `ValueError` where that would lose something."""
        return export(self.program if TARGETS[to].reads == "program" else self.folded, to, path, **options)

    def inputs(self) -> np.ndarray:
        """Samples as the integers that the program computes with, [N, ...]."""
        sequence = self.program.sequence(self.x.numpy())
        return np.asarray(sequence[0] if self.program.spec.input.repeat else np.moveaxis(sequence, 0, 1))


def _net(neurons: list[nn.Module], weights: list[Quantizer | None], T: int) -> list[nn.Module]:
    first, second, third = neurons
    return [
        Repeat(T), Conv2d(1, 8, 3, padding=1, weight=weights[0]), BatchNorm(8), first, AvgPool2d(2),
        Conv2d(8, 16, 3, padding=1, weight=weights[1]), BatchNorm(16), second, AvgPool2d(2), Flatten(),
        Linear(64, 32, bias=False, weight=weights[2]), BatchNorm(32), third, Linear(32, 10), MeanReadout(),
    ]  # fmt: skip


def _alike(make: Callable[[], nn.Module], weight: Callable[[], Quantizer | None]) -> Callable[[int], list[nn.Module]]:
    return lambda T: _net([make() for _ in range(3)], [None, weight(), weight()], T)


def _mixed(T: int) -> list[nn.Module]:
    """Bits of spikes and weights, and time steps, that differ from layer to layer, as an allocation leaves them."""
    steps = (4, 2, 1) if T > 1 else (1, 1, 1)
    kinds = (MultiBit(2, 1), Ternary(), MultiBit(1, 1))
    neurons: list[nn.Module] = [Refined(kind, T=n) for kind, n in zip(kinds, steps, strict=True)]
    return _net(neurons, [Uniform(8), TernaryWeight("layer"), Uniform(3)], 1)


def _residual(T: int) -> list[nn.Module]:
    body = [Conv2d(1, 8, 3, padding=1), BatchNorm(8), LIF(decay=0.5), Residual(LIF(decay=0.5)), AvgPool2d(2)]
    return [Repeat(T), *body, Flatten(), Linear(128, 10), MeanReadout()]


KINDS: dict[str, Callable[[int], list[nn.Module]]] = {
    "binary": _alike(lambda: LIF(decay=0.5), lambda: None),
    "binary, weights of ±1": _alike(lambda: LIF(decay=0.5), lambda: Sign("layer")),
    "ternary": _alike(lambda: Ternary(), lambda: TernaryWeight("layer")),
    "multi-bit": _alike(lambda: MultiBit(2, 0), lambda: Uniform(4)),
    "ReverB, 8 bit": _alike(lambda: Real(), lambda: None),
    "mixed allocation": _mixed,
    "residual, binary": _residual,
}


def case(name: str, T: int, epochs: int = 4) -> Case:
    """A network of the list, trained for a few passes over the digits."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # inert amplitudes
        net = nn.Sequential(*KINDS[name](T))
    x, held, y, _ = digits()
    fit(net, x, y, 0.005, epochs)
    folded = fold(net, x[:64])
    program = lower(folded, x[:256], info={"top": 16, "mean": [0.0], "std": [1.0]})
    samples = held[:SAMPLES]
    levels = Program(program.spec, engine="interpreter")(samples.numpy()).levels
    return Case(name, T, folded, program, samples, np.asarray(levels))
