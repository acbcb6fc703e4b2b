"""Spikes of a compiled program, level by level, by its definition: operation after operation in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from bitspike.data import Batches, Samples, SequenceSet
from bitspike.graph import trace
from bitspike.lower.comparing import run
from bitspike.lower.targets import sends_steps
from bitspike.report.spikes.network import run_seen, words_of
from bitspike.report.spikes.seen import Layer, Seen
from bitspike.runtime import Program


def program_layers(program: Program) -> list[Layer]:
    """The neurons of a program, in order of execution; shapes are those of the program."""
    found = []
    for made in program.operations:
        if made.kind == "fire":
            top = max(made.attributes["count"])
            found.append(Layer(made.op.name, made.written[0].shape, -top if made.attributes["signed"] else 0, top))
    return found


def seen_in_program(
    program: Program, x: Any, words: Sequence[str], samples: Sequence[np.ndarray], timed: bool
) -> list[Seen]:
    """Run samples one by one and keep the levels that every neuron sends.

    Args:
        program: any. x: what it takes, [B, ...] where its input is repeated, else [T, B, ...].
        words, samples: B of each, for the pictures. timed: whether samples have a time axis.

    Raises:
        ProgramError: what the program refuses.
    """
    given, rows = program.sequence(x), {made.op.name: made for made in program.operations if made.kind == "fire"}
    seen = []
    for i, (name, sample) in enumerate(zip(words, samples, strict=True)):
        spikes, outputs, _ = run(program, np.ascontiguousarray(given[:, i : i + 1]))
        sent = {}
        for layer, s in spikes.items():
            up, down = rows[layer].attributes["up"], rows[layer].attributes["down"]
            s = s[:, 0].astype(np.int32)
            sent[layer] = np.where(s < 0, s // down, s // up).astype(np.int32)
        means = {
            output: (numbers.mean(0) if sends_steps(program, output) else numbers)[0]
            for output, numbers in outputs.items()
        }
        seen.append(Seen(name, sample, timed, sent, means if program.spec.outputs else means[""]))
    return seen


def program_on_data(program: Program, model: nn.Module, data: Samples, indices: Sequence[int]) -> list[Seen]:
    """As `seen_in_program`, on samples of the set that ``model``, the program's network, was trained for."""
    graph, seen, taken = trace(model), [], program.spec.input
    for index in indices:
        own = data.subset([index])
        if isinstance(own, SequenceSet):
            (own,) = own.by_length()
        ((x, _),) = Batches(own, 1)
        if program.spec.info.get("pixels"):
            fed: Any = own.images.numpy()
        else:
            sent = run_seen(graph, x)[2]
            fed = sent[0] if taken.repeat else sent
            fed = fed if taken.scale is not None else fed.astype(taken.value.dtype)
        (one,) = seen_in_program(program, fed, [""], [own.images[0].numpy()], isinstance(own, SequenceSet))
        seen.append(replace(one, words=words_of(own, index, one.output)))
    return seen
