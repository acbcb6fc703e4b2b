"""Compiles what the target "c" writes, and runs it beside the interpreter."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.export import export
from bitspike.runtime import Program

STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wvla -Werror".split()
PROBE = """
#include <stddef.h>
#include "net.h"
size_t probe_context(void);
int probe_rows(void);
size_t probe_context(void) { return NET_CONTEXT_BYTES; }
int probe_rows(void) { return NET_MAX_OUTPUTS; }
"""


class Compiled:
    """A program as a library of this machine."""

    def __init__(self, program: Program, folder: Path, compiler: str = "gcc", flags: Sequence[str] = ("-O1",)) -> None:
        self.program = program
        folder.mkdir(parents=True, exist_ok=True)
        self.exported = export(program, "c", folder / "net.c")
        (folder / "probe.c").write_text(PROBE)
        command = [compiler, *STRICT, *flags, "-fPIC", "-shared", "-o", "net.so", "net.c", "probe.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert not done.returncode, done.stderr[:4000]
        self.library = ctypes.CDLL(str(folder / "net.so"))
        self.library.probe_context.restype = ctypes.c_size_t
        self.library.net_clamped.restype = ctypes.c_uint64
        self.library.net_steps.restype = ctypes.c_uint32
        self.rows = self.library.probe_rows()
        self.context = np.zeros(self.library.probe_context() // 8 + 1, np.int64)
        self.output = program.spec.values[program.spec.output]
        self.final = any(made.final for made in program.operations)
        self.wide = np.int64 if self.output.dtype.itemsize == 8 else np.int32
        names = [made.op.name for made in program.operations]
        self.names = [name for name in _names(folder / "net.h") if name in names]

    def call(self, name: str, *arrays: Any) -> int:
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (self.context, *arrays)]
        return int(getattr(self.library, f"net_{name}")(*pointers))

    def clamped(self) -> dict[str, int]:
        context = self.context.ctypes.data_as(ctypes.c_void_p)
        found = {name: self.library.net_clamped(context, i) for i, name in enumerate(self.names)}
        return {name: count for name, count in found.items() if count}

    def steps(self) -> int:
        return int(self.library.net_steps(self.context.ctypes.data_as(ctypes.c_void_p)))

    def run(self, x: np.ndarray) -> tuple[np.ndarray, int, dict[str, int]]:
        """One sample [steps, ...] or [...] → (rows, steps, clamped)."""
        rows = 1 if self.final else self.output.steps
        y = np.full((rows + 1, *self.output.shape), 77, self.wide)
        self.call("run", np.ascontiguousarray(x, self.program.spec.input.value.dtype), y)
        assert (y[-1] == 77).all()
        return y[:-1], self.steps(), self.clamped()

    def stream(self, x: np.ndarray) -> list[tuple[np.ndarray, int, dict[str, int]]]:
        """Steps one after the other → after each (rows, steps, clamped so far)."""
        self.call("reset")
        found = []
        for step in np.ascontiguousarray(x, self.program.spec.input.value.dtype):
            y = np.full((self.rows + 1, *self.output.shape), 77, self.wide)
            rows = self.call("step", step, y)
            assert (y[rows:] == 77).all()
            found.append((y[:rows].copy(), self.steps(), self.clamped()))
        return found


def _names(header: Path) -> list[str]:
    import ast

    for line in header.read_text().splitlines():
        if line.startswith("#define NET_OPERATION_NAMES"):
            body = line[line.index("{") + 1 : line.rindex("}")]
            return [text.encode("latin1").decode() for text in ast.literal_eval(f"[{body}]")]
    return []


def compare(program: Program, x: np.ndarray, folder: Path, **options: Any) -> None:
    """Whole runs of every sample, and a stream of all steps, one by one, of the first."""
    plain = Program(program.spec, engine="interpreter")
    made = Compiled(program, folder, **options)
    x = plain.sequence(x) if x.ndim == len(program.spec.input.value.shape) + 1 else np.asarray(x)
    length = program.spec.input.value.steps
    for k in range(x.shape[1]):
        one = x[:1, k] if program.spec.input.repeat else x[:length, k]
        want = plain(one[0][None] if program.spec.input.repeat else one[:, None])
        got = made.run(one)
        levels = want.levels if made.final else want.levels[:, 0]
        assert np.array_equal(got[0], levels), "levels"
        assert got[1:] == (want.steps, {n: c for n, c in want.clamped.items() if c}), "steps and counters"
    state = None
    for step, got in zip(x[:, 0], made.stream(x[:, 0]), strict=True):
        result, state = plain.stream(step[None, None], state)
        levels = result.levels if made.final else result.levels[:, 0]
        assert np.array_equal(got[0], levels), "levels of a stream"
        assert got[1:] == (result.steps, {n: c for n, c in result.clamped.items() if c}), "counters of a stream"


def missing(*tools: str) -> str:
    """Why something cannot run here; empty where it can."""
    lost = [tool for tool in tools if shutil.which(tool) is None]
    return f"not run: there is no {', '.join(lost)} here" if lost else ""
