"""Neuron whose spike is a fixed-point number of m integer and n fractional bits."""

from __future__ import annotations

from dataclasses import replace

from bitspike.checks import bad_value, integer
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.assembly import assemble
from bitspike.neurons.base import NEURONS
from bitspike.neurons.emission import Emission
from bitspike.neurons.graded import Graded
from bitspike.neurons.membrane import Membrane
from bitspike.sealed import amend


@NEURONS.register("multibit")
class MultiBit(Graded):
    """A neuron whose spikes have m integer and n fractional bits, so that one step carries more than yes or no.

    Multi-bit LIF: ``k = clip(⌊2^n·u/threshold⌋, 0, 2^(m+n) − 1)``; ``s = 2^-n·k``; ``v = u − threshold·s`` (soft).

    MultiBit(1, 0) is bit-identical to LIF with the same options.

    Source: alphabet: multi-bit mechanism (arXiv 2407.05739); charge, fire and reset: reconstruction [?]; window
    [Δ/2, (M+½)Δ]: LM-HT (NeurIPS 2024).

    Args:
        m: integer bits, n: fractional bits; m + n from 1 to 8.
        threshold: membrane value of one whole spike, > 0, default 1; level 1 fires at 2^-n·threshold.
        decay: factor per step in [0, 1], default 0.5. learn_decay: learn it, True (one per layer) or "channel".
        reset: "soft" (default; loses nothing) or "hard". detach_reset: cut the gradient of the reset, default True.
        surrogate: object, name or "name:parameter"; default one window over the whole range.
        amplitude, train_amplitude, raw_amplitude: see `Emission`; default 1, fixed.
        initial: membrane before the first step, default 0. floor: least membrane, <= 0; default none.
        learn_bits: "none"; "integer": learn m; or "fraction": learn n. See `Graded`.
        bound: greatest m + n, up to 8; default two more than at first.
        train_threshold: "none", "layer" or "channel": learn thresholds, see `Membrane`; only with fixed bits.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; MultiBit(1, 1)(torch.tensor([[[0.4, 0.5, 1.2, 9.0]]])).flatten().tolist()
    [0.0, 0.5, 1.0, 1.5]
    """

    def __init__(
        self,
        m: int = 1,
        n: int = 1,
        threshold: float = 1.0,
        decay: float = 0.5,
        learn_decay: bool | str = False,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: str | Surrogate = "rectangle",
        amplitude: float = 1.0,
        train_amplitude: str = "none",
        raw_amplitude: bool = False,
        initial: float = 0.0,
        floor: float | None = None,
        learn_bits: str = "none",
        bound: int | None = None,
        train_threshold: str = "none",
    ) -> None:
        super().__init__()
        membrane = Membrane(decay, learn_decay, reset, detach_reset, initial, floor, train_threshold)
        emission = Emission(amplitude, train_amplitude, raw_amplitude)
        self.sharing: str = assemble(self, threshold, surrogate, membrane, emission)
        self.format: SpikeFormat = SpikeFormat(amplitude=self.sharing)
        integer("MultiBit", "m", m, 0, 8)
        integer("MultiBit", "n", n, 0, 8)
        if not 1 <= m + n <= 8:
            raise bad_value("MultiBit", "m + n must lie in [1, 8]", m + n, "a spike of more bits is a real one")
        self.m: int = m
        self.n: int = n
        self.learn(learn_bits, m + n, max(1, m if learn_bits == "fraction" else n), bound)

    def describe(self, bits: int) -> None:
        """Set format, stairs and emission to those of so many bits; which of m and n gives way is ``grows``."""
        m, n = (self.m, bits - self.m) if self.grows == "fraction" else (bits - self.n, self.n)
        delta, high = self.threshold * 2.0**-n, 2**bits - 1
        record = replace(self.format, high=high, fraction_bits=n)
        amend(self, m=m, n=n, stairs=Stairs(delta, delta, high), format=record)
        amend(self.emission, fraction_bits=n)
