"""The clock of latency budgets: a network is folded, compiled and run on this machine, in turns with a reference."""

from __future__ import annotations

import copy
import hashlib
import platform
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.allocation.timing import Timed
from bitspike.checks import bad_value
from bitspike.fold.folding import fold
from bitspike.graph import Graph, Node
from bitspike.layers import Encoder
from bitspike.lower.compiling import compile as lower
from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value
from bitspike.runtime.engine.library import available_isas, library, why_missing

WHERE = "[allocation] budget latency"
_ROUNDS = 15
"""At least, however long they take."""
_CALIBRATION = 16
_AT_ONCE_BYTES = 2**27
"""Constants of programs that run in turns: more than that are timed in several lots."""


class Compiled(NamedTuple):
    """A program, a sample as it takes it, and as its engine does."""

    program: Program
    given: Any
    levels: Any

    @property
    def size_bytes(self) -> int:
        """Of its constants."""
        return sum(constant.array.nbytes for constant in self.program.spec.constants.values())

    @property
    def names(self) -> list[tuple[str, ...]]:
        """Operations of every group."""
        return [tuple(name for name, _ in row.operations) for row in self.program.engine.rows]


class EngineClock:
    """Times of the native engine for one sample, by rounds over all programs: reference, two calls, the second of which
    counts, and one with a clock a group.

    Every turn gives quotients by the reference, and their medians count: a machine that is busy slows all alike.

    Attributes:
        machine: cpu, isa, threads and library (digest of its file).

    Args:
        sample: normalised inputs [B, ...], the first ones of which calibrate; the first one is timed. threads: of the
            engine at most. seconds: of measuring, for every network.

    Raises:
        ValueError: there is no native engine here.
    """

    def __init__(self, sample: Tensor, threads: int, seconds: float = 0.15) -> None:
        native = library()
        if native is None:
            todo = "build it (pip install .), or drop the budget"
            raise bad_value(WHERE, "the native engine must be there", why_missing(), todo)
        self.sample: Tensor = sample[:_CALIBRATION].detach().cpu()
        self.threads: int = threads
        self.seconds: float = seconds
        self.machine: dict[str, object] = {
            "cpu": _cpu(),
            "isa": available_isas()[-1],
            "threads": threads,
            "library": hashlib.sha256(Path(native._name).read_bytes()).hexdigest()[:16],
        }
        self.reference: tuple[Program, Any] = _reference(threads)

    def __call__(self, models: Iterable[nn.Module]) -> list[Timed]:
        """Times of networks as they are; see `bitspike.allocation.timing.Clock`."""
        found, waiting, size = list[Timed](), list[Compiled](), 0
        for model in models:
            waiting.append(self.compiled(model))
            size += waiting[-1].size_bytes
            if size > _AT_ONCE_BYTES:
                found += self._timed(waiting)
                waiting, size = [], 0
        return found + self._timed(waiting)

    def compiled(self, model: nn.Module) -> Compiled:
        """The program of a network.

        Raises:
            ValueError: the network does not compile, or not for the engine.
        """
        twin = copy.deepcopy(model).cpu().eval()
        try:
            folded = fold(twin, self.sample)
            program = Program(lower(folded, self.sample).spec, "native", self.threads)
        except ValueError as error:
            todo = "mend it, or drop the budget"
            raise bad_value(WHERE, "the network must compile", str(error).rstrip("."), todo) from error
        given = _fed(program, folded.graph, self.sample[:1])
        return Compiled(program, given, program.sequence(given))

    def _timed(self, compiled: list[Compiled]) -> list[Timed]:
        if not compiled:
            return []
        reference, x = self.reference
        for program, given, levels in compiled:  # pages
            program(given)
            program.engine.profile(levels)
        rows: list[list[tuple[float, ...]]] = [[] for _ in compiled]
        rounds, until, clock = 0, time.perf_counter() + self.seconds * len(compiled), time.perf_counter_ns
        while rounds < _ROUNDS or time.perf_counter() < until:
            rounds += 1
            for (program, given, levels), row in zip(compiled, rows, strict=True):
                reference(x)
                begin = clock()
                reference(x)
                between = clock()
                program(given)  # its weights are in the caches again, as in the calls of a user
                start = clock()
                program(given)
                end = clock()
                row.append((between - begin, end - start, *program.engine.profile(levels)))
        return [_medians(one.names, np.array(row, np.float64)) for one, row in zip(compiled, rows, strict=True)]


def _medians(names: list[tuple[str, ...]], spent: Any) -> Timed:
    """Nanoseconds [rounds, reference, call, groups and input and output]."""
    shares = np.median(spent[:, 1:] / spent[:, :1], 0)
    groups = tuple(zip(names, shares[1:].tolist(), strict=False))  # without input and output
    return Timed(float(shares[0]), groups, float(np.percentile(spent[:, 0], 10)) / 1e6)


def _reference(threads: int) -> tuple[Program, Any]:
    """A 3×3 convolution of 32 channels at 16×16 with its neuron, 4 steps, and its input."""
    draw = np.random.default_rng(0)
    b = Builder(Input(Value((32, 16, 16), 0, 1, 0, 4)))
    place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1], "exponent": None}
    weight = b.constant(draw.integers(-127, 128, (32, 32, 3, 3)), Grid(-127, 127))
    y = b.add("convolution", [INPUT], place, {"weight": weight})
    scale = {"multiplier": b.constant(draw.integers(2**18, 2**19, 32)), "bias": b.constant(draw.integers(-9, 9, 32))}
    y = b.add("rescale", [y], {"shift": 20, "exponent": 12}, scale)
    fire = {"count": [1], "signed": False, "reset": "hard", "decay": [1, 2]}
    y = b.add("fire", [y], fire, {"first": b.constant(np.array([2048]))})
    x = draw.integers(0, 2, (4, 1, 32, 16, 16)).astype(np.uint8)
    return Program(b.finish(y).spec, "native", threads), x


@torch.no_grad()
def _fed(program: Program, graph: Graph, x: Tensor) -> Any:
    """A sample as the program takes it: itself, or what the encoder sends for it."""
    if program.spec.input.repeat:
        return x.numpy()
    sent = [x]
    graph.run(x, handler=partial(_note, sent))
    levels = sent[0].numpy()
    return levels if program.spec.input.scale is not None else levels.astype(program.spec.input.value.dtype)


def _note(sent: list[Tensor], node: Node, call: Any, args: tuple[Any, ...]) -> Any:
    value = call()
    if isinstance(node.module, Encoder):
        sent[0] = value
    return value


def _cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        for line in lines.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
