"""Runs a verified program in the native engine."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from ..arithmetic import Array
from ..errors import ProgramError, fault
from ..limits import MAX_COUNT
from ..ops import Operation
from ..spec import Input, Value
from .described import Row, as_table, described, work_of
from .forms import Form
from .grouping import Grouped, grouped
from .layout import Layout, laid_out
from .library import available_isas, library, number_of, why_missing
from .planner import planned
from .tuned import Tuned
from .words import Words

MAX_THREADS = 64
"""As in csrc/engine/pool.h."""
_MAX_ARENA_BYTES = 2**31 - 1
"""The engine's offsets within a value have 32 bits."""
_OUT_OF_MEMORY, _TOO_MANY_STEPS, _NOT_FINITE = 1, 2, 3


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

    def __copy__(self) -> NativeState:
        """Itself: nobody changes it."""
        return self

    def __deepcopy__(self, memo: Any) -> NativeState:
        """Itself, as well."""
        return self

    def __reduce__(self) -> NoReturn:
        raise fault("stream", "a state must stay in its process", "pickling", "start a new stream there")


@dataclass(frozen=True)
class _Sent:
    """What comes out: a value, the operation that sums it (or none), and how many steps there may be."""

    value: Value
    mean: int | None
    capacity: int

    def counted(self, steps: int) -> int:
        """Steps that a read-out summed, at least 1; 1 where there is none."""
        return 1 if self.mean is None else max(steps, 1)


class TooLargeError(ProgramError):
    """A sample of the program needs more memory than the engine addresses."""


