"""What the engine asks of malloc while it runs, and by how much the process grows; run in a process of its own.

``python -m programs.memory COUNTING.so`` (csrc/engine/test/counting.c, preloaded; src and tests in PYTHONPATH)
prints JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.runtime import Program
from bitspike.runtime.engine import available_isas
from bitspike.runtime.engine.library import library

from .drawn import drawn, input_of
from .golden import golden, images
from .residual import resnet

MOST = 64
"""Notes that counting.c keeps."""
LATER = 100
DRAWN = 12
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class Counted:
    """Calls of one program for batches of its first samples; a call gives its notes: bytes asked for, or -1."""

    def __init__(self, counting: Any, program: Program, x: Any) -> None:
        self.engine: Any = program.engine
        self.x = program.sequence(x)[: self.engine.layout.chunk]
        counting.counted_run.argtypes = [
            *(_POINTER, _POINTER, _POINTER, _LONG, _LONG, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _INT),
            *(_POINTER, _POINTER),
        ]
        self.run = counting.counted_run
        self.function = ctypes.cast(library().bitspike_engine_run, _POINTER)  # type: ignore[union-attr]

    def __call__(self, batch: int, stream: bool = False) -> list[int]:
        engine, x = self.engine, np.ascontiguousarray(self.x[:, :batch])
        sample = x[0, 0].size
        memory = engine._memory(batch, None) if stream else None
        out = np.empty((batch, engine._numbers), np.int64)
        clamped, done, notes = (np.zeros(n, np.int64) for n in (len(engine._operations), len(engine._sent), MOST))
        count = self.run(
            *(self.function, engine._handle, x.ctypes.data, batch * sample, sample, len(x), batch),
            *(None if memory is None else memory.ctypes.data, out.ctypes.data, clamped.ctypes.data),
            *(engine.threads, done.ctypes.data, notes.ctypes.data),
        )
        if not 0 <= count <= MOST:
            raise SystemExit(f"counted_run gave {count}")
        return [int(note) for note in notes[:count]]


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def notes_of(counting: Any, program: Program, x: Any) -> dict[str, Any]:
    """Of calls for one sample, for three, and for one again; as whole runs and as streams."""
    call, engine = Counted(counting, program, x), program.engine
    found: dict[str, Any] = {"plan": [engine.workspace_bytes(1), engine.workspace_bytes(3)]}  # type: ignore[attr-defined]
    found["first"] = call(1)
    found["later"] = [note for i in range(LATER) for note in call(1, stream=i % 2 == 1)]
    found["larger"] = call(3)
    found["last"] = call(3, stream=True) + call(2) + call(1)
    return found


def growth(counting: Any, program: Program, x: Any) -> dict[str, int]:
    """Resident bytes: by the first call, by those after it, and by calls in Python once they have begun."""
    call, program_call = Counted(counting, program, x), lambda: program(x[:1])
    Counted(counting, Program(resnet(steps=1, side=96).spec, "native", 1), x)(1)  # what the measurement itself needs
    sizes = [resident()]
    for run, times in ((call, 1), (call, LATER), (program_call, LATER), (program_call, LATER)):
        for _ in range(times):
            run(1) if run is call else run()  # type: ignore[operator]
        sizes.append(resident())
    first, later, _, python = (b - a for a, b in pairwise(sizes))
    plan = program.engine.workspace_bytes(1)  # type: ignore[attr-defined]
    return {"plan": plan, "first": first, "later": later, "python": python}


def main() -> None:
    """Prints what was found."""
    counting = ctypes.CDLL(sys.argv[1])
    pictures = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    small = resnet((8, 16), 1, steps=4, side=32)
    large = np.kron(pictures, np.ones((1, 1, 3, 3), np.float32))
    grown = growth(counting, Program(resnet(steps=4, side=96).spec, "native", 1), large)
    found: dict[str, Any] = {}
    programs = [("golden", golden(), np.concatenate([images()] * 3)[:3]), ("residual", small, pictures)]
    programs += [
        (f"drawn {i}", p, input_of(p, i, batch=3)) for i in range(DRAWN) for p in [drawn(i, several=i % 2 == 1)]
    ]
    for isa in available_isas():
        for threads in (1, 2):
            Program(small.spec, "native", threads, isa)(pictures)  # workers start with the first call of a process
            for name, program, x in programs:
                made = Program(program.spec, "native", threads, isa)
                found[f"{isa}, {threads} threads, {name}"] = notes_of(counting, made, x)
    print(json.dumps({"calls": found, "growth": grown}))


if __name__ == "__main__":
    main()
