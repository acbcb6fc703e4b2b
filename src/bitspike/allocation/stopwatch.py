"""A latency budget over a run: its table, and a factor that measurements of the compiled network correct it by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bitspike.allocation.check import evaluating
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.latency import Latency, network_digest
from bitspike.allocation.times import Times
from bitspike.allocation.timing import Clock, Counted, measured_times

SAME = 0.01
"""Change of the factor that counts as none."""


@dataclass(frozen=True)
class Watch:
    """How a run comes to its times.

    Attributes:
        clock: of this machine. times: the table, None to measure one. keep: called with one that was measured.
        counted: progress of measuring.
    """

    clock: Clock
    times: Times | None = None
    keep: Callable[[Times], None] | None = None
    counted: Counted | None = None


class Stopwatch:
    """Gives a forecast its latency, and measures the network whenever it is asked to.

    Args:
        forecast: of the network; it gets its `Latency`. sample: a batch. watch: clock and table.

    Raises:
        ValueError: the network does not compile, or the table is of another machine, engine or network.
    """

    def __init__(self, forecast: Forecast, sample: Tensor, watch: Watch) -> None:
        self.forecast: Forecast = forecast
        self.clock: Clock = watch.clock
        if watch.times is None:
            with evaluating(forecast.allocation.model):
                times = measured_times(forecast, sample, watch.clock, watch.counted)
            if watch.keep is not None:
                watch.keep(times)
        else:
            times = watch.times
            times.check("[allocation] budget latency", watch.clock.machine, network_digest(forecast))
        self.times = times
        self.latency: Latency = Latency(forecast, times)
        forecast.latency = self.latency
        self.measured_ms: float | None = None
        self._factors: list[float] = []

    def time(self) -> bool:
        """Measure the network as it is, and let the forecast of its latency be that; whether this was news."""
        state, latency = self.forecast.state, self.latency
        with evaluating(self.forecast.allocation.model):
            timed = self.clock([copy.deepcopy(self.forecast.allocation.model)])[0]
        self.measured_ms = timed.whole * self.times.reference_ms
        before = latency.factor
        latency.factor = before * self.measured_ms / latency(state)
        self._factors.append(latency.factor)
        return abs(latency.factor / before - 1) > SAME

    def be_safe(self) -> None:
        """Correct by the greatest factor that was seen, where one after another led astray."""
        self.latency.factor = max(self._factors)

    def capture(self) -> dict[str, Any]:
        """Facts for a checkpoint, beside the table."""
        return {"factor": self.latency.factor, "factors": self._factors, "measured_ms": self.measured_ms}

    def restore(self, facts: dict[str, Any]) -> None:
        """The inverse of `capture`."""
        self.latency.factor, self.measured_ms = facts["factor"], facts["measured_ms"]
        self._factors = list(facts["factors"])

    def record(self) -> dict[str, Any]:
        """What a repair says of the latency: ms as forecast from the table and as measured, and the factor in use."""
        state, latency = self.forecast.state, self.latency
        return {
            "forecast_ms": latency(state) / latency.factor,
            "measured_ms": self.measured_ms,
            "factor": latency.factor,
        }
