"""Example: a compiled program on a live source, with its running prediction and latency.

Usage: python benchmarks/events/live.py
       python benchmarks/events/live.py [RECORDING] --model MODEL.bitspike [--size H W] [--step-us 1000] [--speed 1]
           [--port N] [--restart STEPS] [--top 1] [--wait 0]

A RECORDING (.bin of N-MNIST, or .npz with t, x, y, p) is replayed in real time; with --port the events come from a
program that sends them to that port of the loopback (`bitspike.data.events.send_events`). Without all that a network
learns for some seconds which way a bar moves, and then sees five bars, 0.4 seconds each (`live_toy`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bitspike.data.events import EventListener, LiveFrames, read_bin, read_npz_events, replay, run_live
from bitspike.runtime import Program, load


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("recording", type=Path, nargs="?")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(34, 34), metavar=("H", "W"))
    parser.add_argument("--step-us", type=int, default=1000)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--port", type=int)
    parser.add_argument("--restart", type=int)
    parser.add_argument("--top", type=int, default=1)
    parser.add_argument("--wait", type=int, default=0)
    given = parser.parse_args(arguments)
    if given.model is None:
        if given.recording is not None or given.port is not None:
            parser.error("give --model, too, or nothing at all")
        toy(given)
        return
    if (given.recording is None) == (given.port is None):
        parser.error("give either a recording or --port")
    program, size = load(given.model), tuple(given.size)
    if given.port is not None:
        with EventListener(given.port) as source:
            print(f"listening on port {source.port}", flush=True)
            show(program, source, size, given)
        return
    read = read_npz_events if given.recording.suffix == ".npz" else read_bin
    show(program, replay(read(given.recording, size), given.speed, given.step_us), size, given)


def toy(given: argparse.Namespace) -> None:
    """Bars that move, in real time, and a program that is asked every 0.2 s which way."""
    import live_toy

    print("training a network on bars that move to the left or to the right", flush=True)
    program = live_toy.program()
    ways = np.array([0, 1, 1, 0, 1])
    events = live_toy.bars(np.random.default_rng(1), ways, 400_000)
    print(f"now live, 0.4 s each: {', '.join(live_toy.CLASSES[way] for way in ways)}", flush=True)
    given.step_us, given.restart = live_toy.STEP_US, live_toy.T
    show(program, replay(events, given.speed, given.step_us, start_us=0), live_toy.SIZE, given)


def show(program: Program, source: Iterable[object], size: tuple[int, int], given: argparse.Namespace) -> None:
    """A line a step, on one place of a terminal; then the latencies in sum."""
    _, *frames = program.spec.input.value.shape
    steps = LiveFrames(source, size, given.step_us, start_us=None, frames=tuple(frames), wait=given.wait)
    names, end = program.spec.classes, "\r" if sys.stdout.isatty() else "\n"
    latencies: list[float] = []
    for live in run_live(program, steps, top=given.top, restart=given.restart):
        name = "-" if live.prediction is None else names[live.prediction] if names else live.prediction
        print(f"{live.end_us / 1e6:10.3f} s  {name!s:12} {1e3 * live.latency_s:8.3f} ms", end=end, flush=True)
        latencies = [*latencies[-9999:], live.latency_s]
    if latencies:
        half, most = 1e3 * np.percentile(latencies, [50, 99])
        print(f"\nlatency of the last {len(latencies)} steps: median {half:.3f} ms, 99 of 100 below {most:.3f} ms")


if __name__ == "__main__":
    main()
