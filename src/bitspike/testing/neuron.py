"""The conformance suite of a neuron: what every neuron promises, whatever its spikes are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bitspike.neurons import Neuron
from bitspike.testing.bench import (
    expect_all,
    expect_clean_state,
    expect_finite_gradients,
    expect_same,
    expect_untouched,
    fail,
    gradients,
)
from bitspike.testing.relaxed import finite_differences

_T, _B = 6, 4
_LEAST_RATE, _GREATEST_RATE = 0.02, 0.98
_GRADIENT_TOLERANCE = 1e-5  # of 1 + |gradient|, in float64


@dataclass(frozen=True)
class NeuronBench:
    """A neuron on trial: a private copy with distinct amplitudes, and its inputs [6, 4, C]."""

    neuron: Neuron
    channels: int
    device: torch.device
    constants: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"check_neuron({type(self.neuron).__name__})"

    @property
    def top(self) -> float:
        """Membrane value at which the greatest level begins."""
        return self.neuron.stairs.first + (self.neuron.stairs.count - 1) * self.neuron.stairs.spacing

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
        """Currents spread evenly over 1.5 times the range of the levels, both signs."""
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return ((3 * drawn - 1.5) * self.top).to(self.device, dtype)

    def dyadic(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Currents on a grid of a quarter of the least step; the first step holds boundaries, met exactly."""
        stairs = self.neuron.stairs
        grid = min(stairs.first, stairs.spacing) / 4
        reach = round(1.5 * self.top / grid)
        generator = torch.Generator().manual_seed(1)
        x = grid * torch.randint(-reach, reach + 1, (_T, _B, self.channels), generator=generator).double()
        boundaries = torch.tensor([stairs.first + j * stairs.spacing for j in range(min(stairs.count, self.channels))])
        x[0, 0, : len(boundaries)] = boundaries.double()
        x[0, 1, 0] = -stairs.first
        return x.to(self.device, dtype)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return {"random": self.uniform(_T, _B, self.channels), "dyadic": self.dyadic()}

    def cast(self, dtype: torch.dtype) -> Neuron:
        return copy.deepcopy(self.neuron).to(dtype)

    def steps(self, x_seq: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(membrane before firing, spikes, membrane after) of every step; for neurons whose state has a ``v``."""
        state = self.neuron.initial_state(x_seq[0])
        for x in x_seq.unbind(0):
            u = state.v * self.neuron.membrane.decay() + x
            s, state = self.neuron.step(x, state)
            yield u, s, state.v

    def scale(self, s: Tensor) -> Tensor:
        """Value of one level, in the dtype of s and shaped to broadcast over [..., C, ...] with channels last."""
        return self.neuron.emission.scale().to(s)


Check = Callable[[NeuronBench], None]


def shapes_kept(bench: NeuronBench) -> None:
    """Shape, dtype and device are kept: T = 1, B = 1, odd sizes, no space, space; three dtypes; the meta device."""
    c = bench.channels
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        neuron = bench.cast(dtype)
        for shape in ((1, 1, c), (3, 1, c), (2, 7, c, 3, 5)):
            for device in (bench.device, torch.device("meta")):
                x = bench.uniform(*shape, dtype=dtype).to(device)
                s, state = neuron.to(device).run(x)
                for got, like in ((s, x), *((part, x[0]) for part in state)):
                    expect_same(
                        torch.zeros_like(got), torch.zeros_like(like), bench.where,
                        "spikes and state must keep shape, dtype and device", "create tensors like the input",
                    ) if device.type != "meta" else _same_kind(bench, got, like)
            neuron = bench.cast(dtype)
