"""Cutting runs, and comparing what came of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bitspike.training.loop import Run


class CutError(Exception):
    """The cut."""


def cut_after(reports: int) -> Callable[[dict[str, float]], None]:
    """A ``progress`` that stops the run at its n-th report."""
    seen = [0]

    def progress(_: dict[str, float]) -> None:
        seen[0] += 1
        if seen[0] == reports:
            raise CutError

    return progress


def curve(run: Run) -> list[dict[str, Any]]:
    """Its history without times."""
    return [{k: v for k, v in record.items() if k != "time_s"} for record in run.history]


def equal(a: Run, b: Run) -> bool:
    """Curve, weights and best weights, bit for bit."""
    for left, right in ((a.model.state_dict(), b.model.state_dict()), (a.best, b.best)):
        if left.keys() != right.keys() or not all(value.equal(right[name]) for name, value in left.items()):
            return False
    return curve(a) == curve(b)
