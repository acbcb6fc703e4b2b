"""A neuron under test: its copies in several dtypes, its inputs, and its traces step by step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from bitspike.functional import Stairs
from bitspike.neurons import Neuron

T, B = 6, 4  # steps and batch of every input
DTYPES = (torch.float32, torch.float64)


class Trace(NamedTuple):
    """One step of one input: membrane before firing, spikes, membrane after, each [B, C].

    And, to broadcast: the value of a level, and what the membrane is divided by before ``stairs``, those of the step,
    read it.
    """

    neuron: Neuron
    u: Tensor
    s: Tensor
    v: Tensor
    over: Tensor
    unit: Tensor
    stairs: Stairs


@dataclass(frozen=True)
class Trial:
    """A neuron under test and its inputs [6, 4, C]."""

    neuron: Neuron
    channels: int
    device: torch.device
    constants: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"check_neuron({type(self.neuron).__name__})"

    @property
    def features_last(self) -> bool:
        """Whether channels are the last axis, as of tokens."""
        return self.neuron.emission.channel_dim == -1

    @property
    def top(self) -> float:
        """Membrane value at which the greatest level begins."""
        return self.neuron.stairs.first + (self.neuron.stairs.count - 1) * self.neuron.stairs.spacing

    def cast(self, dtype: torch.dtype, device: torch.device | None = None) -> Neuron:
        return copy.deepcopy(self.neuron).to(device or self.device, dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Currents spread evenly over 1.5 times the range of the levels, both signs."""
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return ((3 * drawn - 1.5) * self.top).to(self.device, dtype)

    def dyadic(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Currents on a grid of a quarter of the least step; the first step holds boundaries, met exactly."""
        stairs = self.neuron.stairs
        grid = min(stairs.first, stairs.spacing) / 4
        reach = round(1.5 * self.top / grid)
        drawn = torch.randint(-reach, reach + 1, (T, B, self.channels), generator=torch.Generator().manual_seed(1))
        x = grid * drawn.double()
        x[0, 0, 0], x[0, 1, 0] = stairs.first, -stairs.first
        for j in range(1, min(stairs.count, self.channels)):
            x[0, 0, j] = stairs.first + j * stairs.spacing
        return x.to(self.device, dtype)

    def inputs(self) -> Iterator[tuple[Neuron, Tensor]]:
        """The neuron in each dtype with each of its inputs."""
        for dtype in DTYPES:
            neuron = self.cast(dtype)
            yield neuron, self.uniform(T, B, self.channels, dtype=dtype)
            yield neuron, self.dyadic(dtype)

    def traces(self) -> Iterator[Trace]:
        """Every step of every input."""
        for neuron, x_seq in self.inputs():
            state = neuron.initial_state(x_seq[0])
            over = neuron.emission.over(x_seq).detach().double().expand(x_seq.shape)
            unit = neuron.threshold_scale(x_seq).double().expand(x_seq.shape)
            for t, x in enumerate(x_seq.unbind(0)):
                u = state[0] * neuron.membrane.decay_like(x) + neuron.current(x, state)
                at = torch.as_tensor(neuron.threshold_scale_at(state)).detach().double()
                floor = neuron.membrane.floor_like(x)
                u = u if floor is None else torch.maximum(u, torch.as_tensor(floor).to(u))
                s, state = neuron.step(x, state)
                yield Trace(
                    neuron, u.detach(), s.detach(), state[0].detach(), over[t], unit[t] * at, stairs_at(neuron, t)
                )


def stairs_at(neuron: Neuron, t: int) -> Stairs:
    """The staircase of a step: that of the neuron, as far as the format of the step goes."""
    formats = getattr(neuron, "formats", (neuron.format,))
    top = formats[min(t, len(formats) - 1)].high
    return neuron.stairs if neuron.format.real else replace(neuron.stairs, count=min(neuron.stairs.count, top))


def levels(neuron: Neuron, s: Tensor) -> Tensor:
    """The nearest integer level of transmitted values [T, B, C, ...], in float64."""
    return neuron.emission.levels(s).round()
