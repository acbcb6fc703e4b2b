"""Runs a verified program in the native engine."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arithmetic import Array
from ..errors import ProgramError, fault
from ..limits import MAX_COUNT
from ..ops import Operation
from ..spec import Input
from .forms import Form, form_of
from .grouping import grouped
from .layout import laid_out
from .library import available_isas, library, number_of, why_missing
from .words import Words

MAX_THREADS = 64
"""As in csrc/engine/pool.h."""
_MAX_ARENA_BYTES = 2**31 - 1
"""The engine's offsets within a value have 32 bits."""
_OUT_OF_MEMORY, _TOO_MANY_STEPS = 1, 2


@dataclass(frozen=True)
class NativeState:
    """Everything that a stream keeps from one chunk to the next, in the engine's own layout.

    Attributes:
        batch: samples. memory: uint8 [B, bytes of a state]. clamped: operation → numbers clamped so far.
        owner: the engine that made it.
    """

    batch: int
    memory: Array
    owner: Any
    clamped: Mapping[str, int] = field(default_factory=dict)


class TooLargeError(ProgramError):
    """A sample of the program needs more memory than the engine addresses."""


class Native:
    """A program in the engine.

    Attributes:
        found: groups of operations. forms: of the operands of convolutions. layout: where everything lies.

    Args:
        given, operations, output: of the program. threads: at most so many. isa: instruction set; None: the best.

    Raises:
        ProgramError: there is no engine here, or it lacks the instruction set.
    """

    name = "native"

    def __init__(
        self, given: Input, operations: Sequence[Operation], output: str, threads: int, isa: str | None = None
    ) -> None:
        native, isas = library(), available_isas()
        if native is None:
            raise fault("program", "the engine must be there", why_missing(), "take engine='interpreter'")
        if isa is not None and isa not in isas:
            raise fault("program", f"isa must be one of {', '.join(isas)}", isa, "correct it")
        self.isa, self.threads, self._native = isa or isas[-1], threads, native
        self._operations, self._output = operations, output
        self.found = grouped(given, operations, output)
        self.forms: dict[int, Form] = {
            i: form_of(made, self.isa) for i, made in enumerate(operations) if "weight" in made.constants
        }
        operands = {index: form.operand for index, form in self.forms.items()}
        self.layout = laid_out(self.found, operations, output, operands)
        if self.layout.arena_bytes > _MAX_ARENA_BYTES:
            got = f"{self.layout.arena_bytes:,} bytes"
            must = f"the native engine must hold a sample in {_MAX_ARENA_BYTES:,} bytes"
            raise TooLargeError(str(fault("program", must, got, "take engine='interpreter'")))
        words = Words(self.found, operations, output, self.layout, self.forms)
        self._handle = self._create(words)
        weakref.finalize(self, native.bitspike_engine_free, self._handle)
        self._mean = next((i for i, made in enumerate(operations) if made.final), None)
        self._value = next(v for m in operations for n, v in zip(m.op.outputs, m.written, strict=True) if n == output)
        self._capacity = 1 if self._mean is not None else self.layout.capacity[output]

    def __str__(self) -> str:
        """The plan: instruction set, threads, memory, and the kernel of every layer with the reason."""
        layout = self.layout
        size = f"arena {layout.arena_bytes:,} bytes, states {layout.state_bytes:,} a sample"
        lines = [f"engine: native ({self.isa}, at most {self.threads} threads; {size}; {layout.chunk} steps at a time)"]
        for group in self.found.groups:
            names = [self._operations[i].op.name for i in group.operations] or [f"join {b}" for _, b in group.joins]
            forms = [f" [{self.forms[i]}]" for i in group.operations if i in self.forms]
            lines.append("  " + " → ".join(names) + "".join(forms))
        return "\n".join(lines)

    def _create(self, words: Words) -> int:
        numbers = np.array(words.words, np.int64)
        pointers = np.array([table.ctypes.data for table in words.tables] or [0], np.uintp)
        lengths = np.array([len(table) for table in words.tables] or [0], np.int64)
        error = ctypes.c_char_p()
        handle = self._native.bitspike_engine_create(
            numbers.ctypes.data,
            len(numbers),
            pointers.ctypes.data,
            lengths.ctypes.data,
            len(words.tables),
            number_of(self.isa),
            ctypes.addressof(error),
        )
        if not handle:
            what = (error.value or b"").decode()
            raise fault("engine", "it must take every verified program", what, "report it; take engine='interpreter'")
        return int(handle)

    def call(self, x: Array) -> tuple[Array, int, Mapping[str, int]]:
        """A whole run x [n, B, ...]: (what comes out, steps that a read-out summed, clamped); keeps no state."""
        if len(x) > self.layout.chunk:
            whole, state = self.step(x, None)
            return whole, self.counted(state), state.clamped
        clamped = np.zeros(len(self._operations), np.int64)
        whole, counted = self._run(x, len(x) > 1 and x.strides[0] == 0, None, clamped)
        return whole, max(counted, 1) if self._mean is not None else 1, self._counts(clamped, {})

    def step(self, x: Array, state: NativeState | None) -> tuple[Array, NativeState]:
        """Run one chunk x [n, B, ...] of the input; returns what comes out [m, B, ...], and the state. Pure."""
        batch = x.shape[1]
        memory = self._memory(batch, state)
        held = len(x) > 1 and x.strides[0] == 0
        parts, clamped = [], np.zeros(len(self._operations), np.int64)
        for start in range(0, len(x), self.layout.chunk):
            parts.append(self._run(x[start : start + self.layout.chunk], held, memory, clamped)[0])
        whole = parts[-1] if self._mean is not None or len(parts) == 1 else np.concatenate(parts)
        counts = self._counts(clamped, state.clamped if state is not None else {})
        return whole, NativeState(batch, memory, self, counts)

    def counted(self, state: NativeState) -> int:
        """Steps that the read-out has summed, at least 1."""
        if self._mean is None:
            return 1
        at = self.layout.states[self._mean, "counted"]
        return max(int(state.memory[0, at : at + 8].view(np.int64)[0]), 1)

    def _counts(self, clamped: Array, before: Mapping[str, int]) -> dict[str, int]:
        counts = Counter(before)
        for index in np.flatnonzero(clamped).tolist():
            counts[self._operations[index].op.name] += int(clamped[index])
        return dict(counts)

    def workspace_bytes(self, batch: int = 1) -> int:
        """What a call takes beside states, input and output; kept for the next one."""
        return int(self._native.bitspike_engine_workspace(self._handle, batch, self.threads))

    def _memory(self, batch: int, state: NativeState | None) -> Array:
        if state is not None:
            if state.owner is not self:
                must = "the state must come from this program and engine"
                raise fault("stream", must, "another one's", "start a new stream")
            return state.memory.copy()
        memory = np.empty((batch, self.layout.state_bytes), np.uint8)
        self._native.bitspike_engine_reset(self._handle, memory.ctypes.data, batch)
        return memory

    def _run(self, x: Array, held: bool, memory: Array | None, clamped: Array) -> tuple[Array, int]:
        """(what comes out [m, B, ...], how many steps that were or were summed)."""
        count, batch = x.shape[:2]
        x = np.ascontiguousarray(x[:1] if held else x)
        size = self._value.size
        out = np.empty((batch, self._capacity, size), np.int64)
        steps, sample = ctypes.c_int64(), x.size // (len(x) * batch)
        outcome = self._native.bitspike_engine_run(
            self._handle,
            x.ctypes.data,
            batch * sample,
            sample,
            count,
            int(held),
            batch,
            None if memory is None else memory.ctypes.data,
            out.ctypes.data,
            self._capacity,
            clamped.ctypes.data,
            self.threads,
            ctypes.addressof(steps),
        )
        if outcome == _TOO_MANY_STEPS:
            raise fault("mean", f"a stream has at most {MAX_COUNT} steps", "more", "start a new one")
        if outcome == _OUT_OF_MEMORY:
            raise MemoryError(f"the engine could not have {self.workspace_bytes(batch):,} bytes")
        if self._mean is None:
            out = out[:, : steps.value]
        done = out.swapaxes(0, 1).astype(self._value.dtype)
        return done.reshape(*done.shape[:2], *self._value.shape), steps.value


def default_threads() -> int:
    """Threads where nobody says how many: one a core that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
