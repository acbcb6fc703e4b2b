"""Pooling over time into windows whose number is learned: T for inputs that have a time axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import asked, follow, rounded
from bitspike.layers.base import TimeLayer
from bitspike.layers.padding import refuse_padded
from bitspike.sealed import amend, rewritten


class OpenWindow(NamedTuple):
    """``total``: weighted sum of the frames in the window that is open, [B, ...]; ``seen``: frames so far."""

    total: Tensor
    seen: int


class Windows(TimeLayer):
    """Turns T₁ frames into T time steps, for example those of an event recording.

    T₁ frames → T frames, each the mean of the input over its share of the time.

    With x(s) the input held over every frame, 0 <= s <= T₁, and e_t = t·T₁/T:

        y_t = (T/T₁)·∫ x(s) ds over (e_{t−1}, e_t) = (1/T₁)·Σ_i n_ti·x_i        n_ti integers, Σ_i n_ti = T₁

    If T divides T₁ this is average pooling over T₁/T frames; T₁ = T passes frames unchanged; T > T₁ holds them. All
    layers behind run T times, not T₁ times. A folded network sums with the integers n/gcd(T, T₁); the factor
    gcd(T, T₁)/T₁ is in the weights behind it; sums over another number of frames are multiplied by what that is off.

    T is learned, ``T = round_half(clip(T̂, 1, bound))``. Its gradient is that of the length T₁/T̂ of windows which keep
    their number and centres, so it sees the edges:

        dy_t/dT̂ = (1/T)·(y_t − ½·(x(e_{t−1}) + x(e_t)))

    At an edge between two frames x(e) is their mean; the first and the last frame are held beyond the ends. Windows
    become shorter where what lowers the loss lies in their middle. Their number changes between optimiser steps, as a
    side effect of rounding. In a stream a window is sent when its last frame has come.

    Source: ours. The release of adaptive bit allocation (arXiv 2506.23717) has T̂ for event data, but no effect of it
    in the forward pass.

    Args:
        T: frames of the output, >= 1. frames: T₁, to be checked, and needed in a stream where the layers before do not
            tell it; None takes what comes.
        learn_T: learn T. bound: greatest T; default T + 1 (no less than ``frames``).

    >>> Windows(2)(torch.tensor([1.0, 2.0, 6.0]).reshape(3, 1, 1)).flatten().tolist()  # (1 + 2/2)/1.5, (2/2 + 6)/1.5
    [1.3333333730697632, 4.666666507720947]
    """

    scaling = "linear"
    stateful = True
    remedies: ClassVar[Mapping[str, str]] = {"T": "call set_steps"}
    takes: int = 0  # as of `Squeeze`
    summed_parts: int = 0  # divisor of the sums that a folded network sends; 0: it sends means, or plain sums

    def __init__(self, T: int = 1, frames: int | None = None, learn_T: bool = False, bound: int | None = None) -> None:
        super().__init__()
        self.T = integer("Windows", "T", T, 1, 10_000)
        self.frames: int | None = None if frames is None else integer("Windows", "frames", frames, 1, 1_000_000)
        self.bound: int = integer("Windows", "bound", max(T + 1, frames or 0) if bound is None else bound, T, 10_000)
        self.summed = False
        self.raw_steps: nn.Parameter | None = nn.Parameter(torch.tensor(float(T))) if learn_T else None
        self.register_buffer("steps", torch.tensor(T))
        self.steps: Tensor

    @property
    def time_steps(self) -> int:
        """Frames of the output in use."""
        return self.T

    def soft_steps(self) -> Tensor:
        """T as a tensor [], with a straight-through gradient where it is learned."""
        return self.steps if self.raw_steps is None else follow(self.steps, self.raw_steps)

    def wanted_steps(self) -> Tensor:
        """Frames that the parameter asks for, int64 []."""
        return self.steps if self.raw_steps is None else rounded(self.raw_steps.clamp(min=1), 1, self.bound)

    def refresh(self) -> None:
        """Put the wanted T to use. Call it between optimiser steps, never in a compiled graph."""
        self.use(int(asked("Windows", self.wanted_steps())))

    def set_steps(self, T: int) -> None:
        """Send T frames from now on; a learned T goes on from there, its bound at least T."""
        integer("Windows", "T", T, 1, 10_000)
        amend(self, bound=max(self.bound, T))
        if self.raw_steps is not None:
            self.raw_steps.data.fill_(T)
        self.use(T)

    def use(self, T: int) -> None:
        """Send T frames from now on and leave what is learned alone."""
        amend(self, T=T)
        self.steps.fill_(T)

    def follow(self) -> None:
        """Take over steps that somebody has written into the buffer, such as an average of models."""
        if rewritten(self, self.steps):
            amend(self, T=integer("Windows", "steps", int(self.steps), 1, 10_000))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; then the steps in use are those loaded."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        amend(self, T=int(self.steps))

    def divisor(self, frames: int) -> int:
        """What the integer sums of so many frames are divided by: T₁/gcd(T, T₁)."""
        return frames // math.gcd(self.T, frames)

    def factor(self, frames: int) -> float:
        """What the integer sums of so many frames are multiplied by."""
        parts = self.divisor(frames)
        return 1 / parts if not self.summed else self.summed_parts / parts if self.summed_parts else 1

    def format_of(self, spikes: SpikeFormat | None, frames: int) -> SpikeFormat | None:
        """Alphabet of the output for spikes of so many frames: unchanged, that of their sums, or None for means."""
        if frames == 0 or spikes is None:
            return None
        parts = self.divisor(frames)
        if self.factor(frames) != 1:
            return None
        if spikes.real or parts == 1:
            return spikes if parts == 1 else None
        return replace(spikes, low=spikes.low * parts, high=spikes.high * parts, unary=spikes.unary * parts)

    def pieces(self, frames: int) -> list[tuple[int, int, int]]:
        """(window t, frame i, n_ti/gcd) of all that overlap, both counted from 0, in the order of time."""
        share, found, place = math.gcd(self.T, frames), [], 0
        while place < self.T * frames:
            window, frame = place // frames, place // self.T
            end = min((window + 1) * frames, (frame + 1) * self.T)
            found.append((window, frame, (end - place) // share))
            place = end
        return found

    def stream_step(self, x: Tensor, state: OpenWindow | None, frames: int = 0) -> tuple[Tensor, OpenWindow]:
        """Frames [t, B, ...] of a sequence of ``frames`` (0: those given to the constructor) → the windows they close.

        The result may have no frame. A stream goes on after the last frame as if the next sequence began.
        """
        frames = self.frames or frames
        if not frames:
            must = "in a stream the number of frames must be known"
            raise bad_value("Windows", must, "none", "pass frames= to the layer")
        parts: dict[int, list[tuple[int, int]]] = {}
        for window, frame, weight in self.pieces(frames):
            parts.setdefault(frame, []).append((window, weight))
        factor, divisor, closed = self.factor(frames), self.divisor(frames), []
        total, seen = (torch.zeros_like(x[0]), 0) if state is None else state
        for value in x.unbind(0):
            for window, weight in parts[seen % frames]:
                total = total + (value if weight == 1 else value * weight)
                if (seen % frames + 1) * self.T >= (window + 1) * frames:
                    closed.append(total if factor == 1 else total * factor if self.summed else total / divisor)
                    total = torch.zeros_like(total)
            seen += 1
        y = torch.stack(closed) if closed else x.new_zeros(0, *x.shape[1:])
        return y, OpenWindow(total, seen)

    def forward(self, x: Tensor) -> Tensor:
        """[T₁, B, ...] → [T, B, ...]."""
        time_first("Windows", x)
        self.follow()
        frames = len(x)
        if self.frames is not None and frames != self.frames:
            raise bad_value("Windows", f"a sequence must have {self.frames} frames", frames, "change frames=")
        if self.takes not in (0, frames):
            must = f"an expanded network takes the {self.takes} frames it was made for"
            raise bad_value("Windows", must, frames, "fold and expand it for these")
        passes = frames == self.T and self.factor(frames) == 1
        if not passes:
            refuse_padded("Windows")
        y = x if passes else self.stream_step(x, None, frames)[0]
        if self.raw_steps is None or self.summed:
            return y
        return y + (self.raw_steps - self.raw_steps.detach()).to(y.dtype) * self._slope(x, y).detach()

    def _slope(self, x: Tensor, y: Tensor) -> Tensor:
        """dy/dT, [T, B, ...]."""
        frames, edges = len(x), []
        for t in range(1, self.T):
            place, rest = divmod(t * frames, self.T)
            edges.append(x[place] if rest else (x[place - 1] + x[place]) / 2)
        at = torch.stack([x[0], *edges, x[-1]])
        return (y - (at[:-1] + at[1:]) / 2) / self.T

    def extra_repr(self) -> str:
        learned = ", learned" if self.raw_steps is not None else ""
        return f"T={self.T}, frames={self.frames}{learned}" + (", summed" if self.summed else "")
