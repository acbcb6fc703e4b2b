"""Small files of sound in the layout of the Free Spoken Digit Dataset."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

SPEAKERS = ("ann", "bob", "eve")
NUMBERS = (0, 4, 5, 11, 12, 13)
VALIDATION = 20


def spoken(digit: int, speaker: int, number: int) -> np.ndarray:
    """Noise around a tone of the digit's own pitch, int16, of 300 to 1099 samples."""
    rng = np.random.default_rng((digit, speaker, number))
    count = int(rng.integers(300, 1100))
    tone = np.sin(2 * np.pi * (300 + 300 * digit) * np.arange(count) / 8000)
    return (4000 * tone + 1500 * rng.standard_normal(count)).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def fsdd(root: Path) -> None:
    """180 recordings as files of sound: 60 of them, numbers 0 and 4, are tested on."""
    for digit in range(10):
        for speaker, name in enumerate(SPEAKERS):
            for number in NUMBERS:
                write_wav(root / "fsdd" / "recordings" / f"{digit}_{name}_{number}.wav", spoken(digit, speaker, number))


def packed(root: Path, **changed: np.ndarray) -> Path:
    """The same recordings as an archive of differences, in another order."""
    rows = [(d, s, n) for s in (2, 0, 1) for n in NUMBERS for d in range(10)]
    sounds = [spoken(*row) for row in rows]
    stream = np.concatenate(sounds).view(np.uint16)
    delta = np.diff(stream, prepend=np.uint16(0))
    columns = np.array(rows)
    members = {
        "delta_hi": (delta >> 8).astype(np.uint8),
        "delta_lo": (delta & 255).astype(np.uint8),
        "offsets": np.cumsum([0, *map(len, sounds)]),
        "labels": columns[:, 0].astype(np.uint8),
        "speakers": columns[:, 1].astype(np.uint8),
        "indices": columns[:, 2].astype(np.uint8),
        "speaker_names": np.frombuffer("\n".join(SPEAKERS).encode(), np.uint8),
    }
    path = root / "fsdd" / "fsdd.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{**members, **changed})
    return path
