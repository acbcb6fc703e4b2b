"""Command line: thin calls into the library.

Exit code 0 on success, 2 on bad input with one line, 130 on Ctrl-C, 141 where the reader of the output has left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import torch

from bitspike import __version__, native
from bitspike.commands import (
    bench,
    compare,
    compile,
    convert,
    cost,
    demo,
    evaluate,
    export,
    fold,
    inspect,
    report,
    reproduce,
    run,
    study,
    train,
    verify,
    view,
    zoo,
)
from bitspike.commands.parse import parse
from bitspike.process_memory import keep_memory

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "eval": evaluate,
    "fold": fold,
    "cost": cost,
    "compile": compile,
    "verify": verify,
    "run": run,
    "inspect": inspect,
    "bench": bench,
    "export": export,
    "zoo": zoo,
    "convert": convert,
    "compare": compare,
    "view": view,
    "report": report,
    "study": study,
    "reproduce": reproduce,
    "demo": demo,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``bitspike`` and ``python -m bitspike``."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"bitspike: {_short(error)}", file=sys.stderr)
        raise SystemExit(2) from error
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        todo = "lower data.batch_size, data.eval_batch_size, model.T or the width"
        print(f"bitspike: memory: it must hold the network and a batch, got {_short(error)}; {todo}.", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("bitspike: interrupted; the same command goes on where it was (train: with --resume)", file=sys.stderr)
        raise SystemExit(130) from None


def _run(given: list[str]) -> None:
    if given == ["--version"]:
        print(f"bitspike {__version__}, torch {torch.__version__}; native kernels: {_kernels()}")
        return
    command = parse(COMMANDS, given)
    keep_memory()  # where it cannot, commands are slower and nothing else
    command()


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _short(error: BaseException) -> str:
    """Its text as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _leave_quietly() -> None:
    """The reader of a pipe has left, as ``head`` does: nothing is wrong, and nothing more is to be said."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):  # the interpreter flushes them once more when it ends
        os.dup2(nowhere, stream.fileno())
    raise SystemExit(141) from None


def _kernels() -> str:
    return native.isa_in_use() or "none, plain PyTorch serves"


if __name__ == "__main__":
    main()
