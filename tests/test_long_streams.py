"""Streams without an end: counters that stop, and events at their real rate whose spikes have a closed form.

BITSPIKE_STREAM_HOURS=24 makes the slow test a whole day of simulated time; by default it is ten minutes.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, ProgramError, Value
from bitspike.runtime.engine import why_missing
from bitspike.runtime.limits import MAX_COUNT
from programs.machines import one

pytestmark = pytest.mark.skipif(why_missing() is not None, reason="no native engine")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def counting(kind: str) -> Program:
    """A program of one operation that counts steps: its constants differ in the first two steps."""
    value = Value((3,), -9, 9, 0, 1)
    rows = np.array([[1], [3], [2]])
    if kind == "rescale":
        place = {"shift": 0, "low": -99, "high": 99, "exponent": 0}
        return one(kind, value, place, multiplier=rows, bias=rows)
    if kind == "fire":
        place = {"count": [2, 1, 3], "reset": "soft", "signed": True}
        return one(kind, value, place, first=rows + 2, spacing=rows + 2, charge=rows + 2)
    table = np.arange(3 * 19).reshape(3, 1, 19)
    return one(kind, value, {"first": -9, "exponent": 0}, table=table)


def at_time(program: Program, state: Any, when: int) -> Any:
    """The state as if so many steps had gone by."""
    index, name = 0, program.operations[0].op.name
    if program.engine.name == "native":
        memory, at = state.memory.copy(), program.engine.layout.states[index, "time"]  # type: ignore[attr-defined]
        assert int(memory[0, at : at + 8].view(np.int64)[0]) == 4
        memory[:, at : at + 8] = np.frombuffer(np.int64(when).tobytes(), np.uint8)
        return replace(state, memory=memory)
    part = state.parts[name]
    assert (part.time if hasattr(part, "time") else part) == 4
    return replace(state, parts={name: part._replace(time=when) if hasattr(part, "time") else when})


@pytest.mark.parametrize("kind", ["rescale", "fire", "lookup"])
def test_counters_of_steps_stop(kind: str) -> None:
    """At 2^31 - 1, in both engines; the last row of constants goes on."""
    spec = counting(kind).spec
    x = np.random.default_rng(0).integers(-9, 10, (4 + 6 + 6, 2, 3))
    out = []
    for engine in ("interpreter", "native"):
        program = Program(spec, engine)
        _, state = program.stream(x[:4])
        state = at_time(program, state, MAX_COUNT - 3)
        first, state = program.stream(x[4:10], state)
        second, state = program.stream(x[10:], state)
        out.append((first, second, *_time(program, state)))
    (a, b, *times), (c, d, *others) = out
    assert np.array_equal(a.levels, c.levels) and np.array_equal(b.levels, d.levels)
    assert times == others == [MAX_COUNT]
    plain = Program(spec, "interpreter")
    on, _ = plain.stream(x[4:10], plain.stream(x[:4])[1])
    assert np.array_equal(on.levels, c.levels)  # nobody sees how late it is


def _time(program: Program, state: Any) -> list[int]:
    if program.engine.name == "native":
        at = program.engine.layout.states[0, "time"]  # type: ignore[attr-defined]
        return [int(state.memory[0, at : at + 8].view(np.int64)[0])]
    part = state.parts[program.operations[0].op.name]
    return [part.time if hasattr(part, "time") else part]


@pytest.mark.parametrize("window", [1, 4])
def test_a_mean_refuses_what_it_cannot_count(window: int) -> None:
    """Its last step is number 2^31 - 1; one more is refused in both engines, and the state stays good."""
    spec = one("mean", Value((2,), -(2**31), 2**31 - 1, 0, window), {"keep": [0, 1]}).spec
    x = np.full((7, 2, 2), -(2**31))
    x[..., 1] = 2**31 - 1
    seen = []
    for engine in ("interpreter", "native"):
        program = Program(spec, engine)
        _, state = program.stream(x[:4])
        name = program.operations[0].op.name
        sums = [-(2**31) * (MAX_COUNT - 4), (2**31 - 1) * (MAX_COUNT - 4)]
        if engine == "native":
            layout, memory = program.engine.layout, state.memory.copy()  # type: ignore[attr-defined]
            for key, numbers in (("total", sums), ("counted", [MAX_COUNT - 4]), ("time", [MAX_COUNT - 3])):
                raw, at = np.array(numbers, np.int64).view(np.uint8), layout.states[0, key]
                memory[:, at : at + len(raw)] = raw
            state = replace(state, memory=memory)
        else:
            part = state.parts[name]
            total = np.broadcast_to(np.array(sums, np.int64), part.total.shape)
            state = replace(state, parts={name: part._replace(total=total, counted=MAX_COUNT - 4, seen=MAX_COUNT - 3)})
        with pytest.raises(ProgramError, match="a stream has at most 2147483647 steps"):
            program.stream(x, state)  # in one chunk, or in the second one
        full, last = program.stream(x[:3], state)
        with pytest.raises(ProgramError, match="a stream has at most 2147483647 steps"):
            program.stream(x[:1], last)
        seen.append((full.levels.tolist(), full.steps))
    bounds = [-(2**31) * (MAX_COUNT - 1), (2**31 - 1) * (MAX_COUNT - 1)]
    assert seen[0] == seen[1] == ([bounds, bounds], MAX_COUNT - 1)


STEP_MS, PERIOD, SIDE, THRESHOLDS = 1, 4093, 6, (7, 5)
RATE = 20.0
"""Events a second of every pixel and polarity: 1,440 in all, as a quiet scene before a small event camera."""


def camera(seed: int = 0) -> tuple[Any, Any, Any]:
    """(events [PERIOD, 2, SIDE, SIDE] of a period, weights of a convolution, weights of a linear map)."""
    random = np.random.default_rng(seed)
    events = random.poisson(RATE * STEP_MS / 1000, (PERIOD, 2, SIDE, SIDE)).clip(0, 3)
    return events, random.integers(0, 4, (4, 2, 3, 3)), random.integers(0, 3, (5, 4 * SIDE * SIDE))


def accumulator(window: int = 64) -> Program:
    """Events → convolution → integrate and fire → linear → integrate and fire → sum; nothing leaks, resets subtract."""
    _, near, far = camera()
    b = Builder(Input(Value((2, SIDE, SIDE), 0, 3, 0, window)))
    place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
    x = b.add("convolution", [INPUT], place, {"weight": b.constant(near, Grid(0, 3))})
    x = b.add("fire", [x], *_neuron(b, THRESHOLDS[0]))
    x = b.add("reshape", [x], {"shape": [4 * SIDE * SIDE]})
    x = b.add("linear", [x], tensors={"weight": b.constant(far, Grid(0, 2))})
    return b.finish(b.add("mean", [b.add("fire", [x], *_neuron(b, THRESHOLDS[1]))]))


def _neuron(b: Builder, threshold: int) -> tuple[dict[str, Any], dict[str, str]]:
    one_, top = b.constant(np.array([threshold])), {"count": [65535], "reset": "soft"}
    return top, {"first": one_, "spacing": one_, "charge": one_}


class ClosedForm:
    """Spikes so far of `accumulator` after any number of steps: whatever has come, divided by the thresholds."""

    def __init__(self) -> None:
        events, near, self.far = camera()
        padded = np.pad(events, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        currents = np.einsum("tcyxhw,ochw->toyx", windows, near).reshape(PERIOD, -1)
        self.sums = np.concatenate([np.zeros((1, currents.shape[1]), np.int64), currents.cumsum(0)])

    def __call__(self, steps: int) -> list[int]:
        periods, rest = divmod(steps, PERIOD)
        spikes = (self.sums[rest] + periods * self.sums[-1]) // THRESHOLDS[0]
        return ((self.far @ spikes) // THRESHOLDS[1]).tolist()  # type: ignore[no-any-return]


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_the_closed_form_is_that_of_the_interpreter() -> None:
    program, closed = Program(accumulator().spec, "interpreter"), ClosedForm()
    events, _, _ = camera()
    state, done = None, 0
    for length in (1, 63, 500, PERIOD):
        at = (done + np.arange(length)) % PERIOD
        result, state = program.stream(events[at][:, None], state)
        done += length
        assert result.levels.tolist() == [closed(done)] and result.steps == done
    assert min(closed(done)) > 100


@pytest.mark.slow
def test_a_day_of_events(capsys: pytest.CaptureFixture[str]) -> None:
    """Every spike that is due has come, none else, at any time; memory stays as it is after the first minute."""
    hours = float(os.environ.get("BITSPIKE_STREAM_HOURS", 1 / 6))
    total, chunk = int(hours * 3_600_000 / STEP_MS), 64 * 128
    program, closed = Program(accumulator().spec, "native", 1), ClosedForm()
    events, _, _ = camera()
    twice = np.concatenate([events] * (2 + chunk // PERIOD))[:, None].astype(np.uint8)
    state: Any = None
    done, early, start = 0, 0, time.perf_counter()
    checkpoints, workspace = 0, 0
    while done < total:
        length = min(chunk, total - done)
        at = done % PERIOD
        result, state = program.stream(twice[at : at + length], state)
        done += length
        if done // chunk % 16 == 1 or done == total:
            assert result.levels.tolist() == [closed(done)], f"drift after {done:,} steps"
            assert result.steps == done and not result.clamped
            checkpoints += 1
        if not early and done * STEP_MS >= 60_000:
            early, workspace = resident() if PAGE else 1, program.engine.memory["workspace_bytes"]
            size = state.memory.nbytes
    grown = resident() - early if PAGE else 0
    took = time.perf_counter() - start
    with capsys.disabled():
        print(
            f"\n{hours:.4g} h of events, {done:,} steps, {closed(done)[0]:,} spikes of the first class, {checkpoints} "
            f"checkpoints exact; {took:.1f} s, {hours * 3600 / took:,.0f} times real time; grown by {grown:,} bytes"
        )
    assert state.memory.nbytes == size and program.engine.memory["workspace_bytes"] == workspace
    assert grown < 2**20, f"memory grew by {grown:,} bytes"
