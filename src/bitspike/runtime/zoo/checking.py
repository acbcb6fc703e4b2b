"""Whether a program of the zoo still gives what its card says for the samples that its card names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ..arithmetic import Array
from ..errors import fault
from ..program import Program
from .cards import Card


@dataclass(frozen=True)
class Checked:
    """Predictions beside those of the card.

    Attributes:
        predictions: classes, one a sample. labels: the true ones. same_input: whether the samples are those of the
            card. same: whether the predictions are.
    """

    predictions: tuple[int, ...]
    labels: tuple[int, ...]
    same_input: bool
    same: bool


def levels_digest(program: Program, x: Array) -> str:
    """SHA-256 of the integers that a program reads, step by step: what samples become of which little may be copied."""
    levels = program.sequence(x)
    head = f"{list(levels.shape)}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(levels, "<i4").tobytes()).hexdigest()


def predicted(program: Program, x: Array) -> tuple[int, ...]:
    """The class of every sample; the lower number in a tie."""
    levels = program(x).levels
    if levels.ndim != 2:
        raise fault("zoo", "the program must send a number a class", list(levels.shape), "stream it")
    return tuple(int(best) for best in levels.argmax(1))


def check(card: Card, program: Program, x: Array) -> Checked:
    """Run the samples of a card."""
    told = card.facts["slice"]
    found = predicted(program, x)
    return Checked(
        found,
        tuple(told["labels"]),
        levels_digest(program, x) == told["levels_sha256"],
        found == tuple(told["predictions"]),
    )
