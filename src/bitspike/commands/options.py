"""What the commands share: option types, output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from bitspike.checks import bad_value, integer
from bitspike.files import write_json_atomic
from bitspike.runtime import Program, ProgramError, load
from bitspike.runtime.engine.native import MAX_THREADS
from bitspike.training.measures import MEASURES

LARGE = 2**31 - 1
"""No count on the command line is larger."""

Json = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
ModelPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]


Engine = Literal["auto", "interpreter", "native"]
Threads = Annotated[int | None, tyro.conf.arg(metavar="N")]


def measured(figures: Mapping[str, Any]) -> list[str]:
    """Accuracies, or what else a run was measured by, in words.

    >>> measured({"validation_accuracy": 0.5, "test_error": 2.0})
    ['validation accuracy 50.00%', 'test error 2']
    """
    found = []
    for part in ("validation", "test"):
        for name, measure in MEASURES.items():
            if f"{part}_{name}" in figures:
                found.append(f"{part} {measure.words} {measure.text(figures[f'{part}_{name}'])}")
    return found


def open_program(model: Path, engine: Engine, threads: int | None, plan: bool = True) -> Program:
    """The program in a file, with the engine that ``--engine`` and ``--threads`` ask for, and the plan beside it."""
    if threads is not None:
        integer("--threads", "it", threads, 1, MAX_THREADS)
    if not model.is_file():
        got, todo = "nothing of this name", "write one by `bitspike compile`"
        if model.is_dir():
            got, todo = (
                "a folder",
                "write a program by `bitspike compile`; where a RUN is asked for too, it comes first",
            )
        raise bad_value(str(model), "it must be the file of a program", got, todo)
    try:
        return load(model, engine, threads, plan)
    except ProgramError as error:
        raise ProgramError(f"{model}: {error}") from None


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a command's result where ``--json`` asks for it."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, document)