class Native:
    """A program in the engine.

    Attributes:
        found: groups of operations. forms: of the operands of convolutions. layout: where everything lies.

    Args:
        given, operations: of the program. sent: values that come out. threads: at most so many. isa: instruction set;
            None: the best.
        info: of the program: densities. forms: operation → form, for those where somebody has chosen.

    Raises:
        ProgramError: there is no engine here, or it lacks the instruction set.
    """

    name = "native"

    def __init__(
        self,
        given: Input,
        operations: Sequence[Operation],
        sent: Sequence[str],
        threads: int,
        isa: str | None = None,
        info: Mapping[str, Any] | None = None,
        forms: Mapping[str, str] | Tuned | None = None,
    ) -> None:
        native, isas = library(), available_isas()
        if native is None:
            raise fault("program", "the engine must be there", why_missing(), "take engine='interpreter'")
        if isa is not None and isa not in isas:
            raise fault("program", f"isa must be one of {', '.join(isas)}", isa, "correct it")
        self.isa: str = isa or isas[-1]
        self.threads: int = threads
        self._native = native
        self._given, self._operations = given, operations
        self.found: Grouped = grouped(given, operations, sent)
        self.tuned: Tuned | None = forms.held_against(self.isa, threads) if isinstance(forms, Tuned) else None
        if isinstance(forms, Tuned):
            forms = None if self.tuned is None or self.tuned.ignored else forms.forms
        where = "forms" if self.tuned is None else self.tuned.file or "plan"
        self.forms: dict[int, Form] = planned(operations, self.isa, info or {}, forms, where)
        self.layout: Layout = laid_out(self.found, operations, sent, self.forms)
        if self.layout.arena_bytes > _MAX_ARENA_BYTES:
            got = f"{self.layout.arena_bytes:,} bytes"
            must = f"the native engine must hold a sample in {_MAX_ARENA_BYTES:,} bytes"
            raise TooLargeError(str(fault("program", must, got, "take engine='interpreter'")))
        words = Words(self.found, operations, sent, self.layout, self.forms)
        self._handle = self._create(words)
        weakref.finalize(self, native.bitspike_engine_free, self._handle)
        if given.scale is not None:
            native.bitspike_engine_scale(self._handle, given.factor, given.value.low, given.value.high)
        means = {made.op.outputs[0]: index for index, made in enumerate(operations) if made.final}
        values = {n: v for made in operations for n, v in zip(made.op.outputs, made.written, strict=True)}
        self._sent = tuple(
            _Sent(values[name], means.get(name), 1 if name in means else self.layout.capacity[name]) for name in sent
        )
        self._numbers = sum(each.capacity * each.value.size for each in self._sent)

    def __str__(self) -> str:
        """The plan: instruction set, threads, memory, and the kernel of every group with the reason."""
        memory = self.memory
        size = f"arena {memory['arena_bytes']:,} bytes a sample, state {memory['state_bytes']:,}"
        size += f", a call for one takes {memory['workspace_bytes']:,} in all; {self.layout.chunk} steps at a time"
        return "\n".join([self.line, as_table(self.rows), size])

    @property
    def line(self) -> str:
        """Which engine runs, in one line."""
        which = f"engine: native, {self.isa}, {self.threads} thread{'s' if self.threads > 1 else ''} at most"
        return which if self.tuned is None else f"{which}; {self.tuned}"

    @property
    def facts(self) -> dict[str, Any]:
        """The same, for JSON."""
        plan = None if self.tuned is None else {"file": self.tuned.file, "ignored": self.tuned.ignored or None}
        return {"name": self.name, "isa": self.isa, "threads": self.threads, "why": None, "plan": plan}

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: of a sample's arena and state, and of all that a call for one sample takes beside states."""
        layout = self.layout
        return {
            "arena_bytes": layout.arena_bytes,
            "state_bytes": layout.state_bytes,
            "workspace_bytes": self.workspace_bytes(),
        }

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row a group, in the order in which they run."""
        facts = np.empty((len(self.found.groups), 3), np.int64)
        for i, row in enumerate(facts):
            self._native.bitspike_engine_group(self._handle, i, row.ctypes.data)
        work = work_of(self._given, self.found, self._operations, self.layout.chunk)
        return described(self.found, self._operations, self.forms, work, facts[:, :2].tolist())

    def profile(self, x: Array) -> Array:
        """Nanoseconds of every group for one chunk x [n, B, ...] from a fresh state, then of input and output.

        Samples run one after the other, each on all threads.
        """
        spent = np.zeros(len(self.found.groups) + 2, np.int64)
        if len(x) > self.layout.chunk:
            self.step(x, None, spent)
        else:
            self._run(x, _still(x), None, np.zeros(len(self._operations), np.int64), spent)
        return spent

    def peak(self, tries: int = 5) -> float:
        """Multiply-accumulates of bytes that the instruction set does in a second at best, on all threads; measured."""
        return float(self._native.bitspike_engine_peak(number_of(self.isa), self.threads, tries))

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

    def call(self, x: Array) -> tuple[Sequence[Array], Sequence[int], Mapping[str, int]]:
        """A whole run x [n, B, ...], as `Engine` says; keeps no state."""
        if len(x) > self.layout.chunk:
            whole, state = self.step(x, None)
            return whole, self.counted(state), state.clamped
        clamped = np.zeros(len(self._operations), np.int64)
        whole, counted = self._run(x, _still(x), None, clamped, None)
        counts = self._counts(clamped, {}) if clamped.any() else {}
        return whole, self._counted(counted), counts

    def quantize(self, x: Array) -> Array | None:
        """float32 → levels of the input, as `Program.quantize` says; None where a number is not finite."""
        levels, source = np.empty(x.shape, self._given.value.dtype), np.ascontiguousarray(x)
        failed = self._native.bitspike_engine_quantize(self._handle, levels.ctypes.data, source.ctypes.data, x.size)
        return None if failed else levels

    def call_real(self, x: Array) -> tuple[Sequence[Array], Sequence[int], Mapping[str, int]] | None:
        """As `Engine` says, in one call of the library; None, too, where a run takes more than a chunk."""
        steps, batch, counters = self._given.value.steps, len(x), len(self._operations)
        if steps > self.layout.chunk:
            return None
        outputs = len(self._sent)
        first = outputs + counters
        numbers = np.zeros(first + batch * self._numbers, np.int64)
        at = numbers.ctypes.data
        outcome = self._native.bitspike_engine_run(
            *(self._handle, x.ctypes.data, 1, 0, self._given.value.size, steps, 1, batch, None),
            *(at + 8 * first, at + 8 * outputs, self.threads, None, at),
        )
        if outcome == _NOT_FINITE:
            return None
        self._check(outcome, batch)
        clamped, counted = numbers[outputs:first], numbers[:outputs].tolist()
        whole = self._shaped(numbers[first:].reshape(batch, self._numbers), counted)
        counts = self._counts(clamped, {}) if clamped.any() else {}
        return whole, self._counted(counted), counts

    def step(
        self, x: Array, state: NativeState | None, profile: Array | None = None
    ) -> tuple[Sequence[Array], NativeState]:
        """Run one chunk x [n, B, ...] of the input; returns what comes out [m, B, ...] by output, and the state. Pure.

        ``profile``: int64 [groups + 2], to which nanoseconds are added; see `profile`.
        """
        batch = x.shape[1]
        memory = self._memory(batch, state)
        held = _still(x)
        parts, clamped = [], np.zeros(len(self._operations), np.int64)
        for start in range(0, len(x), self.layout.chunk):
            parts.append(self._run(x[start : start + self.layout.chunk], held, memory, clamped, profile)[0])
        whole = [
            each[-1] if sent.mean is not None or len(each) == 1 else np.concatenate(each)
            for sent, each in zip(self._sent, zip(*parts, strict=True), strict=True)
        ]
        counts = self._counts(clamped, state.clamped if state is not None else {})
        return whole, NativeState(batch, memory, self, counts)

    def counted(self, state: NativeState) -> Sequence[int]:
        """By output, steps that a read-out has summed, at least 1."""
        places = [0 if each.mean is None else self.layout.states[each.mean, "counted"] for each in self._sent]
        return self._counted([int(state.memory[0, at : at + 8].view(np.int64)[0]) for at in places])

    def _counted(self, steps: Sequence[int]) -> tuple[int, ...]:
        return tuple(each.counted(count) for each, count in zip(self._sent, steps, strict=True))

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
            if not isinstance(state, NativeState) or state.owner is not self:
                must = "the state must come from this program and engine"
                raise fault("stream", must, "another one's", "start a new stream")
            return state.memory.copy()
        memory = np.empty((batch, self.layout.state_bytes), np.uint8)
        self._native.bitspike_engine_reset(self._handle, memory.ctypes.data, batch)
        return memory

    def _run(
        self, x: Array, held: bool, memory: Array | None, clamped: Array, profile: Array | None
    ) -> tuple[list[Array], list[int]]:
        """By output, (what comes out [m, B, ...], how many steps that were or were summed)."""
        count, batch = x.shape[:2]
        x = np.ascontiguousarray(x[:1] if held else x)
        out, steps = np.empty((batch, self._numbers), np.int64), np.zeros(len(self._sent), np.int64)
        sample = x.size // (len(x) * batch)
        outcome = self._native.bitspike_engine_run(
            self._handle,
            x.ctypes.data,
            0,
            batch * sample,
            sample,
            count,
            int(held),
            batch,
            None if memory is None else memory.ctypes.data,
            out.ctypes.data,
            clamped.ctypes.data,
            self.threads,
            None if profile is None else profile.ctypes.data,
            steps.ctypes.data,
        )
        self._check(outcome, batch)
        counts = steps.tolist()
        return self._shaped(out, counts), counts

    def _check(self, outcome: int, batch: int) -> None:
        if outcome == _TOO_MANY_STEPS:
            raise fault("mean", f"a stream has at most {MAX_COUNT} steps", "more", "start a new one")
        if outcome == _OUT_OF_MEMORY:
            raise MemoryError(f"the engine could not have {self.workspace_bytes(batch):,} bytes")

    def _shaped(self, out: Array, steps: Sequence[int]) -> list[Array]:
        """[B, numbers] of all outputs → of each [steps, B, ...] in its type."""
        found, at = [], 0
        for each, count in zip(self._sent, steps, strict=True):
            size, value = each.capacity * each.value.size, each.value
            part = out[:, at : at + size].reshape(len(out), each.capacity, value.size)
            done = (part if each.mean is not None else part[:, :count]).swapaxes(0, 1).astype(value.dtype)
            found.append(done.reshape(*done.shape[:2], *value.shape))
            at += size
        return found


def _still(x: Array) -> bool:
    """Whether all steps are one array."""
    return len(x) > 1 and x.strides[0] == 0


def default_threads() -> int:
    """Threads where nobody says how many: one a core that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1
