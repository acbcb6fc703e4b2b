"""`python -m bitspike_runtime run|inspect MODEL.bitspike`: predictions and facts of a program, without torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .errors import ProgramError, fault
from .file import load
from .program import Program


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise fault("bitspike-runtime", "the command must be as --help says", message, "correct it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 on bad input with one line on the error stream."""
    try:
        asked = _parser().parse_args(arguments)
        program = load(asked.model)
        if asked.command == "inspect":
            print(program.report())
        else:
            _run(program, asked)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has left, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ProgramError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def predictions(program: Program, x: Any, top: int) -> list[dict[str, Any]]:
    """For every sample the classes with the most, and their logits, as plain values.

    Args:
        program: one with a mean read-out over classes. x: as the program takes it. top: classes a sample.
    """
    rows = program(x).top(top)
    return [{"sample": index, "top": [{"class": n, "logit": v} for n, v in row]} for index, row in enumerate(rows)]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bitspike-runtime", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="predictions of samples")
    run.add_argument("--input", type=Path, required=True, help="an .npy file: one sample, or several [B, ...]")
    run.add_argument("--top", type=int, default=1, help="classes a sample")
    run.add_argument("--json", type=Path, help="write the predictions to this file too")
    for command in (run, commands.add_parser("inspect", help="operations, ranges, memory plan")):
        command.add_argument("model", type=Path, help="MODEL.bitspike")
    return parser


def _run(program: Program, asked: argparse.Namespace) -> None:
    try:
        x = np.load(asked.input, allow_pickle=False)
    except ValueError as error:
        raise fault(str(asked.input), "it must be an .npy file of numbers", error, "save it with numpy.save") from error
    if not isinstance(x, np.ndarray):
        raise fault(str(asked.input), "it must hold one array", type(x).__name__, "save it with numpy.save")
    rows = predictions(program, x, asked.top)
    if asked.json is not None:
        _write(asked.json, json.dumps({"predictions": rows}, indent=1) + "\n")
    for row in rows:
        print(f"{row['sample']}: " + ", ".join(f"{best['class']} {best['logit']:.4g}" for best in row["top"]))


def _write(path: Path, text: str) -> None:
    """Atomically: the file is whole or not there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


if __name__ == "__main__":
    sys.exit(main())
