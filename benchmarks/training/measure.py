"""Pairs A, B, A, B …, the rule for disturbed samples, medians and the interval of the ratio."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAUSE_S = 0.05  # between samples: a library's idle threads spin for some milliseconds after its turn
DISTURBED = 0.05  # share of all cores that others may take during a sample …
SLACK_S = 0.02  # … beyond two ticks of the system's clock
RESAMPLES = 10_000
RULE = (
    f"a sample is disturbed if the CPU time of all other processes, steal included, exceeds {DISTURBED:.0%} of all "
    f"cores plus {SLACK_S * 1e3:.0f} ms; its pair is dropped, counted and repeated, up to three times as many pairs"
)


@dataclass(frozen=True)
class Sample:
    """One reading: ms per call, and whether others were in the way (None: the system does not tell)."""

    ms: float
    disturbed: bool | None


@dataclass
class Pairs:
    """The pairs of a comparison: ours and the other's ms per call.

    Args:
        kept: pairs that count. dropped: disturbed pairs that do not. disturbed: disturbed pairs that were kept.
    """

    kept: list[tuple[float, float]] = field(default_factory=list)
    dropped: int = 0
    disturbed: int = 0


Take = Callable[[], Sample]


def as_sample(answer: dict[str, Any]) -> Sample:
    """A worker's answer to `run`."""
    others, cores = answer["others_s"], os.cpu_count() or 1
    return Sample(answer["ms"], None if others is None else others > DISTURBED * answer["wall_s"] * cores + SLACK_S)


def alternate(ours: Take, other: Take, pairs: int, keep_disturbed: bool = False) -> Pairs:
    """Pairs until enough are undisturbed or three times as many were tried."""
    found = Pairs()
    for _ in range(pairs if keep_disturbed else 3 * pairs):
        readings = []
        for take in (ours, other):
            time.sleep(PAUSE_S)
            readings.append(take())
        disturbed = any(one.disturbed for one in readings)
        if disturbed and not keep_disturbed:
            found.dropped += 1
            continue
        found.disturbed += disturbed
        found.kept.append((readings[0].ms, readings[1].ms))
        if len(found.kept) == pairs:
            break
    return found


def summary(found: Pairs, slower: bool) -> dict[str, Any]:
    """Medians, and the median of the pairs' ratios with its 90 % bootstrap interval.

    Args:
        slower: ratios are ours/other instead of other/ours.
    """
    ratios = [a / b if slower else b / a for a, b in found.kept]
    low, high = interval(ratios)
    return {
        "ours_ms": _short(statistics.median(a for a, _ in found.kept)),
        "other_ms": _short(statistics.median(b for _, b in found.kept)),
        "ratio": _short(statistics.median(ratios)),
        "ratio_low": _short(low),
        "ratio_high": _short(high),
        "pairs": len(found.kept),
        "dropped_pairs": found.dropped,
        "disturbed_pairs_kept": found.disturbed,
        "samples_ms": [[_short(a), _short(b)] for a, b in found.kept],
    }


def interval(values: list[float]) -> tuple[float, float]:
    """5th and 95th percentile of the medians of resampled values; the same for the same values."""
    drawn = random.Random(0)
    medians = sorted(statistics.median(drawn.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[RESAMPLES // 20], medians[-RESAMPLES // 20]


def _short(value: float) -> float:
    return float(f"{value:.5g}")
