"""Table [data.sound] of a recipe: how recordings of sound become spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitspike.checks import at_least, integer, positive, single
from bitspike.schema import conform, differing


@dataclass(frozen=True, kw_only=True)
class SoundConfig:
    """Spectra of sound in mel bands, ``model.T`` steps of them; see `bitspike.data.sound.SoundOptions`.

    Args:
        stack: spectra a step. mels: bands. window_ms, hop_ms: of the spectra, in milliseconds.
        fmin, fmax: of the bands, in hertz; None: half the sampling rate.
        fit: "stretch" (equal shares of each recording), "crop" (its beginning) or "ragged" (all of it).
        loudness: "equal", or as it is "kept".
    """

    stack: int = 1
    mels: int = 32
    window_ms: float = 25.0
    hop_ms: float = 10.0
    fmin: float = 0.0
    fmax: float | None = None
    fit: Literal["stretch", "crop", "ragged"] = "stretch"
    loudness: Literal["equal", "kept"] = "equal"

    def __post_init__(self) -> None:
        conform(self)
        single("SoundConfig", self)
        integer("SoundConfig", "stack", self.stack, 1, 1000)
        integer("SoundConfig", "mels", self.mels, 1, 2**12)
        for name in ("window_ms", "hop_ms"):
            positive("SoundConfig", name, getattr(self, name))
        at_least("SoundConfig", "fmin", self.fmin, 0)
        if self.fmax is not None:
            positive("SoundConfig", "fmax", self.fmax)

    def given(self) -> dict[str, object]:
        """What differs from the defaults, which are those of every set.

        >>> SoundConfig(stack=4, mels=32).given()
        {'stack': 4}
        """
        return differing(self)
