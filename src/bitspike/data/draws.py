"""Counter-based random draws: the same integers for a key on every machine and library version.

A key is a short tuple of ints such as (seed, stream, epoch). Word ``i`` depends on the key and on
``i`` alone, so a draw for sample ``i`` does not change with the batch size or the order of use.
"""

from __future__ import annotations

import math

import numpy as np

MASK = 0xFFFFFFFFFFFFFFFF
GOLDEN = 0x9E3779B97F4A7C15

SPLIT, ORDER, SHIFT_Y, SHIFT_X, FLIP, HOLE_Y, HOLE_X, POLICY, POLICY_SEED, STEP = range(10)
"""Streams: the second part of a key, so that two uses of one seed stay independent."""

_GRID = 2**24


def words(count: int, state: int) -> np.ndarray:
    """Return the first ``count`` words of SplitMix64 started at ``state``.

    Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.

    Args:
        count: how many words, >= 0.
        state: the 64-bit start.

    Returns:
        uint64 ``[count]``.

    >>> [hex(word) for word in words(2, 0).tolist()]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(state)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keyed(count: int, *key: int) -> np.ndarray:
    """Return ``count`` words that depend on every part of ``key`` and on the order of the parts.

    Args:
        count: how many words, >= 0.
        key: ints in [0, 2^64).

    Returns:
        uint64 ``[count]``.

    >>> bool((keyed(4, 1, 2) == keyed(4, 2, 1)).any())
    False
    """
    state = 0
    for part in key:
        state = int(words(1, (state ^ part) & MASK)[0])
    return words(count, state)


def permutation(count: int, *key: int) -> np.ndarray:
    """Return a permutation of ``0 .. count-1``: the stable sort order of keyed words.

    Args:
        count: how many elements, >= 0.
        key: ints in [0, 2^64).

    Returns:
        int64 ``[count]``.

    >>> sorted(permutation(5, 0, ORDER).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(keyed(count, *key), kind="stable").astype(np.int64)


def below(count: int, bound: int, *key: int) -> np.ndarray:
    """Return ``count`` ints, uniform on ``0 .. bound-1`` up to a bias of bound / 2^32.

    Args:
        count: how many, >= 0.
        bound: 1 to 2^31.
        key: ints in [0, 2^64).

    Returns:
        int64 ``[count]``.

    >>> below(3, 1, 0).tolist()
    [0, 0, 0]
    """
    high = keyed(count, *key) >> np.uint64(32)
    return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def on_grid(share: float) -> float:
    """The multiple of 2^-24 nearest to a number in [0, 1]: it and its distance from 1 are exact in float32."""
    return round(share * _GRID) / _GRID


def beta(alpha: float, *key: int) -> float:
    """Return one number in [0, 1] from the distribution Beta(α, α), a multiple of 2^-24.

    It is G / (G + G') of two gamma variables, which are kept as logarithms: for a small α both underflow.

    Source: G. Marsaglia, W. Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26 (2000).

    Args:
        alpha: > 0.
        key: ints in [0, 2^64).

    >>> mean = sum(beta(0.4, number) for number in range(4000)) / 4000
    >>> 0.48 < mean < 0.52
    True
    """
    apart = _log_gamma(alpha, *key, 1) - _log_gamma(alpha, *key, 0)
    return on_grid(1 / (1 + math.exp(min(apart, 700.0))))


def _log_gamma(alpha: float, *key: int) -> float:
    """The logarithm of one number of the distribution Gamma(α)."""
    d = alpha + 1 - 1 / 3
    c = 1 / math.sqrt(9 * d)
    tries = 0
    while True:
        radius, angle, accept, boost = ((int(word >> np.uint64(11)) + 0.5) / 2**53 for word in keyed(4, *key, tries))
        normal = math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)
        cube = (1 + c * normal) ** 3
        if cube > 0 and math.log(accept) < normal**2 / 2 + d * (1 - cube + math.log(cube)):
            return math.log(d * cube) + math.log(boost) / alpha
        tries += 1
