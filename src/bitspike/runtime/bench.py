"""How long a program takes: latencies of whole calls, and where the native engine spends its time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arithmetic import Array
from .engine import Row
from .errors import fault
from .program import Program
from .text import columns

MAX_CALLS = 1_000_000
MAX_BATCH = 2**20
_LEAST = 3
"""Calls that are timed however long they take."""


@dataclass(frozen=True)
class Latency:
    """Calls ``program(x)`` with so many samples, as their caller sees them.

    Attributes:
        batch: samples a call. warmup: calls before. times_ms: of every call.
    """

    batch: int
    warmup: int
    times_ms: Array

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        p50, p90, p99 = (float(p) for p in np.percentile(self.times_ms, (50, 90, 99)))
        return {
            "batch": self.batch,
            "calls": len(self.times_ms),
            "warmup_calls": self.warmup,
            "min_ms": float(self.times_ms.min()),
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "mean_ms": float(self.times_ms.mean()),
            "samples_per_s": 1000 * self.batch / p50,
        }


@dataclass(frozen=True)
class Bench:
    """What `bench` measured.

    Attributes:
        engine: which one, and why. memory: bytes of the native engine. latencies: for every size of a batch. rows:
            groups. times_ms: median of each, then of input and output, one sample at a time. peak: multiply-accumulates
            a second of the machine; 0 where there are no groups.
    """

    engine: dict[str, Any]
    memory: dict[str, int]
    latencies: tuple[Latency, ...]
    rows: tuple[Row, ...] = ()
    times_ms: tuple[float, ...] = ()
    peak: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values with stable keys; docs/cli.md says what they are."""
        groups = [
            {**row.as_dict(), "time_ms": ms, "time_share": self._share(ms), "peak_share": self._of_peak(row.macs, ms)}
            for row, ms in zip(self.rows, self.times_ms, strict=False)
        ]
        return {
            "engine": self.engine,
            "memory": self.memory,
            "latency": [each.as_dict() for each in self.latencies],
            "groups": groups,
            "input_ms": self.times_ms[-2] if self.times_ms else None,
            "output_ms": self.times_ms[-1] if self.times_ms else None,
            "inside_ms": sum(self.times_ms) if self.times_ms else None,
            "macs": sum(row.macs for row in self.rows) if self.rows else None,
            "peak_macs_per_s": self.peak or None,
            "peak_share": self._of_peak(sum(row.macs for row in self.rows), sum(self.times_ms)),
        }

    def __str__(self) -> str:
        latency: list[list[object]] = [["batch", "calls", "min ms", "p50 ms", "p90 ms", "p99 ms", "samples/s"]]
        for each in self.latencies:
            found = each.as_dict()
            times = [f"{found[key]:.3f}" for key in ("min_ms", "p50_ms", "p90_ms", "p99_ms")]
            latency.append([each.batch, found["calls"], *times, f"{found['samples_per_s']:,.0f}"])
        parts = [columns(latency)]
        if self.rows:
            parts += ["", columns(self._groups(), left=(0, 1, 2)), self._sum()]
        return "\n".join(parts)

    def _groups(self) -> list[list[object]]:
        table: list[list[object]] = [["group", "runs", "multiplies", "MAC", "ms", "time %", "of peak %"]]
        for row, ms in zip(self.rows, self.times_ms, strict=False):
            kinds = " → ".join(kind for _, kind in row.operations)
            share = f"{100 * (self._of_peak(row.macs, ms) or 0):.1f}" if row.macs else ""
            macs = f"{row.macs:,}" if row.macs else ""
            table.append([row.layer, kinds, row.form, macs, f"{ms:.4f}", f"{100 * self._share(ms):.1f}", share])
        for name, ms in zip(("input", "output"), self.times_ms[-2:], strict=True):
            table.append([name, "", "", "", f"{ms:.4f}", f"{100 * self._share(ms):.1f}", ""])
        return table

    def _sum(self) -> str:
        macs, ms = sum(row.macs for row in self.rows), sum(self.times_ms)
        isa, threads = self.engine["isa"], self.engine["threads"]
        share = 100 * (self._of_peak(macs, ms) or 0)
        return (
            f"in all {macs:,} MAC in {ms:.3f} ms inside a call for one sample: {share:.1f} % of the "
            f"{self.peak / 1e9:,.1f} billion MAC/s that {isa} does here at best, {threads} thread{'s' * (threads > 1)}"
        )

    def _share(self, ms: float) -> float:
        return ms / max(sum(self.times_ms), 1e-9)

    def _of_peak(self, macs: int, ms: float) -> float | None:
        return macs / (ms / 1000) / self.peak if macs and ms and self.peak else None


