"""A network or a program on a live source: a prediction a step, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bitspike.checks import bad_type, bad_value, integer
from bitspike.data.events.live.framing import LiveStep
from bitspike.graph import Graph, trace
from bitspike.runtime import Program, Result
from bitspike.stream import stream

_WHERE = "run_live"
LARGEST_TOP = 2**24
Step = Callable[[np.ndarray, Any], tuple[Any, Any]]


class Live(NamedTuple):
    """After one step of the source.

    Attributes:
        step, end_us: number of the step, and where it ends in the source's time.
        prediction: class with the most so far, the lower of equal ones; None before any class has more than another,
            for an output that is no mean read-out, and for several outputs.
        output: what the program or the network gave: `bitspike.runtime.Result`, or a tensor; of several a dict of them,
            by name, or what the network returns.
        latency_s: from the moment when the step was over (`LiveStep.closed_s`) to this output.
    """

    step: int
    end_us: int
    prediction: int | None
    output: Any
    latency_s: float


def run_live(
    net: Program | nn.Module | Graph, steps: Iterable[LiveStep], *, top: int = 1, restart: int | None = None
) -> Iterator[Live]:
    """Feed frames to a compiled program (`Program.stream`) or a network (`bitspike.stream`) as they come.

    The outputs are those of one call with all frames, in integers where a program runs. Memory stays the same however
    long the source runs.

    Args:
        net: a program, a network in evaluation mode, or its traced graph; its input is one frame, [C, H', W'].
        steps: `LiveFrames`, or others of its kind.
        top: what counts are divided by, 1 to 2^24: that of the `SequenceSet` the network was trained on.
        restart: begin with a new state after so many steps, so that predictions follow what is seen; None: a mean
            read-out averages over all steps since the begin.

    Raises:
        TypeError, ValueError: at once, an argument that is not allowed, a network in training mode; while it runs, what
            the source, the program or the network refuses.
    """
    integer(_WHERE, "top", top, 1, LARGEST_TOP)
    if restart is not None:
        integer(_WHERE, "restart", restart, 1, 2**31 - 1)
    return _outputs(_program(net, top) if isinstance(net, Program) else _network(net, top), steps, restart)


def _outputs(feed: Step, steps: Iterable[LiveStep], restart: int | None) -> Iterator[Live]:
    state, seen = None, 0
    for number, end_us, frame, closed in steps:
        if restart is not None and seen == restart:
            state, seen = None, 0
        output, state = feed(frame[None, None], state)
        seen += 1
        yield Live(number, end_us, _class(output), output, time.perf_counter() - closed)


def _program(program: Program, top: int) -> Step:
    """Frames as the numbers that the program quantizes, or as its integers where it takes no others."""
    whole = program.spec.input.scale is None
    if whole and top != 1:
        todo = "leave top out"
        raise bad_value(_WHERE, "top must be 1 for a program that takes integers", top, todo)

    def feed(frame: np.ndarray, state: Any) -> tuple[Any, Any]:
        return program.stream(frame if whole else frame.astype(np.float32) / np.float32(top), state)

    return feed


def _network(net: nn.Module | Graph, top: int) -> Step:
    if not isinstance(net, (nn.Module, Graph)):
        must = "net must be a program, a network or its graph"
        raise bad_type(_WHERE, must, type(net).__name__, "load or build one")
    graph = net if isinstance(net, Graph) else trace(net)
    if graph.model.training:
        raise bad_value(_WHERE, "the network must be in evaluation mode", "training mode", "call net.eval()")
    like = next(graph.model.parameters(), torch.zeros(()))

    def feed(frame: np.ndarray, state: Any) -> tuple[Any, Any]:
        x = torch.from_numpy(frame.astype(np.float32) / np.float32(top))
        with torch.no_grad():
            return stream(graph, x.to(like.device, like.dtype), state)

    return feed


def _class(output: Any) -> int | None:
    """The class with the most of a mean read-out [1, K]; none of several outputs."""
    if isinstance(output, (Mapping, list, tuple)):
        return None
    levels = output.levels if isinstance(output, Result) else output.detach().cpu().numpy()
    if levels.ndim != 2 or levels.shape[0] != 1 or levels.min() == levels.max():
        return None
    return int(levels[0].argmax())
