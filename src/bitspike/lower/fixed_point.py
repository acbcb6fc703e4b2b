"""Real constants as integers: multipliers with one shift, decays, weights of a channel; and what rounding costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitspike.lower.wire import TooWide
from bitspike.runtime.arithmetic import round_half

Array = NDArray[Any]
_TOP = 2**31 - 1


def multipliers(real: Array, bound: int) -> tuple[Array, int, float]:
    """Integers m and a shift s with ``real ≈ m·2^-s``, as exact as ``rescale`` takes them.

    Args:
        real: factors. bound: greatest magnitude of what they multiply; |m|·bound fits 62 bits.

    Returns:
        (m, s, greatest relative error of a factor that is not 0).

    >>> multipliers(np.array([0.75, -0.5]), 100)
    (array([ 3, -2]), 2, 0.0)
    """
    most = float(np.abs(real).max(initial=0.0))
    if not most:
        return np.zeros(real.shape, np.int64), 0, 0.0
    top = min(_TOP, 2**61 // max(bound, 1))
    if not most <= top:
        raise TooWide(f"a factor of {most:.3g} on numbers up to {bound} does not fit 64 bits")
    shift = min(62, math.floor(math.log2(top / most)))
    numbers = round_half(np.ldexp(real, shift)).astype(np.int64)
    while shift and not (numbers & 1).any():
        numbers, shift = numbers >> 1, shift - 1
    known = real != 0
    error = np.abs(np.ldexp(numbers[known].astype(np.float64), -shift) / real[known] - 1)
    return numbers, shift, float(error.max(initial=0.0))


def decay_of(decay: float) -> tuple[list[int], float]:
    """[m, s] of a decay per step with s <= 30, and the absolute error.

    >>> decay_of(0.25), decay_of(1.0)
    (([1, 2], 0.0), ([1, 0], 0.0))
    """
    m, s = round(math.ldexp(decay, 30)), 30
    while s and m % 2 == 0:
        m, s = m // 2, s - 1
    return [m, s], abs(math.ldexp(m, -s) - decay)


def bits_above(amount: float) -> int:
    """The greatest e with ``amount·2^e <= 2^31 - 1``; 64 for 0.

    >>> bits_above(1.0), bits_above(3.0)
    (30, 29)
    """
    if amount <= 0:
        return 64
    e = math.floor(math.log2(_TOP / amount))
    return e - 1 if math.ldexp(amount, e) > _TOP else e


def quantized_rows(weight: Array, bits: int) -> tuple[Array, Array, Array]:
    """Real weights [O, ...] → (integers, scale [O], root mean squared error over that of the weight [O]).

    The range of an output channel is that with the least squared error among 33 from the greatest magnitude down to
    half of it, and the power of two that holds it, which wins where weights are on its grid.
    """
    top = 2 ** (bits - 1) - 1
    rows = weight.reshape(len(weight), -1)
    most = np.abs(rows).max(1)
    safe = np.where(most > 0, most, 1.0)
    candidates = [np.exp2(np.ceil(np.log2(safe / top)))]
    candidates += [safe * part / top for part in np.linspace(1.0, 0.5, 33)]
    best = np.full(len(rows), np.inf)
    scale, levels = np.ones(len(rows)), np.zeros(rows.shape)
    for candidate in candidates:
        k = np.clip(round_half(rows / candidate[:, None]), -top, top)
        error = ((k * candidate[:, None] - rows) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        scale = np.where(better, candidate, scale)
        levels[better] = k[better]
    size = np.where(most > 0, (rows**2).sum(1), 1.0)
    return levels.astype(np.int64).reshape(weight.shape), scale, np.sqrt(best / size)
