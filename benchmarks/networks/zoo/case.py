"""A network of the list: how it is made, what it takes, and which of its activations become neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: as printed. build: makes the network with random weights. sample: makes B inputs. activations: classes
            that become neurons. refused: step ("upgrade", "fold", "cost", "stream", "convert", "compile") → words of
            the message, where a refusal is the right answer; "compile" is for both networks, but where there is
            "compile_ann", "" where that is right. skips: steps that have no meaning for it.
    """

    name: str
    build: Callable[[], nn.Module]
    sample: Callable[[int], Tensor]
    activations: tuple[type[nn.Module], ...] = (nn.ReLU,)
    refused: dict[str, str] = field(default_factory=dict)
    skips: tuple[str, ...] = ()


CASES: dict[str, Case] = {}


def image(channels: int = 3, side: int = 16) -> Callable[[int], Tensor]:
    """Smooth random pictures [B, channels, side, side] of mean 0."""
    return lambda batch: smooth(batch, channels, side, side)


def series(channels: int = 4, length: int = 24) -> Callable[[int], Tensor]:
    """Smooth random series [B, channels, length]."""
    return lambda batch: smooth(batch, channels, length)


def video(channels: int = 2, frames: int = 6, side: int = 8) -> Callable[[int], Tensor]:
    """Smooth random films [B, channels, frames, side, side]."""
    return lambda batch: smooth(batch, channels, frames, side, side)


def vector(size: int = 12) -> Callable[[int], Tensor]:
    """Random vectors [B, size]."""
    return lambda batch: torch.randn(batch, size)


def words(length: int = 10, vocabulary: int = 20) -> Callable[[int], Tensor]:
    """Random word numbers [B, length], int64."""
    return lambda batch: torch.randint(vocabulary, (batch, length))


def smooth(batch: int, channels: int, *sides: int) -> Tensor:
    coarse = torch.randn(batch, channels, *(max(side // 4, 1) for side in sides))
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    return nn.functional.interpolate(coarse, size=sides, mode=mode, align_corners=False) + 0.1 * torch.randn(
        batch, channels, *sides
    )


def case(
    name: str,
    sample: Callable[[int], Tensor],
    *activations: type[nn.Module],
    skips: tuple[str, ...] = (),
    **refused: str,
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register what makes a network, a class or a function."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        if name in CASES:
            raise ValueError(f"{name!r} is there already")
        CASES[name] = Case(name, build, sample, activations or (nn.ReLU,), refused, skips)
        return build

    return register
