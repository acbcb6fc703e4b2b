"""What runs a program: the interpreter, which defines the integers, or the native engine, which gives the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from .arithmetic import Array, round_half
from .echoes import parts_of
from .engine import Native, Row, why_missing
from .engine.native import MAX_THREADS, TooLargeError, default_threads
from .engine.tuned import Tuned
from .errors import fault
from .interpreter import State, step
from .ops import Operation
from .spec import Input, Spec

ENGINES = ("auto", "interpreter", "native")


Ran = tuple[Sequence[Array], Sequence[int], Mapping[str, int]]
"""(what comes out [m, B, ...], steps that a read-out summed or 1, both by output; operation → numbers clamped)."""


class Engine(Protocol):
    """Runs chunks of a program; ``str(engine)`` says which it is, and why."""

    @property
    def name(self) -> str:
        """ "interpreter" or "native"."""
        ...

    def call(self, x: Array) -> Ran:
        """A whole run x [n, B, ...]."""
        ...

    @property
    def line(self) -> str:
        """Which engine runs, in one line."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """name, isa, threads, why it is the interpreter, and the plan; None where a key does not apply."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """What runs together, group by group; none of the interpreter."""
        ...

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of the native engine: arena and state of a sample, all of a call for one; none of the interpreter."""
        ...

    def profile(self, x: Array) -> Array:
        """Nanoseconds of every row for one chunk from a fresh state, then of input and output; none of the interpreter.

        Samples run one after the other, each on all threads.
        """
        ...

    def peak(self) -> float:
        """Multiply-accumulates of bytes a second that the machine does at best, measured; 0 of the interpreter."""
        ...

    def step(self, x: Array, state: Any) -> tuple[Sequence[Array], Any]:
        """One chunk x [n, B, ...] of the input → what comes out for it [m, B, ...], by output, and the state. Pure."""
        ...

    def counted(self, state: Any) -> Sequence[int]:
        """By output, steps that a mean read-out has summed, at least 1; 1 where there is none."""
        ...

    def quantize(self, x: Array) -> Array | None:
        """float32 → levels of an input with a scale, as `Program.quantize` says; None where a number is not finite."""
        ...

    def call_real(self, x: Array) -> Ran | None:
        """`call` of the levels of x [B, ...], float32 and contiguous, of a repeated input.

        None: take `quantize` and `call`, which also say what is wrong with x.
        """
        ...


class Interpreter:
    """The definition, in NumPy."""

    name = "interpreter"

    def __init__(self, given: Input, operations: tuple[Operation, ...], sent: Sequence[str], why: str) -> None:
        self._given, self._operations, self._sent, self._why = given, operations, sent, why
        means = {made.op.outputs[0]: made.op.name for made in operations if made.final}
        self._means = tuple(means.get(name) for name in sent)
        self._order = parts_of(operations)

    def __str__(self) -> str:
        return self.line

    @property
    def line(self) -> str:
        """As `Engine` says."""
        return f"engine: interpreter ({self._why})"

    def call(self, x: Array) -> Ran:
        """As `Engine` says."""
        whole, state = step(self._operations, x, None, self._sent, self._order)
        return whole, self.counted(state), state.clamped

    @property
    def facts(self) -> dict[str, Any]:
        """As `Engine` says."""
        return {"name": self.name, "isa": None, "threads": 1, "why": self._why, "plan": None}

    @property
    def rows(self) -> tuple[Row, ...]:
        """As `Engine` says."""
        return ()

    @property
    def memory(self) -> dict[str, int]:
        """As `Engine` says."""
        return {}

    def profile(self, x: Array) -> Array:
        """As `Engine` says."""
        return np.zeros(0, np.int64)

    def peak(self) -> float:
        """As `Engine` says."""
        return 0.0

    def step(self, x: Array, state: Any) -> tuple[Sequence[Array], Any]:
        """As `Engine` says."""
        if state is not None and (not isinstance(state, State) or state.owner is not self):
            must = "the state must come from this program and engine"
            raise fault("stream", must, "another one's", "start a new stream")
        whole, after = step(self._operations, x, state, self._sent, self._order)
        return whole, replace(after, owner=self)

    def counted(self, state: Any) -> Sequence[int]:
        """As `Engine` says."""
        parts = (None if name is None else state.parts.get(name) for name in self._means)
        return tuple(1 if part is None else max(part.counted, 1) for part in parts)

    def quantize(self, x: Array) -> Array | None:
        """As `Engine` says."""
        if not np.isfinite(x).all():
            return None
        value = self._given.value
        return np.clip(round_half(x.astype(np.float64) * self._given.factor), value.low, value.high).astype(value.dtype)

    def call_real(self, x: Array) -> Ran | None:
        """As `Engine` says."""
        return None