def random_samples(program: Program, batch: int, seed: int = 0) -> Array:
    """Integers of the input's whole alphabet, any as likely as another: [B, ...], or [steps, B, ...] of a sequence."""
    given, value = program.spec.input, program.spec.input.value
    lead = (batch,) if given.repeat else (value.steps, batch)
    random = np.random.default_rng(seed)
    return random.integers(value.low, value.high, (*lead, *value.shape), endpoint=True).astype(value.dtype)


def bench(
    program: Program,
    x: Any = None,
    batches: Sequence[int] = (1, 32),
    calls: int = 200,
    warmup: int = 20,
    seconds: float = 10.0,
) -> Bench:
    """Time a program.

    Args:
        program: with its engine. x: samples as it takes them, used again and again; None: random integers.
        batches: samples a call. calls: that are timed for each of them; warmup: calls before.
        seconds: for the calls of one size of a batch at most; a few are made in any case, and how many is said.

    Raises:
        ProgramError: a number out of range, or x is not what the program takes.
    """
    for name, number, low, high in (("calls", calls, 1, MAX_CALLS), ("warmup", warmup, 0, MAX_CALLS)):
        _count(name, number, low, high)
    given = program.sequence(random_samples(program, max([*batches, 1])) if x is None else x)
    latencies = tuple(_latency(program, given, batch, calls, warmup, seconds) for batch in batches)
    engine = program.engine
    rows = engine.rows
    if not rows:
        return Bench(engine.facts, engine.memory, latencies)
    one = _take(program, given, 1)
    sequence = program.sequence(one)
    for _ in range(warmup):
        engine.profile(sequence)
    until, spent = time.perf_counter() + seconds, [engine.profile(sequence)]
    while len(spent) < calls and time.perf_counter() < until:
        spent.append(engine.profile(sequence))
    times = np.median(np.array(spent), 0) / 1e6
    return Bench(engine.facts, engine.memory, latencies, rows, tuple(times.tolist()), engine.peak())


def _count(name: str, number: object, low: int, high: int) -> None:
    if type(number) is not int or not low <= number <= high:
        raise fault("bench", f"{name} must be an integer from {low:,} to {high:,}", repr(number), "correct it")


def _take(program: Program, levels: Array, batch: int) -> Array:
    """So many samples of [steps, B, ...], again from the start where there are fewer, in the form the call takes."""
    at = np.arange(batch) % levels.shape[1]
    if program.spec.input.repeat:
        return np.ascontiguousarray(levels[0][at])
    return np.ascontiguousarray(levels[:, at])


def _latency(program: Program, levels: Array, batch: int, calls: int, warmup: int, seconds: float) -> Latency:
    _count("batch", batch, 1, MAX_BATCH)
    x = _take(program, levels, batch)
    clock, until, done = time.perf_counter_ns, time.perf_counter() + seconds, 0
    while done < warmup and (not done or time.perf_counter() < until):
        program(x, batch)
        done += 1
    until, times = time.perf_counter() + seconds, list[int]()
    while len(times) < calls and (len(times) < _LEAST or time.perf_counter() < until):
        start = clock()
        program(x, batch)
        times.append(clock() - start)
    return Latency(batch, done, np.array(times) / 1e6)
