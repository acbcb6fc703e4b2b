"""Voxel grids: events shared between the two nearest of T moments."""

from __future__ import annotations

import numpy as np

from bitspike.checks import integer, one_of
from bitspike.data.events.recording import Recording
from bitspike.data.events.slices import MOST_STEPS, cells, pooled


def voxel_grid(events: Recording, T: int, *, size: tuple[int, int] | None = None, channels: int = 1) -> np.ndarray:
    """Share each event between the two moments around it, by linear interpolation in time.

        V(k, y, x) = Σ_i p_i · max(0, 1 - |k - t*_i|),   t*_i = (T - 1) (t_i - t_first) / (t_last - t_first)

    A recording of one moment has all t* = 0. The sum of all voxels is the sum of all p_i.

    Source: Zhu et al., "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion", CVPR 2019, eqs. 1, 2.

    Args:
        events: a recording. T: moments, 1 to 100,000. size: as in `count_frames`.
        channels: 1: p is +1 for ON and -1 for OFF; 2: OFF and ON apart, p = 1 in both.

    Returns:
        float32 ``[T, channels, H', W']``.

    Raises:
        TypeError, ValueError: as `count_frames`.

    >>> at = np.zeros(3, np.uint16)
    >>> three = Recording(np.array([0, 25, 100]), at, at, np.array([True, True, False]), (1, 1))
    >>> voxel_grid(three, 2).flatten().tolist()
    [1.75, -0.75]
    """
    where = "voxel_grid"
    integer(where, "T", T, 1, MOST_STEPS)
    one_of(where, "channels", channels, (1, 2))
    cell, (height, width) = pooled(where, events, size)
    plane = height * width
    total = cells(where, T * channels * plane)
    since = (events.t - events.t[0]).astype(np.float64) if len(events) else np.zeros(0)
    moment = since * ((T - 1) / max(events.duration_us, 1))
    lower = np.minimum(moment.astype(np.int64), T - 1)
    upper = np.minimum(lower + 1, T - 1)
    share = moment - lower
    sign = np.where(events.p, 1.0, -1.0) if channels == 1 else np.ones(len(events))
    channel = 0 if channels == 1 else events.p.astype(np.int64)
    index = np.concatenate([(k * channels + channel) * plane + cell for k in (lower, upper)])
    weights = np.concatenate([sign * (1 - share), sign * share])
    return np.bincount(index, weights, total).astype(np.float32).reshape(T, channels, height, width)
