"""Spectra of sound in mel bands, in plain numpy."""

from __future__ import annotations

import numpy as np

from bitspike.checks import bad_type, bad_value, in_range, integer, positive

FLOOR = 1e-6
"""Energy below which a band counts as silent: the logarithm of less is that of this."""

_CHUNK = 1 << 12


def mel_of(hz: np.ndarray | float) -> np.ndarray:
    """Hertz → mel: ``2595·log10(1 + f/700)``.

    Source: S. Young et al., "The HTK Book" (for HTK 3.4), section 5.4.

    >>> float(mel_of(1000.0).round(2))
    999.99
    """
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0))


def hz_of(mel: np.ndarray | float) -> np.ndarray:
    """Mel → hertz, the inverse of `mel_of`."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0))


def mel_filters(rate: int, size: int, mels: int, fmin: float = 0.0, fmax: float | None = None) -> np.ndarray:
    """Triangles of height 1 over the bins of a Fourier transform, their corners at equal distances in mel.

    Band m rises from corner m to corner m + 1 and falls to corner m + 2, straight in hertz; neighbours overlap by half.

    Args:
        rate: samples a second. size: of the transform; bin k lies at k·rate/size hertz. mels: bands, >= 1.
        fmin, fmax: the first and the last corner in hertz, 0 <= fmin < fmax <= rate/2; None: rate/2.

    Returns:
        float64 ``[mels, size//2 + 1]``.

    Raises:
        TypeError, ValueError: a number out of its range, or a band that no bin lies in.

    >>> mel_filters(8000, 16, 2).round(2)[:, 1:8].tolist()
    [[0.81, 0.68, 0.25, 0.0, 0.0, 0.0, 0.0], [0.0, 0.32, 0.75, 0.91, 0.68, 0.45, 0.23]]
    """
    where = "mel_filters"
    integer(where, "rate", rate, 1, 10**6)
    integer(where, "size", size, 2, 2**20)
    integer(where, "mels", mels, 1, 2**12)
    top = rate / 2 if fmax is None else fmax
    in_range(where, "fmin", fmin, 0, rate / 2)
    in_range(where, "fmax", top, 0, rate / 2)
    if not fmin < top:
        raise bad_value(where, "fmin must lie below fmax", f"{fmin:g} and {top:g}", "give a band of frequencies")
    corners = hz_of(np.linspace(mel_of(fmin), mel_of(top), mels + 2))
    bins = np.arange(size // 2 + 1) * (rate / size)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    filters: np.ndarray = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0.0)
    empty = np.flatnonzero(filters.max(1) == 0)
    if len(empty):
        must = f"a bin of {rate / size:g} Hz must lie in each of {mels} bands"
        raise bad_value(where, must, f"none in band {empty[0]}", "take fewer mels, a longer window or a higher fmin")
    return filters


def mel_power(
    samples: np.ndarray,
    rate: int,
    mels: int = 32,
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> np.ndarray:
    """Energy of sound in mel bands, window by window.

    Window i begins at sample i·hop (there is none before the first sample) and is as long as ``window_ms``, rounded to
    whole samples; the last one begins where the sound still lasts beyond the window before, and zeros fill it up. Each
    is multiplied by a periodic Hann window, ``½ − ½·cos(2πn/N)``, and transformed at the next power of two; bands are
    sums of the squared magnitudes, weighted by `mel_filters`. Nothing is emphasised before, and nothing random added.

    Args:
        samples: ``[n]``, n >= 1: int16, which is divided by 32768, or floats, which are taken as they are.
        rate: samples a second. mels, fmin, fmax: as in `mel_filters`. window_ms, hop_ms: in milliseconds, > 0.

    Returns:
        float64 ``[F, mels]``, F = 1 + ceil((n − window)/hop), at least 1.

    Raises:
        TypeError, ValueError: samples of another kind, NaN, none, or a number out of its range.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(800) / 8000)
    >>> power = mel_power(tone, 8000, mels=4)
    >>> power.shape, power.argmax(1).tolist()  # corners at 0, 324, 799, 1493, 2508 and 4000 Hz
    ((9, 4), [1, 1, 1, 1, 1, 1, 1, 1, 1])
    """
    where = "mel_power"
    wave = floats_of(where, samples)
    integer(where, "rate", rate, 1, 10**6)
    lengths = []
    for name, value in (("window_ms", window_ms), ("hop_ms", hop_ms)):
        positive(where, name, value)
        lengths.append(integer(where, f"samples of {name}", round(rate * value / 1000), 1, 2**19))
    window, hop = lengths
    size = max(2, 1 << (window - 1).bit_length())
    filters = mel_filters(rate, size, mels, fmin, fmax)
    count = 1 + max(0, -((window - len(wave)) // hop))
    padded = np.zeros((count - 1) * hop + window)
    kept = min(len(wave), len(padded))
    padded[:kept] = wave[:kept]
    framed = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    found = np.empty((count, mels))
    for begin in range(0, count, _CHUNK):
        spectrum = np.fft.rfft(framed[begin : begin + _CHUNK] * hann, size)
        found[begin : begin + _CHUNK] = (spectrum.real**2 + spectrum.imag**2) @ filters.T
    return found


def log_of(power: np.ndarray) -> np.ndarray:
    """``ln max(E, 10⁻⁶)`` as float32."""
    return np.asarray(np.log(np.maximum(power, FLOOR)), np.float32)


def log_mel(samples: np.ndarray, rate: int, **options: float) -> np.ndarray:
    """The logarithm of `mel_power`, whose arguments it takes: ``ln max(E, 10⁻⁶)``.

    Returns:
        float32 ``[F, mels]``.

    >>> log_mel(np.zeros(100, np.int16), 8000, mels=2).round(2).tolist()
    [[-13.8199..., -13.8199...]]
    """
    return log_of(mel_power(samples, rate, **options))  # type: ignore[arg-type]


def stretched(power: np.ndarray, count: int) -> np.ndarray:
    """``count`` equal shares of a sound's windows: the mean energy of each, windows at a border shared between two.

    Args:
        power: ``[F, mels]``, F >= 1. count: of shares, >= 1; more than F repeat windows.

    Returns:
        ``[count, mels]``; their mean is that of ``power``.

    >>> stretched(np.array([[1.0], [2.0], [6.0]]), 2).flatten().tolist()
    [1.333..., 4.666...]
    """
    integer("stretched", "count", count, 1, 2**20)
    total = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, 0)])
    edges = np.arange(count + 1) * (len(power) / count)
    whole = np.minimum(edges.astype(np.int64), len(power) - 1)
    upto = total[whole] + (edges - whole)[:, None] * power[whole]
    shares: np.ndarray = np.diff(upto, axis=0) * (count / len(power))
    return shares.clip(0.0)


def floats_of(where: str, samples: object) -> np.ndarray:
    """Samples ``[n]`` as float64, a new array: int16 over 32768, floats as they are.

    Raises:
        TypeError, ValueError: samples of another kind, NaN, or none.
    """
    kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
    if not isinstance(samples, np.ndarray) or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
        raise bad_type(where, "samples must be an array of int16 or of floats", kind, "convert them")
    if samples.ndim != 1 or not len(samples):
        raise bad_value(where, "samples must be [n], n >= 1", list(samples.shape), "pass one channel")
    if samples.dtype == np.int16:
        return samples / 32768.0
    if not bool(np.isfinite(samples).all()):
        raise bad_value(where, "samples must be finite", "NaN or inf", "mend the recording")
    return samples.astype(np.float64)
