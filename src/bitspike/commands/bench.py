"""``bitspike bench``: how long a program takes, and where its engine spends the time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from bitspike.checks import integer
from bitspike.commands.options import Engine, Json, ModelPath, Threads, open_program, write_json
from bitspike.commands.samples import read_samples
from bitspike.runtime.autotune import autotune as tune
from bitspike.runtime.bench import MAX_BATCH, MAX_CALLS
from bitspike.runtime.bench import bench as measure
from bitspike.runtime.engine.tuned import plan_path, write_plan


def bench(
    model: ModelPath,
    input: Annotated[Path | None, tyro.conf.arg(metavar="INPUT")] = None,
    batch: int = 32,
    calls: int = 200,
    warmup: int = 20,
    autotune: bool = False,
    engine: Engine = "auto",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time a program: latencies of calls for one sample and for a batch, and time, work and share of the peak by group.

    Args:
        model: File of the program.
        input: Samples as `bitspike run` takes them, used again and again; left out: random integers of the input's
            alphabet. The interpreter, the scalar kernels and those that add events skip zeros, so their
            times depend on it.
        batch: Samples a call, beside calls for one.
        calls: Calls that are timed for each; fewer where they take more than 10 seconds, and the table says how many.
        warmup: Calls before those.
        autotune: Measure first which form of every kernel is fastest on the input, here and with so many threads, and
            leave the plan beside the file as MODEL.plan.json, from where every command takes it.
        engine: What runs it: native (the engine, in C++), interpreter (NumPy), or auto: native where it is.
        threads: Threads of the native engine at most; left out: one a core.
        json: Write the figures to this file too.
    """
    integer("--batch", "it", batch, 1, MAX_BATCH)
    integer("--calls", "it", calls, 1, MAX_CALLS)
    integer("--warmup", "it", warmup, 0, MAX_CALLS)
    program = open_program(model, engine, threads, plan=not autotune)
    x = None if input is None else read_samples(program, input)[1]
    if autotune:
        write_plan(tune(program, x), plan_path(model))
        program = open_program(model, engine, threads)
    found = measure(program, x, sorted({1, batch}), calls, warmup)
    write_json(json, {"input": str(input or "random"), **found.as_dict()})
    print(program.engine.line)
    print(found)
