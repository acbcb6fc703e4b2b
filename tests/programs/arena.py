"""A second machine: runs a program by its memory plan, step by step, every value in one block of bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Program


def run(program: Program, sample: np.ndarray) -> list[np.ndarray]:
    """One window of one sample [steps, ...] → by output what is sent, [steps, ...] (behind a mean: [1, ...])."""
    plan, given = program.plan, program.spec.input
    arena = np.full(plan.peak_bytes, 0xA5, np.uint8)
    values = {INPUT: given.value} | dict(program.spec.values)
    views = {}
    for name, place in plan.values.items():
        value = values[name]
        assert place.size_bytes == value.size_bytes * place.steps and place.offset >= plan.state_bytes
        flat = arena[place.offset : place.offset + place.size_bytes].view(value.dtype)
        views[name] = flat.reshape(place.steps, 1, *value.shape)
    for t, step in enumerate(sample[: plan.values[INPUT].steps]):
        views[INPUT][t, 0] = step
    written: Counter[str] = Counter()
    parts: dict[str, Any] = {}
    for loop in plan.loops:
        for t in range(loop.steps):
            for index in loop.operations:
                made = program.operations[index]
                inputs = tuple(views[name][t % len(views[name])][None].copy() for name in made.op.inputs)
                ran = made.run(inputs, parts.get(made.op.name))
                parts[made.op.name] = ran.state
                for name, steps in zip(made.op.outputs, ran.outputs, strict=True):
                    for y in steps:
                        views[name][written[name] % len(views[name])] = y
                        written[name] += 1
            for index in loop.operations:
                made = program.operations[index]
                if made.op.kind == "echo":
                    name = made.attributes["of"]
                    row = t if name == INPUT else written[name] - 1
                    parts[made.op.name] = views[name][row % len(views[name])].copy()
    means = {name for made in program.operations if made.final for name in made.op.outputs}
    found = []
    for name in program.spec.sent_values:
        sent, steps = views[name], 1 if name in means else values[name].steps
        found.append(np.stack([sent[t % len(sent), 0] for t in range(steps)]))
    return found
