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


NAMED = """
#include <stddef.h>
#include "net.h"
size_t probe_context(void);
int probe_outputs(void);
size_t probe_context(void) { return NET_CONTEXT_BYTES; }
int probe_outputs(void) {
    static const char *const names[] = NET_OUTPUT_NAMES;
    return (int)(sizeof names / sizeof names[0]) + 1000 * (NET_OUTPUTS != sizeof names / sizeof names[0]);
}
"""
Rows = tuple[np.ndarray, int]
"""(rows of an output, what they are to be divided by)."""


class Compiled:
    """A program as a library of this machine."""

    def __init__(self, program: Program, folder: Path, compiler: str = "gcc", flags: Sequence[str] = ("-O1",)) -> None:
        self.program = program
        folder.mkdir(parents=True, exist_ok=True)
        self.exported = export(program, "c", folder / "net.c")
        named = bool(program.spec.outputs)
        (folder / "probe.c").write_text(NAMED if named else PROBE)
        command = [compiler, *STRICT, *flags, "-fPIC", "-shared", "-o", "net.so", "net.c", "probe.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert not done.returncode, done.stderr[:4000]
        self.library = ctypes.CDLL(str(folder / "net.so"))
        self.library.probe_context.restype = ctypes.c_size_t
        self.library.net_clamped.restype = ctypes.c_uint64
        self.library.net_steps.restype = ctypes.c_uint32
        self.context = np.zeros(self.library.probe_context() // 8 + 1, np.int64)
        means = {name for made in program.operations if made.final for name in made.op.outputs}
        self.values = [program.spec.values[name] for name in program.spec.sent_values]
        self.final = [name in means for name in program.spec.sent_values]
        self.wide = [np.int64 if value.dtype.itemsize == 8 else np.int32 for value in self.values]
        if named:
            assert self.library.probe_outputs() == len(self.values)
            self.rows = [int(_macro(folder / "net.h", f"OUTPUT{k}_MAX_ROWS")) for k in range(len(self.values))]
        else:
            self.rows = [self.library.probe_rows()]
        names = [made.op.name for made in program.operations]
        self.names = [name for name in _names(folder / "net.h") if name in names]

    def call(self, name: str, *arrays: Any) -> int:
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (self.context, *arrays)]
        return int(getattr(self.library, f"net_{name}")(*pointers))

    def clamped(self) -> dict[str, int]:
        context = self.context.ctypes.data_as(ctypes.c_void_p)
        found = {name: self.library.net_clamped(context, i) for i, name in enumerate(self.names)}
        return {name: count for name, count in found.items() if count}

    def steps(self, output: int = 0) -> int:
        context = self.context.ctypes.data_as(ctypes.c_void_p)
        return int(self.library.net_steps(context, *([output] if self.program.spec.outputs else [])))

    def outputs(self, name: str, x: np.ndarray, rows: list[int]) -> list[Rows]:
        """What a call writes, with room for a row more than it may write of every output."""
        arrays = [
            np.full((count + 1, *value.shape), 77, kind)
            for count, value, kind in zip(rows, self.values, self.wide, strict=True)
        ]
        if self.program.spec.outputs:
            given = _outputs(arrays)
            pointers = [self.context.ctypes.data, x.ctypes.data, ctypes.addressof(given)]
            getattr(self.library, f"net_{name}")(*map(ctypes.c_void_p, pointers))
            counts = list(given.rows)
        else:
            count = self.call(name, x, *arrays)
            counts = rows if name == "run" else [count]
        assert all((y[n:] == 77).all() for y, n in zip(arrays, counts, strict=True))
        return [(y[:n].copy(), self.steps(k)) for k, (y, n) in enumerate(zip(arrays, counts, strict=True))]

    def run(self, x: np.ndarray) -> tuple[list[Rows], dict[str, int]]:
        """One sample [steps, ...] or [...] → (by output its rows, clamped)."""
        rows = [1 if final else value.steps for final, value in zip(self.final, self.values, strict=True)]
        return self.outputs("run", np.ascontiguousarray(x, self.program.spec.input.value.dtype), rows), self.clamped()

    def stream(self, x: np.ndarray) -> list[tuple[list[Rows], dict[str, int]]]:
        """Steps one after the other → after each (by output its rows, clamped so far)."""
        self.call("reset")
        steps = np.ascontiguousarray(x, self.program.spec.input.value.dtype)
        return [(self.outputs("step", step, self.rows), self.clamped()) for step in steps]


def _outputs(arrays: list[np.ndarray]) -> ctypes.Structure:
    """The struct of the header, filled with arrays."""
    members = [(f"y{k}", ctypes.c_void_p) for k in range(len(arrays))] + [("rows", ctypes.c_int32 * len(arrays))]
    kind = type("Outputs", (ctypes.Structure,), {"_fields_": members})
    return kind(*(array.ctypes.data for array in arrays))  # type: ignore[no-any-return]


def _macro(header: Path, name: str) -> str:
    line = next(line for line in header.read_text().splitlines() if line.startswith(f"#define NET_{name} "))
    return line.split()[2].rstrip("u")


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
        want = plain.run(one[0][None] if program.spec.input.repeat else one[:, None])
        _equal(made.run(one), list(want.values()), "a whole run")
    state = None
    for step, got in zip(x[:, 0], made.stream(x[:, 0]), strict=True):
        results, state = plain.feed(step[None, None], state)
        _equal(got, list(results.values()), "a stream")


def _equal(got: tuple[list[Rows], dict[str, int]], wanted: list[Any], where: str) -> None:
    for (levels, steps), want in zip(got[0], wanted, strict=True):
        assert np.array_equal(levels, want.levels if want.mean else want.levels[:, 0]), f"levels of {where}"
        assert steps == want.steps, f"steps of {where}"
    assert got[1] == {n: c for n, c in wanted[0].clamped.items() if c}, f"counters of {where}"


def missing(*tools: str) -> str:
    """Why something cannot run here; empty where it can."""
    lost = [tool for tool in tools if shutil.which(tool) is None]
    return f"not run: there is no {', '.join(lost)} here" if lost else ""
