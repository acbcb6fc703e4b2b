"""What sets of sound are asked: which bands, how recordings become T steps, what is kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bitspike.checks import bad_value, in_range, integer, one_of, positive
from bitspike.data.array_cache import cached
from bitspike.data.sound.mel import floats_of, log_of, mel_filters, mel_power, stretched

NAMES = ("T", "stack", "mels", "window_ms", "hop_ms", "fmin", "fmax", "fit", "loudness", "cache")
"""Options of every set of sound, for its `Entry`."""

FITS = ("stretch", "crop", "ragged")
LOUDNESS = ("equal", "kept")


@dataclass(frozen=True)
class SoundOptions:
    """Steps of recordings: each is a strip ``[1, stack, mels]`` of ``stack`` spectra in mel bands.

    Args:
        T: steps. stack: spectra a step. mels, window_ms, hop_ms, fmin, fmax: as in `mel_power`.
        fit: "stretch": T·stack equal shares of each recording, whatever its length (`stretched`, before the
            logarithm); "crop": the first T·stack spectra, silence behind the end of shorter recordings; "ragged":
            recordings end where they end, none may be longer than T steps, and spectra that its last step lacks are
            silent.
        loudness: "equal": every recording is divided by its root mean square first; "kept": it is not. Silence stays.
        cache: folder in which spectra are kept, under a key of options and samples.
    """

    T: int = 32
    stack: int = 1
    mels: int = 32
    window_ms: float = 25.0
    hop_ms: float = 10.0
    fmin: float = 0.0
    fmax: float | None = None
    fit: str = "stretch"
    loudness: str = "equal"
    cache: str | os.PathLike[str] | None = None

    def checked(self, where: str, rate: int) -> SoundOptions:
        """These options, if all are allowed for sound of ``rate`` samples a second."""
        integer(where, "T", self.T, 1, 10_000)
        integer(where, "stack", self.stack, 1, 1000)
        one_of(where, "fit", self.fit, FITS)
        one_of(where, "loudness", self.loudness, LOUDNESS)
        for name in ("window_ms", "hop_ms"):
            positive(where, name, getattr(self, name))
            integer(where, f"samples of {name}", round(rate * getattr(self, name) / 1000), 1, 2**19)
        if self.hop_ms > self.window_ms:
            must = "hop_ms must be at most window_ms, so that no sound goes unheard"
            raise bad_value(where, must, f"{self.hop_ms:g} and {self.window_ms:g}", "shorten the hop")
        for name in ("fmin", "fmax"):
            if getattr(self, name) is not None:
                in_range(where, name, getattr(self, name), 0, rate / 2)
        mel_filters(rate, 1 << (round(rate * self.window_ms / 1000) - 1).bit_length(), self.mels, self.fmin, self.fmax)
        return self

    def spectra(self, where: str, samples: np.ndarray, rate: int) -> np.ndarray:
        """Spectra ``[T·stack, mels]`` of one recording, float32; of "ragged" ones fewer, a multiple of ``stack``.

        Args:
            where: for messages. samples: ``[n]``, n >= 1: int16, which is divided by 32768, or floats as they are.
            rate: samples a second.

        Raises:
            TypeError, ValueError: as `mel_power`; a recording that is longer than "ragged" ones may be.
        """
        wave, wanted = floats_of(where, samples), self.T * self.stack
        if self.loudness == "equal" and wave.any():
            wave /= np.sqrt(np.square(wave).mean())
        power = mel_power(wave, rate, self.mels, self.window_ms, self.hop_ms, self.fmin, self.fmax)
        if self.fit == "stretch":
            return log_of(stretched(power, wanted))
        if self.fit == "ragged":
            steps = -(-len(power) // self.stack)
            if steps > self.T:
                must, todo = f"no recording may last more than T = {self.T} steps", f"set T={steps}, or fit='crop'"
                raise bad_value(where, must, steps, todo)
            wanted = steps * self.stack
        found = np.zeros((wanted, self.mels))
        found[: len(power)] = power[:wanted]
        return log_of(found)


def spectra_of(
    where: str, options: SoundOptions, recordings: Sequence[np.ndarray], rate: int, files: Iterable[Path]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Steps of all recordings, before they are normalised.

    Args:
        where: for messages. options: checked ones. recordings: int16 ``[n]`` each. rate: samples a second.
        files: what they were read from; names and contents are, with the options, the key of the cache.

    Returns:
        (float32 ``[N, T, 1, stack, mels]``; steps of each, int64 ``[N]``, of "ragged" ones, else None).

    Raises:
        ValueError: a recording that is longer than "ragged" ones may be.
    """

    def make() -> np.ndarray:
        found = np.zeros((len(recordings), options.T * options.stack + 1, options.mels), np.float32)
        for number, samples in enumerate(recordings):
            own = options.spectra(f"{where} recording {number}", samples, rate)
            found[number, 0] = len(own) // options.stack  # so that one array is kept
            found[number, 1 : len(own) + 1] = own
        return found

    settings = {key: value for key, value in asdict(options).items() if key != "cache"}
    folder = None if options.cache is None else Path(options.cache)
    files = list(files)
    settings |= {"set": where, "sound": 1, "rate": rate, "names": [path.name for path in files]}  # who says what
    kept = cached(folder, settings, files, make)
    shape = len(recordings), options.T, 1, options.stack, options.mels
    steps = kept[:, 0, 0].astype(np.int64) if options.fit == "ragged" else None
    return np.ascontiguousarray(kept[:, 1:]).reshape(shape), steps
