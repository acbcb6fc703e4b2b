"""Samples as pictures: event frames, images, and everything else as numbers over time."""

from __future__ import annotations

import numpy as np

from bitspike.report.events import colours
from bitspike.report.spikes.choice import chosen


def sample_frames(sample: np.ndarray, timed: bool) -> np.ndarray:
    """One sample as pictures.

    Args:
        sample: [T, ...] where ``timed``, else one step of it.

    Returns:
        uint8 [n, H, W, 3]: a frame a step of [T, C, H, W] and of a still image one, two channels without a negative
        number as OFF (blue) and ON (red), one or three as brightness, and the mean of others; else one picture,
        features from top to bottom and steps from left to right.

    >>> sample_frames(np.array([[0.0, 1.0], [2.0, 1.0]]), True)[0, :, :, 0].tolist()
    [[0, 255], [128, 128]]
    """
    steps = sample if timed else sample[None]
    if steps.ndim != 4:
        flat = steps.reshape(len(steps), -1).T
        return _bright(flat[chosen(len(flat))][None])
    if steps.shape[1] == 2 and steps.min() >= 0:
        return colours(steps)
    if steps.shape[1] == 3:
        return np.stack([_bright(steps)[:, c, :, :, 0] for c in range(3)], -1)
    return _bright(steps.mean(1))


def _bright(values: np.ndarray) -> np.ndarray:
    """Least to greatest number as black to white."""
    low, high = float(values.min()), float(values.max())
    shades = np.rint(255 * ((values - low) / ((high - low) or 1.0))).astype(np.uint8)
    return np.repeat(shades[..., None], 3, -1)
