"""librosa's side: reads samples and settings from an npz file, writes filters and energies to another one."""

from __future__ import annotations

import json
import sys

import librosa
import numpy as np


def main(given: str, out: str) -> None:
    held = np.load(given)
    found: dict[str, np.ndarray] = {"version": np.frombuffer(librosa.__version__.encode(), np.uint8)}
    for name in (name for name in held.files if name.endswith(".json")):
        key, (rate, mels, window, hop, fmin, fmax) = name.removesuffix(".json"), json.loads(held[name].tobytes())
        size = 1 << (window - 1).bit_length()
        bands = {"sr": rate, "n_fft": size, "n_mels": mels, "fmin": fmin, "fmax": fmax, "htk": True, "norm": None}
        found[f"{key}.filters"] = librosa.filters.mel(**bands, dtype=np.float64)
        # librosa puts a short window into the middle of its transform; magnitudes do not know where it stands
        left = (size - window) // 2
        padded = np.concatenate([np.zeros(left), held[f"{key}.samples"], np.zeros(size - window - left)])
        made = librosa.feature.melspectrogram(
            y=padded, win_length=window, hop_length=hop, window="hann", center=False, power=2.0, **bands
        )
        found[f"{key}.power"] = made.T
    np.savez(out, **found)


main(*sys.argv[1:])
