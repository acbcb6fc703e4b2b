"""The fastest of several settings, found once and kept in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from .base import Array, Call, Order

SECONDS = 0.4


def least_ms(call: Call, x: Array) -> float:
    """The least time of some calls; other work on the machine does not make it less."""
    for _ in range(3):
        call(x)
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        begun = time.perf_counter()
        call(x)
        best = min(best, time.perf_counter() - begun)
    return best * 1e3


def fastest(order: Order, settings: Mapping[str, Callable[[], Call]], x: Array) -> tuple[str, dict[str, float]]:
    """(name of the fastest setting, ms of all), from the cache where they are known."""
    kind = order.peer.removesuffix("-f32")  # one whose settings are some of the other's
    path = order.cache / "contests" / f"{order.folder.name}-{kind}-b{order.batch}-t{order.threads}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    found = {name: known[name] if name in known else least_ms(make(), x) for name, make in settings.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | found))
    return min(found, key=lambda name: found[name]), found