class Deferred:
    """What "auto" means, settled when a program first runs: one that is only looked at packs no weights."""

    def __init__(
        self, spec: Spec, operations: tuple[Operation, ...], threads: int, forms: Mapping[str, str] | Tuned | None
    ) -> None:
        self._given = spec.input, operations, spec.sent_values, threads, None, spec.info, forms
        self._made: Native | Interpreter | None = None

    @property
    def made(self) -> Native | Interpreter:
        """The engine that runs: the native one, unless it would take too much memory."""
        if self._made is None:
            try:
                self._made = Native(*self._given)
            except TooLargeError as error:
                self._made = Interpreter(*self._given[:3], str(error))
        return self._made

    @property
    def name(self) -> str:
        """Of the engine that runs."""
        return self.made.name

    def __str__(self) -> str:
        return str(self.made)

    def call(self, x: Array) -> Ran:
        """As `Engine` says."""
        return self.made.call(x)

    @property
    def line(self) -> str:
        """As `Engine` says."""
        return self.made.line

    @property
    def facts(self) -> dict[str, Any]:
        """As `Engine` says."""
        return self.made.facts

    @property
    def rows(self) -> tuple[Row, ...]:
        """As `Engine` says."""
        return self.made.rows

    @property
    def memory(self) -> dict[str, int]:
        """As `Engine` says."""
        return self.made.memory

    def profile(self, x: Array) -> Array:
        """As `Engine` says."""
        return self.made.profile(x)

    def peak(self) -> float:
        """As `Engine` says."""
        return self.made.peak()

    def step(self, x: Array, state: Any) -> tuple[Sequence[Array], Any]:
        """As `Engine` says."""
        return self.made.step(x, state)

    def counted(self, state: Any) -> Sequence[int]:
        """As `Engine` says."""
        return self.made.counted(state)

    def quantize(self, x: Array) -> Array | None:
        """As `Engine` says."""
        return self.made.quantize(x)

    def call_real(self, x: Array) -> Ran | None:
        """As `Engine` says."""
        return self.made.call_real(x)


def engine_document(engine: Engine) -> dict[str, Any]:
    """An engine as plain values: name, isa, threads, why, memory and groups."""
    return {**engine.facts, "memory": engine.memory, "groups": [row.as_dict() for row in engine.rows]}


def choose(
    spec: Spec,
    operations: Sequence[Operation],
    engine: str,
    threads: int | None,
    isa: str | None,
    forms: Mapping[str, str] | Tuned | None = None,
) -> Engine:
    """The engine that was asked for; see `Program`."""
    if engine not in ENGINES:
        raise fault("program", f"engine must be one of {', '.join(ENGINES)}", repr(engine), "correct it")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
        must = f"threads must be an integer from 1 to {MAX_THREADS}"
        raise fault("program", must, repr(threads), "leave it out for one a core")
    rows, count = tuple(operations), threads or default_threads()
    if engine == "interpreter":
        return Interpreter(spec.input, rows, spec.sent_values, "it was asked for")
    if engine == "native" or isa is not None:
        return Native(spec.input, rows, spec.sent_values, count, isa, spec.info, forms)
    missing = why_missing()
    if missing is not None:
        return Interpreter(spec.input, rows, spec.sent_values, missing)
    return Deferred(spec, rows, count, forms)


__all__ = ["ENGINES", "Engine", "Interpreter", "choose", "engine_document"]
