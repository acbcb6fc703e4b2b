"""Units of time."""

from __future__ import annotations

import numpy as np

from bitspike.checks import bad_value

UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
"""Unit of time → microseconds."""


def micro(where: str, t: np.ndarray, unit: str) -> np.ndarray:
    """Times in microseconds, rounded to the nearest (halves to even); integer microseconds as they are.

    Raises:
        ValueError: NaN, inf, or times that do not fit into 2^53 us.

    >>> micro("toy", np.array([0.5, 0.0000015]), "s").tolist()
    [500000, 2]
    """
    if t.dtype.kind in "iu" and unit == "us":
        return t
    scaled = t.astype(np.float64) * UNITS[unit]
    if not bool(np.all(np.abs(scaled) < 2.0**53)):
        raise bad_value(where, "times must be finite and below 2^53 us", "others", "count from the begin")
    return np.rint(scaled).astype(np.int64)
