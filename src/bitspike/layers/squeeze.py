"""Edges between layers with different numbers of time steps, and the refined neuron that has its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, floating, integer, one_of, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import asked, follow, rounded
from bitspike.layers.base import TimeLayer, hooked
from bitspike.layers.padding import refuse_padded
from bitspike.layers.windows import Windows
from bitspike.neurons import Neuron
from bitspike.ops import ScanFacts, choose
from bitspike.sealed import Sealed, amend, rewritten


class Squeeze(TimeLayer):
    """Changes the number of time steps: what comes in is averaged, and the mean is held.

    Mean over the time steps that come in, held for T steps: ``y_t = (Σ_t' x_t')/T₁``, t = 1 … T.

    In a folded network it is the sum (of integers), and 1/T₁ is in the weights behind it; with T₂ steps instead of T₁
    the sum is multiplied by T₁/T₂, which keeps the mean right. Behind a neuron whose T is
    learned the divisor is ``T₁ + (T̂ − sg(T̂))``, so ``dL/dT̂ = −1/T₁²·Σ g·Σ_t x_t``: the gradient sees the divisor
    alone, and a step more or less, a side effect of rounding, enters between optimiser steps.

    Source: refined neuron of adaptive bit allocation (arXiv 2506.23717), eq. 12 and code.

    Args:
        T: steps of the output. always: False lets a train of T steps pass unchanged.
        learned: initial T̂ of the neuron before; None where it is not learned.

    >>> Squeeze(3)(torch.tensor([[[1.0]], [[2.0]]])).flatten().tolist()
    [1.5, 1.5, 1.5]
    """

    scaling = "linear"
    causal = False
    takes: int = 0  # steps that it must get, where another mean would be no integer; 0: any number
    summed_steps: int = 0  # T₁ whose sums a folded network sends; 0: it sends means, or plain sums where ``summed``

    def __init__(self, T: int = 1, always: bool = True, learned: float | None = None) -> None:
        super().__init__()
        self.T = integer("Squeeze", "T", T, 1, 10_000)
        self.always: bool = always
        self.summed: bool = False
        self.raw_steps: nn.Parameter | None = None if learned is None else nn.Parameter(torch.tensor(float(learned)))

    def passes(self, steps: int) -> bool:
        """Whether a train of so many steps passes unchanged."""
        return not self.always and steps == self.T and not self.summed_steps

    def sums(self, steps: int) -> bool:
        """Whether the plain sum of so many steps is sent."""
        return self.summed and self.summed_steps in (0, steps)

    def format_of(self, spikes: SpikeFormat | None, steps: int) -> SpikeFormat | None:
        """Alphabet of the output for spikes of so many steps: unchanged, that of their sum, or None for a mean."""
        if spikes is None or spikes.real or steps == 0 or self.passes(steps):
            return spikes if self.passes(steps) or self.summed else None
        plain = self.sums(steps) if self.summed else steps == 1
        return spikes.summed(steps) if plain else None

    def forward(self, x: Tensor) -> Tensor:
        """[T₁, B, ...] → [T, B, ...], a view of one mean."""
        time_first("Squeeze", x)
        if self.takes not in (0, len(x)):
            must = f"an expanded network takes the {self.takes} steps it was made for"
            raise bad_value("Squeeze", must, len(x), "fold and expand it for these")
        if self.passes(len(x)):
            return x
        if not self.always and len(x) == self.T:
            return x * self.summed_steps  # they pass, and what is behind them divides
        refuse_padded("Squeeze")
        y = self.mean(x)
        return y.unsqueeze(0).expand(self.T, *[-1] * y.dim())

    def mean(self, x: Tensor) -> Tensor:
        """[T₁, B, ...] → their mean [B, ...], or their sum in a folded network."""
        divisor = self.divisor(len(x))
        if len(x) == 1 and divisor == 1 and not isinstance(divisor, Tensor):
            return x[0]
        kernel = choose("squeeze", x.device.type, x.dtype)
        return kernel.function(x, divisor)  # type: ignore[no-any-return]

    def divisor(self, steps: int) -> Tensor | float:
        """What a sum over so many steps is divided by: a number, or a tensor [] where T is learned."""
        if self.summed:
            return 1 if self.sums(steps) else steps / self.summed_steps
        if self.raw_steps is None:
            return steps
        return follow(torch.full_like(self.raw_steps, steps), self.raw_steps)

    def extra_repr(self) -> str:
        return f"T={self.T}, always={self.always}" + (", summed" if self.summed else "")


class Join(TimeLayer):
    """Where a shortcut meets its branch.

    Sum of branches; where their numbers of steps differ, each is squeezed to its mean first.

    Args:
        keep_time: bring them to the most steps among them instead, as `Windows` does.

    >>> Join()(torch.ones(2, 1, 1), torch.ones(3, 1, 1)).shape
    torch.Size([1, 1, 1])
    """

    scaling = "add"
    causal = False

    def __init__(self, keep_time: bool = False) -> None:
        super().__init__()
        self.keep_time = keep_time

    def steps(self, branches: list[int]) -> int:
        """Steps of the sum of branches with these numbers of steps."""
        return max(branches) if self.keep_time or len(set(branches)) == 1 else 1

    def forward(self, *branches: Tensor) -> Tensor:
        """[T₁, B, ...], [T₂, B, ...], … → [T₁, B, ...] if all are equal, else [1, B, ...] or the most steps."""
        for x in branches:
            floating("Join", x)
        counts = [len(x) for x in branches]
        parts: list[Tensor] = list(branches)
        if len(set(counts)) > 1:
            refuse_padded("Join")
        if len(set(counts)) > 1 and self.keep_time:
            parts = [Windows(max(counts))(x) for x in branches]
        elif len(set(counts)) > 1:
            parts = [x.mean(0, keepdim=True) for x in branches]
        return sum(parts[1:], parts[0])


class Refined(Sealed, nn.Module):
    """A neuron with its own number of time steps T: hold the current for T steps, fire, average the spikes.

    Pass it to a builder in place of the neuron. With ``squeeze="always"`` every value between neurons has one step, so
    neighbours may differ in T, residual branches always fit, and linear maps run once, not T times. For inputs with a
    time axis of their own (events) there is ``squeeze="windows"``: a current of T₁ steps is brought to T by `Windows`,
    the spikes keep their order, and linear maps run for every step.

    Source: refined neuron of adaptive bit allocation (arXiv 2506.23717), eq. 11-14.
    Differs: currents that change over time are averaged, too; ``squeeze="differs"`` and "windows" are ours.

    Args:
        neuron: prototype. T: its steps, >= 1, default 2.
        learn_T: learn T (one per layer, ``round_half(clip(T̂, 1, bound))``); `refresh`, between optimiser steps,
            brings the steps in use up to date.
        bound: greatest T; default T + 1.
        squeeze: "always"; "differs": trains pass unchanged to neurons with the same T, and others are averaged in
            front of the neuron (linear maps then run for every step), T cannot be learned; or "windows".

    >>> from bitspike.neurons import LIF
    >>> Refined(LIF(decay=1.0, reset="soft"), T=4)(torch.full((1, 1, 1), 0.5)).tolist()
    [[[0.5]]]
    """

    sealed: ClassVar[tuple[str, ...]] = ("time_steps", "format", "threshold")
    remedies: ClassVar[Mapping[str, str]] = dict.fromkeys(("T", "time_steps"), "call set_steps")

    def __init__(
        self,
        neuron: Neuron,
        T: int = 2,
        learn_T: bool = False,
        bound: int | None = None,
        squeeze: str = "always",
    ) -> None:
        super().__init__()
        integer("Refined", "T", T, 1, 10_000)
        self.bound: int = integer("Refined", "bound", T + 1 if bound is None else bound, T, 10_000)
        self.squeeze: str = one_of("Refined", "squeeze", squeeze, ("always", "differs", "windows"))
        if learn_T and squeeze == "differs":
            must = 'T is learned through its divisor or its windows, so squeeze must be "always" or "windows"'
            raise bad_value("Refined", must, squeeze, 'choose squeeze="always"')
        self.before: Squeeze | Windows = Squeeze(T, always=squeeze == "always")
        if squeeze == "windows":
            self.before = Windows(T, learn_T=learn_T, bound=self.bound)
        self.neuron = neuron
        self.after: Squeeze | nn.Identity = (
            Squeeze(1, learned=T if learn_T else None) if squeeze == "always" else nn.Identity()
        )
        self.register_buffer("steps", torch.tensor(T))
        self.steps: Tensor

    @property
    def time_steps(self) -> int:
        """Time steps in use."""
        return self.before.T

    @property
    def format(self) -> SpikeFormat:
        """Alphabet of the neuron."""
        return self.neuron.format

    @property
    def threshold(self) -> float:
        """Threshold of the neuron, as the user gave it."""
        return self.neuron.threshold

    @property
    def raw_steps(self) -> nn.Parameter | None:
        """The learned number behind T, or None."""
        part = self.after if isinstance(self.after, Squeeze) else self.before
        return part.raw_steps

    def soft_steps(self) -> Tensor:
        """T as a tensor [], with a straight-through gradient where it is learned."""
        return self.steps if self.raw_steps is None else follow(self.steps, self.raw_steps)

    def wanted_steps(self) -> Tensor:
        """Steps that the parameter asks for, int64 []."""
        return self.steps if self.raw_steps is None else rounded(self.raw_steps.clamp(min=1), 1, self.bound)

    def refresh(self) -> None:
        """Put the wanted T to use. Call it between optimiser steps, never in a compiled graph."""
        self._use(int(asked("Refined", self.wanted_steps())))

    def set_steps(self, T: int) -> None:
        """Let the neuron run for T steps from now on; a learned T goes on from there, its bound at least T."""
        integer("Refined", "T", T, 1, 10_000)
        amend(self, bound=max(self.bound, T))
        if self.raw_steps is not None:
            self.raw_steps.data.fill_(T)
        self._use(T)

    def _use(self, T: int) -> None:
        if isinstance(self.before, Windows):
            self.before.use(T)
        amend(self.before, T=T)
        self.steps.fill_(T)

    def follow(self) -> None:
        """Take over steps that somebody has written into the buffer, such as an average of models."""
        if rewritten(self, self.steps):
            T = integer("Refined", "steps", int(self.steps), 1, 10_000)
            if isinstance(self.before, Windows):
                self.before.use(T)
            amend(self.before, T=T)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; then the steps in use are those loaded."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        amend(self.before, T=int(self.steps))

    def replicate(self, channels: int, channel_dim: int | None = None) -> Refined:
        """A copy with its own parameters, per-channel ones sized for [B, channels, ...]; see `Neuron.replicate`."""
        twin = copy.deepcopy(self)
        twin.neuron = self.neuron.replicate(channels, channel_dim)
        return twin

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T₁, B, ...] → mean spikes [1, B, ...] (squeeze "differs" and "windows": spikes [T, B, ...]).

        Averaged spikes are the operation "refined", whose native kernel never has trains in memory. The modules are
        called one after the other where one has hooks, and by a trace, which so sees them all.
        """
        self.follow()
        if not self._plain(x):
            return self.after(self.neuron(self.before(x)))  # type: ignore[no-any-return]
        spec = self.neuron.fused()
        kernel = choose("refined", x.device.type, ScanFacts(spec, x.dtype, x.dtype))
        y = kernel.function(self, x, spec)
        return self.neuron.record_spikes(y) if self.time_steps == 1 else y  # type: ignore[no-any-return]

    def _plain(self, x: object) -> bool:
        """Whether nothing beside the result depends on the modules being called."""
        after, neuron = self.after, self.neuron
        return (
            isinstance(x, Tensor)
            and x.dim() > 1
            and len(x) > 0
            and isinstance(after, Squeeze)
            and not neuron.membrane.initial
            and not neuron.features_last(x)
            and type(neuron).forward is Neuron.forward
            and type(neuron).run is Neuron.run
            and not (hooked(self.before) or hooked(neuron) or hooked(after))
        )
