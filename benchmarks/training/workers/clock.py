"""How long other processes ran beside a sample, as the system's own accounting tells it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def busy_s() -> float | None:
    """Seconds that all cores have worked since the start of the machine, stolen ones included; None if not told."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def others_s() -> Callable[[], float | None]:
    """Starts a reading; the result, called later, gives the CPU seconds taken meanwhile by all but this process."""
    busy, own = busy_s(), time.process_time()

    def read() -> float | None:
        now, own_s = busy_s(), time.process_time() - own
        return None if busy is None or now is None else max(0.0, now - busy - own_s)

    return read
