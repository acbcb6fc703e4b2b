"""What a fused scan has to know about a neuron: plain numbers, read once per call from the neuron's parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bitspike.functional import ATan, FastSigmoid, Rectangle, Sigmoid, Stairs, Surrogate, Triangle

BINARY, TERNARY, GRADED, REAL = range(4)
WINDOW, WINDOWS, TRIANGLE, ATAN, SIGMOID, FAST_SIGMOID = range(6)


class MembraneState(NamedTuple):
    """State of a neuron with one membrane: ``v`` after the last reset, shaped like the input of one step."""

    v: Tensor


class TimedState(NamedTuple):
    """``v``: membrane after the last reset; ``time``: steps so far, at most the last one that has its own step size."""

    v: Tensor
    time: Tensor


class ScanSpec(NamedTuple):
    """Charge, fire, reset and emit as numbers.

    Class M (hard or soft reset, detached, window surrogate, fixed scalars) needs no membrane in the backward pass,
    only bits; everything else is class U.

    Args:
        codes: alphabet, count, soft, detach, bump, gate; see csrc/scan/kernels.h.
        numbers: first, spacing, charge of a level, decay, emission factor, three numbers of the surrogate.
        decay: learned decay [] or None. amplitude: learned amplitude [] or [C] or None; it multiplies the factor.
    """

    codes: tuple[int, ...]
    numbers: tuple[float, ...]
    decay: Tensor | None
    amplitude: Tensor | None

    @property
    def bits_suffice(self) -> bool:
        """Whether this is class M."""
        return is_class_m(self.codes) and self.decay is None and self.amplitude is None


class AdaptiveSpec(NamedTuple):
    """The adaptive neuron: levels ``round_half(clip(u/size, low, top))``, soft detached reset.

    Args:
        sizes: step sizes [rows, 1] or [rows, C], differentiable; a row a time step, the last one for all later steps.
        tops: greatest levels [rows], differentiable.
        decay: a float, or a tensor [] where it is learned.
        signed: whether the least level is −top, not 0. levels: spikes are the levels, not their values.
        scaled: whether the gradient of the sizes is scaled (LSQ). per_channel: whether there is a size a channel.
    """

    sizes: Tensor
    tops: Tensor
    decay: Tensor | float
    signed: bool
    levels: bool
    scaled: bool
    per_channel: bool


class ScanFacts(NamedTuple):
    """What a scan kernel is chosen by.

    Args:
        spec: of the neuron, or the reason why it has none.
        dtype: of the currents and spikes. state_dtype: of the membranes.
    """

    spec: ScanSpec | AdaptiveSpec | str
    dtype: torch.dtype
    state_dtype: torch.dtype


def why_not_read(spec: ScanSpec | AdaptiveSpec, device: str = "") -> str | None:
    """Why a kernel, which reads learned numbers as float32 from memory, cannot read those of a neuron, or None.

    Args:
        device: device type they must be on, "" for any.
    """
    read = (spec.sizes, spec.tops) if isinstance(spec, AdaptiveSpec) else (spec.decay, spec.amplitude)
    for numbers in read:
        if numbers is not None and (numbers.dtype != torch.float32 or device not in ("", numbers.device.type)):
            return f"it reads float32 parameters, here they are {numbers.dtype} on {numbers.device.type}"
    return None


def is_class_m(codes: Sequence[int]) -> bool:
    """Whether alphabet, reset and surrogate alone allow class M."""
    alphabet, _, _, detach, bump, gate = codes
    return not gate if alphabet == REAL else bool(detach) and bump <= WINDOWS


def spec_of(
    stairs: Stairs,
    surrogate: Surrogate,
    decay: Tensor | float,
    soft: bool,
    detach: bool,
    charge: float,
    amplitude: Tensor | float,
    fraction_bits: int = 0,
    real: str = "",
) -> ScanSpec | str:
    """The record of a neuron, or the reason why no fused kernel can run it.

    Args:
        stairs, surrogate: of the neuron. decay: a float, or a tensor [] where it is learned.
        soft, detach: reset. charge: membrane value of one level in a soft reset.
        amplitude: a float, or a tensor [] or [C] where it is learned. fraction_bits: n of a fixed-point spike.
        real: "" for levels; "mask" or "surrogate" for real spikes (ReverB options A and B).

    >>> spec_of(Stairs(1.0), Rectangle(), 0.5, False, True, 1.0, 1.0).bits_suffice
    True
    """
    if isinstance(decay, Tensor) and decay.dim():
        return "decays per channel have no kernel"
    shape = _SHAPES.get(type(surrogate))
    if shape is None or surrogate.relaxed:
        return f"the surrogate {type(surrogate).__name__} has no kernel"
    if type(stairs) is not Stairs:
        return f"the staircase {type(stairs).__name__} has no kernel"
    if stairs.signed and stairs.count > 1:
        return "signed graded spikes have no kernel"
    bump, *parameters = shape(surrogate, stairs)
    alphabet = REAL if real else GRADED if stairs.count > 1 else TERNARY if stairs.signed else BINARY
    learned = amplitude if isinstance(amplitude, Tensor) else None
    factor = 1.0 if isinstance(amplitude, Tensor) else amplitude
    return ScanSpec(
        (alphabet, stairs.count, int(soft), int(detach), int(bump), int(real == "surrogate")),
        (
            stairs.first,
            stairs.spacing,
            charge,
            0.0 if isinstance(decay, Tensor) else decay,
            factor * 2.0**-fraction_bits,
            *parameters,
        ),
        decay if isinstance(decay, Tensor) else None,
        learned,
    )


def _rectangle(surrogate: Rectangle, stairs: Stairs) -> tuple[float, ...]:
    width = surrogate.width or stairs.spacing
    height = float(np.float32(1) / np.float32(width))  # as float32 tensors divide
    if surrogate.width is None or stairs.count == 1:
        high = stairs.first + (stairs.count - 1) * stairs.spacing + width / 2
        return WINDOW, stairs.first - width / 2, high, height
    return WINDOWS, width / 2, 0.0, height


_SHAPES: dict[type, Callable[[Any, Stairs], tuple[float, ...]]] = {
    Rectangle: _rectangle,
    Triangle: lambda s, _: (TRIANGLE, s.half_width, 0.0, 0.0),
    ATan: lambda s, _: (ATAN, math.pi / 2 * s.alpha, s.alpha / 2, 0.0),
    Sigmoid: lambda s, _: (SIGMOID, s.alpha, 0.0, 0.0),
    FastSigmoid: lambda s, _: (FAST_SIGMOID, s.slope, 0.0, 0.0),
}
