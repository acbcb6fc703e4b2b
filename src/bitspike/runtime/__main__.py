"""`python -m bitspike_runtime run|inspect|bench MODEL.bitspike`, and `zoo`: predictions and facts, without torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .autotune import autotune
from .backends import ENGINES, engine_document
from .bench import bench
from .engine.tuned import plan_path, write_plan
from .errors import ProgramError, fault
from .file import load
from .program import Program, Result
from .samples import as_frames, as_numbers, read_array
from .zoo.command import ACTIONS, chosen, copy_to, listed, opened, run_card


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise fault("bitspike-runtime", "the command must be as --help says", message, "correct it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 on bad input with one line on the error stream."""
    try:
        asked = _parser().parse_args(arguments)
        if asked.command == "zoo":
            return _zoo(asked)
        program = load(asked.model, asked.engine, asked.threads, not getattr(asked, "autotune", False))
        {"run": _run, "inspect": _inspect, "bench": _bench}[asked.command](program, asked)
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
        program: one with a mean read-out over classes, or one whose outputs have names: then a sample has "outputs",
            by name, and of one that is no row of classes its shape, least and greatest number. x: as the program takes
            it. top: classes a sample, of each output at most as many as it has.
    """
    if not program.spec.outputs:
        return [{"sample": i, "top": _classes(row)} for i, row in enumerate(program(x).top(top))]
    columns = {name: _column(result, top) for name, result in program.run(x).items()}
    count = len(next(iter(columns.values())))
    return [{"sample": i, "outputs": {name: rows[i] for name, rows in columns.items()}} for i in range(count)]


def _classes(row: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"class": name, "logit": value} for name, value in row]


def _column(result: Result, top: int) -> list[dict[str, Any]]:
    """An output of all samples; see `predictions`."""
    if result.levels.ndim == 2 and result.levels.shape[1]:
        return [{"top": _classes(row)} for row in result.top(min(top, result.levels.shape[1]))]
    values = result.values if result.mean else result.values.swapaxes(0, 1)
    return [{"shape": list(one.shape), "low": float(one.min()), "high": float(one.max())} for one in values]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bitspike-runtime", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="predictions of samples")
    run.add_argument(
        "--input",
        type=Path,
        required=True,
        help="an .npy file: one sample, or several [B, ...]: numbers, uint8 images, or sequences [B, T, ...]",
    )
    run.add_argument("--top", type=int, default=1, help="classes a sample")
    inspect = commands.add_parser("inspect", help="operations, ranges, memory, what the engine does with them")
    speed = commands.add_parser("bench", help="latencies, and where the time goes")
    speed.add_argument("--input", type=Path, help="an .npy file of samples; random integers where it is left out")
    speed.add_argument("--batch", type=int, default=32, help="samples a call, beside calls for one")
    speed.add_argument("--calls", type=int, default=200, help="calls that are timed for each")
    speed.add_argument("--warmup", type=int, default=20, help="calls before them")
    speed.add_argument("--autotune", action="store_true", help="measure forms of kernels first, leave MODEL.plan.json")
    zoo = commands.add_parser("zoo", help="trained programs of this package: list them, copy one, run one")
    zoo.add_argument("action", choices=ACTIONS, help="list: all, or the card of one; get: copy; run: on its samples")
    zoo.add_argument("name", nargs="?", help="DATA/KIND, such as digits/binary")
    zoo.add_argument("--out", type=Path, help="of get: the file of the copy; the card goes beside it")
    zoo.add_argument("--input", type=Path, help="of run: an .npy file of samples instead of the card's")
    zoo.add_argument("--top", type=int, default=1, help="of run: classes a sample")
    for command in (run, inspect, speed):
        command.add_argument("model", type=Path, help="MODEL.bitspike")
    for command in (run, inspect, speed, zoo):
        command.add_argument("--engine", choices=ENGINES, default="auto", help="what runs it")
        command.add_argument("--threads", type=int, help="of the native engine at most; one a core where left out")
        command.add_argument("--json", type=Path, help="write the result to this file too")
    return parser


def _inspect(program: Program, asked: argparse.Namespace) -> None:
    _result(asked.json, {"engine": engine_document(program.engine), "peak_bytes": program.plan.peak_bytes})
    print(program.report())


def _bench(program: Program, asked: argparse.Namespace) -> None:
    x = None if asked.input is None else _samples(program, asked.input)
    if asked.autotune:
        write_plan(autotune(program, x), plan_path(asked.model))
        program = load(asked.model, asked.engine, asked.threads)
    found = bench(program, x, sorted({1, asked.batch}), asked.calls, asked.warmup)
    _result(asked.json, {"input": str(asked.input or "random"), **found.as_dict()})
    print(program.engine.line)
    print(found)


def _run(program: Program, asked: argparse.Namespace) -> None:
    rows = predictions(program, _samples(program, asked.input), asked.top)
    _result(asked.json, {"predictions": rows, "engine": program.engine.facts})
    print(program.engine.line, file=sys.stderr)
    for row in rows:
        parts = {name: _words(each) for name, each in row["outputs"].items()} if "outputs" in row else {}
        print(f"{row['sample']}: " + ("; ".join(f"{k}: {text}" for k, text in parts.items()) or _words(row)))


def _words(found: dict[str, Any]) -> str:
    if "top" in found:
        return ", ".join(f"{best['class']} {best['logit']:.4g}" for best in found["top"])
    return f"{'×'.join(map(str, found['shape']))} from {found['low']:.4g} to {found['high']:.4g}"


def _zoo(asked: argparse.Namespace) -> int:
    """`zoo list`, `get` and `run`; 1 where a program does not give what its card says."""
    if asked.action == "list":
        text, document = listed(asked.name)
        _result(asked.json, document)
        print(text)
        return 0
    card = chosen(asked.name, asked.action)
    if asked.action == "get":
        files = copy_to(card, asked.out)
        _result(asked.json, {"files": [str(path) for path in files]})
        print("\n".join(map(str, files)))
        return 0
    program = opened(card, asked.engine, asked.threads)
    if asked.input is not None:
        _run(program, asked)
        return 0
    x = card.samples()
    if x is None:
        got = f"none: those of {card.facts['data']['name']} are not in the package"
        raise fault("zoo run", "samples must be given", got, "pass --input X.npy")
    text, document, kept = run_card(card, program, x, asked.top)
    _result(asked.json, document)
    print(text)
    return 0 if kept else 1


def _samples(program: Program, path: Path) -> Any:
    read = as_frames if program.spec.info.get("time") else as_numbers
    return read(program, read_array(path), str(path))


def _result(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        _write(path, json.dumps(document, indent=1) + "\n")


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
