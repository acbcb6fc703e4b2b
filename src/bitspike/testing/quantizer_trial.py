"""A quantizer under test: its replicas, its weights, and the relaxed form that its gradients are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.formats import WeightFormat
from bitspike.quantizers import Quantizer
from bitspike.testing.relaxed import central_differences, relaxed

SHAPES = ((7, 5), (4, 3, 3, 3), (1, 13), (2, 1))
DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class QuantizerTrial:
    """A replica under test and its weight."""

    where: str
    prototype: Quantizer
    quantizer: Quantizer
    w: Tensor
    kind: str

    def levels(self) -> tuple[Tensor, Tensor]:
        return self.quantizer.to_int(self.w)

    def groups(self) -> list[Tensor]:
        """Flat indices of the weights that share a scale."""
        scale = self.levels()[1]
        label = torch.arange(scale.numel()).reshape(scale.shape).expand(self.w.shape).reshape(-1)
        return [(label == group).nonzero().reshape(-1) for group in range(scale.numel())]


def trials(where: str, prototype: Quantizer) -> Iterator[QuantizerTrial]:
    """Replicas for weights of several shapes and two dtypes: random, on a dyadic grid, halfway between levels."""
    for shape in SHAPES:
        for dtype in DTYPES:
            for kind, w in weights(shape, dtype).items():
                own, w = _prepared(prototype, w, kind)
                yield QuantizerTrial(f"{where} on {kind} {list(shape)}", prototype, own, w, kind)


def weights(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """Random weights whose channels differ in size, and weights on a grid of 1/16 with zeros and repeats."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    random = torch.randn(shape, generator=generator, dtype=torch.float64)
    random *= torch.logspace(0, -2, shape[0], dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))
    dyadic = torch.randint(-24, 25, shape, generator=generator).double() / 16
    dyadic.view(-1)[0] = 0.0
    return {"random": random.to(dtype), "dyadic": dyadic.to(dtype), "ties": dyadic.to(dtype)}


def _prepared(quantizer: Quantizer, w: Tensor, kind: str) -> tuple[Quantizer, Tensor]:
    """A replica for w; for "ties" its positive parameters become powers of two and w lies halfway between levels."""
    own = quantizer.replicate(w)
    if kind == "ties" and not own.format.real:
        for parameter in own.parameters():
            if bool((parameter > 0).all()):
                parameter.data = parameter.data.log2().round().exp2()
        points = tie_points(own.format).to(w)
        place = torch.arange(w.numel()).reshape(w.shape) * 7919 % len(points)  # a prime: spread over the alphabet
        w = (points[place] * own.to_int(w)[1]).clone()
    return own, w


def tie_points(record: WeightFormat) -> Tensor:
    """Halfway between neighbouring levels, and half a gap and one and a half beyond both ends; float64.

    >>> tie_points(WeightFormat(-1, 1, stride=2)).tolist()
    [-4.0, -2.0, 0.0, 2.0, 4.0]
    """
    grid = torch.tensor(record.grid(), dtype=torch.float64)
    gaps = grid.diff()
    low = grid[0] - gaps[0] * torch.tensor([1.5, 0.5], dtype=torch.float64)
    high = grid[-1] + gaps[-1] * torch.tensor([0.5, 1.5], dtype=torch.float64)
    return torch.cat([low, grid[:-1] + gaps / 2, high])


def enclosing(record: WeightFormat, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest level <= ratio and the least one >= ratio (the end where there is none), with room for rounding."""
    grid = torch.tensor(record.grid(), dtype=torch.float64, device=ratio.device)
    room = 16 * torch.finfo(ratio.dtype).eps * (1 + ratio.abs().double())
    last = len(grid) - 1
    below = torch.searchsorted(grid, (ratio.double() - room).contiguous(), right=True) - 1
    above = torch.searchsorted(grid, (ratio.double() + room).contiguous())
    return grid[below.clamp(0, last)], grid[above.clamp(0, last)]


def beyond(quantizer: Quantizer, w: Tensor) -> Tensor:
    """w with one weight in three far outside the alphabet and one in three four times as large.

    Where that moves the scale (bounds that depend on the weight), w itself.
    """
    scale = quantizer.to_int(w)[1]
    grid = quantizer.format.grid()
    far = torch.where(w < 0, float(grid[0] + 2 * (grid[0] - grid[1])), float(grid[-1] + 2 * (grid[-1] - grid[-2])))
    place = torch.arange(w.numel()).reshape(w.shape) % 3
    spread = torch.where(place == 0, w, torch.where(place == 1, 4 * w, 1.3 * far * scale))
    return torch.where(quantizer.to_int(spread)[1] == scale, spread, w).clone()


def straight_through(quantizer: Quantizer, w: Tensor, upstream: Tensor) -> list[Tensor]:
    """Differences of ``Σ upstream·(k0 + ratio − ratio0)·scale`` for the weight and every parameter, all in float64.

    Levels are frozen. The ratio is a function of weight and parameters, the scale one of the parameters: statistics of
    the weight that it depends on are constants.
    """
    here = w.clone()
    k = quantizer.to_int(w)[0].detach().clone()
    with relaxed(quantizer) as tape, torch.no_grad():

        def parts() -> tuple[Tensor, Tensor]:
            with tape.paused():  # to_int detaches all it returns
                scale = quantizer.to_int(here)[1]
            return quantizer.ratio(w, scale), scale

        with tape.reference():
            start = parts()[0]

        def loss() -> Tensor:
            ratio, scale = parts()
            return (upstream * (k + (ratio - start)) * scale).sum()

        return [central_differences(loss, leaf, tape) for leaf in (w, *quantizer.parameters())]
