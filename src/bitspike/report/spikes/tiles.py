"""Where the neurons of a layer lie in a flat picture."""

from __future__ import annotations

import math

import numpy as np

RATIO = 5
"""About how much wider than high a picture is."""


def tiles(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of neurons, int64 [rows, columns]; -1 where there is none.

    Channels of planes lie side by side, in rows, with a line between them; other neurons follow one another.

    >>> tiles((2, 1, 2)).tolist(), tiles((3,)).tolist()
    ([[0, 1, -1, 2, 3]], [[0, 1, 2]])
    """
    count, height, width = shape if len(shape) == 3 else (math.prod(shape), 1, 1)
    gap = int(len(shape) == 3)
    across = round(math.sqrt(RATIO * count * (height + gap) / (width + gap)))
    across = min(max(across, 1), count)
    down = -(-count // across)
    at = np.full((down, across, height + gap, width + gap), -1, np.int64)
    number = np.arange(count)
    planes = np.arange(count * height * width).reshape(count, height, width)
    at[number // across, number % across, :height, :width] = planes
    whole = at.transpose(0, 2, 1, 3).reshape(down * (height + gap), across * (width + gap))
    return whole[: len(whole) - gap, : whole.shape[1] - gap]


def laid(codes: np.ndarray, shape: tuple[int, ...], missing: int) -> np.ndarray:
    """Codes [T, ...] of a layer → [T, rows, columns]."""
    at = tiles(shape)
    flat = codes.reshape(len(codes), -1)
    film: np.ndarray = np.where(at < 0, np.uint8(missing), flat[:, at])
    return film
