"""Latencies, and what the engine says of its groups: work counted by hand, times that add up, the peak."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, ProgramError, Value
from bitspike.runtime.bench import bench, random_samples
from bitspike.runtime.engine import available_isas
from programs.golden import golden, images
from programs.residual import resnet

ISAS = available_isas()
engine_only = pytest.mark.skipif(not ISAS, reason="no native engine")


def network(repeat: bool, steps: int = 3, groups: int = 1) -> Program:
    """4 channels of 5×6 → convolution 3×3 to 6 channels of 3×4 → fire → 10 classes."""
    b = Builder(Input(Value((4, 5, 6), 0, 3, 0, steps), repeat=repeat))
    weight = b.constant(np.ones((6, 4 // groups, 3, 3), np.int64), Grid(0, 1))
    place = {"stride": [1, 1], "before": [0, 0], "after": [0, 0], "dilation": [1, 1], "groups": groups}
    x = b.add("convolution", [INPUT], place, {"weight": weight}, name="conv")
    tensors = {"first": b.constant(np.array([4])), "charge": b.constant(np.array([4]))}
    s = b.add("fire", [x], {"count": [1], "reset": "soft"}, tensors)
    flat = b.add("reshape", [s], {"shape": [72]})
    classes = b.constant(np.ones((10, 72), np.int64), Grid(0, 1))
    return b.finish(b.add("mean", [b.add("linear", [flat], tensors={"weight": classes}, name="head")]))


@engine_only
@pytest.mark.parametrize("isa", ISAS)
def test_work_is_counted(isa: str) -> None:
    """6·4·9 products at 12 places, 720 of the classifier, for 3 steps; equal steps of the input are computed once."""
    for repeat, groups, wanted in ((False, 1, [7776, 2160]), (True, 1, [2592, 2160]), (False, 2, [3888, 2160])):
        rows = Program(network(repeat, groups=groups).spec, "native", 1, isa).engine.rows
        assert [(row.layer, row.macs) for row in rows if row.macs] == list(zip(("conv", "head"), wanted, strict=True))
        assert all((row.weight_bytes > 0) == (row.macs > 0) for row in rows)
        assert all(row.form and row.why for row in rows if row.macs)
        assert [kind for _, kind in rows[0].operations] == ["convolution", "fire"]
    long = Program(network(True, 130).spec, "native", 1, isa).engine
    assert long.rows[0].macs == 3 * 2592  # chunks of 64 steps, each computes the still image once


@engine_only
@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_adds_up_and_changes_nothing(threads: int) -> None:
    program = Program(resnet(steps=2).spec, "native", threads)
    x = program.sequence(np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
    engine: Any = program.engine
    plain, _ = engine.step(x, None)
    start = time.perf_counter_ns()
    spent = engine.profile(x)
    whole = time.perf_counter_ns() - start
    assert len(spent) == len(engine.rows) + 2 and 0 < spent.sum() <= whole
    assert all(ns > 0 for ns, row in zip(spent, engine.rows, strict=False) if row.macs)
    twice = np.zeros_like(spent)
    for _ in range(2):
        profiled, state = engine.step(x, None, twice)
    assert np.array_equal(plain, profiled) and np.array_equal(engine.step(x, None)[1].memory, state.memory)
    assert twice.sum() > spent.min()


@engine_only
@pytest.mark.parametrize("isa", ISAS)
def test_the_peak_is_measured(isa: str) -> None:
    """Some figure between a toy's and one no CPU of today has."""
    engine: Any = Program(golden().spec, "native", 1, isa).engine
    assert 1e7 < engine.peak(1) < 1e14


@engine_only
@pytest.mark.skipif("avx2" not in ISAS, reason="no AVX2 here")
def test_the_peak_is_that_of_the_instruction_set() -> None:
    """Dot products of bytes do 32 products at a time; plain C++ is far from that, even where it is compiled well."""
    peaks = [Program(golden().spec, "native", 1, isa).engine.peak(5) for isa in ("scalar", "avx2")]  # type: ignore[call-arg]
    assert peaks[1] > 2 * peaks[0]


@pytest.mark.parametrize("engine", ["interpreter", "auto"])
@pytest.mark.parametrize("repeat", [True, False])
def test_latencies(repeat: bool, engine: str) -> None:
    program = Program(network(repeat).spec, engine)
    found = bench(program, batches=(1, 5), calls=4, warmup=1)
    document = found.as_dict()
    assert [(row["batch"], row["calls"], row["warmup_calls"]) for row in document["latency"]] == [(1, 4, 1), (5, 4, 1)]
    for row in document["latency"]:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["samples_per_s"] == pytest.approx(1000 * row["batch"] / row["p50_ms"])
    assert "p50 ms" in str(found)
    if program.engine.name == "native":
        assert document["macs"] == sum(row["macs"] for row in document["groups"])
        shares = sum(row["time_share"] for row in document["groups"])
        assert 0 < shares < 1 and document["inside_ms"] > document["input_ms"] > 0 and "of peak" in str(found)
    else:
        assert document["groups"] == [] and document["macs"] is document["peak_macs_per_s"] is None


def test_samples_are_used_again_and_checked() -> None:
    program = golden()
    one = images()[:1]
    assert bench(program, one, (3,), calls=1, warmup=0).as_dict()["latency"][0]["batch"] == 3
    levels = random_samples(program, 2)
    given = program.spec.input.value
    assert levels.shape == (2, *given.shape) and given.low <= levels.min() and levels.max() <= given.high
    for options, words in (
        ({"x": one[:, :1]}, "samples must be"),
        ({"batches": (0,)}, "batch must be an integer from 1"),
        ({"calls": 0}, "calls must be an integer from 1"),
        ({"warmup": -1}, "warmup must be an integer from 0"),
    ):
        with pytest.raises(ProgramError, match=words):
            bench(program, **options)  # type: ignore[arg-type]


def test_slow_calls_end_early() -> None:
    """A few are timed whatever they take, and it is said how many."""
    found = bench(Program(network(True).spec, "interpreter"), batches=(1,), calls=10_000, warmup=100, seconds=0.0)
    row = found.as_dict()["latency"][0]
    assert row["calls"] == 3 and row["warmup_calls"] == 1
