"""Measures the forms of a program's kernels on this machine, and says which was fastest for every operation."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .arithmetic import Array
from .bench import random_samples
from .engine.planner import candidates
from .engine.tuned import Tuned
from .errors import fault
from .file import digest_of
from .program import Program

MAX_SAMPLES = 8
_ROUNDS = 5
_GAIN = 0.97
"""Share of the dense form's time that another form must stay below, so that a plan does not follow noise."""


def autotune(program: Program, x: Any = None, seconds: float = 10.0) -> Tuned:
    """Time every group of operations in all forms that its convolution or linear map can take.

    Every form gives the same integers; only the time depends on the plan. A form that adds events takes longer the more
    of the input is not 0, so samples should be real ones.

    Args:
        program: with the native engine, whose instruction set and threads the plan is for.
        x: samples as the program takes them, of which the first 8 are used; None: random integers.
        seconds: for all measurements at most; five rounds are made in any case.

    Raises:
        ProgramError: the program runs in the interpreter, or x is not what it takes.
    """
    engine = program.engine
    if engine.name != "native":
        raise fault("autotune", "the native engine must run the program", engine.line, "build the engine")
    isa, threads = engine.facts["isa"], engine.facts["threads"]
    forms = {
        made.op.name: tuple(form.name for form in candidates(made, isa))
        for made in program.operations
        if "weight" in made.constants
    }
    variants = []
    for i in range(max(map(len, forms.values()), default=1)):
        asked = {name: names[min(i, len(names) - 1)] for name, names in forms.items()}
        variants.append(Program(program.spec, "native", threads, isa, asked))
    levels = program.sequence(random_samples(program, MAX_SAMPLES) if x is None else x)[:, :MAX_SAMPLES]
    times = _times(variants, levels, seconds)
    chosen: dict[str, str] = {}
    us: dict[str, dict[str, float]] = {}
    for group, row in enumerate(engine.rows):
        names = forms.get(row.layer)
        if names is None or len(names) == 1:
            continue
        found = {name: round(float(times[i, group]) / 1000, 3) for i, name in enumerate(names)}
        best = min(found, key=lambda name: found[name])
        us[row.layer] = found
        chosen[row.layer] = best if found[best] < _GAIN * found[names[0]] else names[0]
    return Tuned(digest_of(program.spec), isa, threads, chosen, us)


def _times(variants: list[Program], levels: Array, seconds: float) -> Array:
    """Nanoseconds [variants, groups]: of every sample the least of all rounds, then their mean."""
    samples = [np.ascontiguousarray(levels[:, i : i + 1]) for i in range(levels.shape[1])]
    if levels.strides[0] == 0:  # of a repeated input
        samples = [np.broadcast_to(levels[:1, i : i + 1], each.shape) for i, each in enumerate(samples)]
    least = [[variant.engine.profile(each)[:-2] for each in samples] for variant in variants]  # caches, and pages
    until, rounds = time.perf_counter() + seconds, 0
    while rounds < _ROUNDS or (rounds < 50 and time.perf_counter() < until):
        for i, variant in enumerate(variants):
            for k, each in enumerate(samples):
                least[i][k] = np.minimum(least[i][k], variant.engine.profile(each)[:-2])
        rounds += 1
    mean: Array = np.array(least).mean(1)
    return mean


__all__ = ["autotune"]
