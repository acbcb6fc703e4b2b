"""Table [data.frames] of a recipe: how recordings of events become frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitspike.checks import in_range, integer, positive
from bitspike.schema import conform, differing


@dataclass(frozen=True, kw_only=True)
class FramesConfig:
    """Frames of recordings, as many as ``model.T``; see `bitspike.data.events.FrameOptions`.

    Args:
        by: steps of equal "time" or of equal "count"s of events.
        step_us: duration of a step from the first event on, by time only; None: T equal parts of each recording.
        form: "counts", "surface" (time surfaces) or "voxels".
        tau_us: of "surface", in microseconds.
        hot_hz: pixels with a greater rate are left out; None: none is.
        noise_us: events without a neighbour's in this time before are left out; None: none is.
        faults: "error", or "skip": what is faulty is left out and said in a warning.
    """

    by: Literal["time", "count"] = "time"
    step_us: int | None = None
    form: Literal["counts", "surface", "voxels"] = "counts"
    tau_us: float | None = None
    hot_hz: float | None = None
    noise_us: int | None = None
    faults: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        conform(self)
        for name in ("tau_us", "hot_hz"):
            if getattr(self, name) is not None:
                positive("FramesConfig", name, getattr(self, name))
                in_range("FramesConfig", name, getattr(self, name), 0, 10**9)
        for name in ("step_us", "noise_us"):
            if getattr(self, name) is not None:
                integer("FramesConfig", name, getattr(self, name), 1, 10**9)

    def given(self) -> dict[str, object]:
        """What differs from the defaults, which are those of every set.

        >>> FramesConfig(by="count", form="counts").given()
        {'by': 'count'}
        """
        return differing(self)
