"""Command line: thin calls into the library. Exit code 0 on success, 2 on bad input with one line, 130 on Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
import tyro

from bitspike import __version__, native
from bitspike.commands import compare, convert, cost, demo, evaluate, fold, study, train
from bitspike.process_memory import keep_memory

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "eval": evaluate,
    "fold": fold,
    "cost": cost,
    "convert": convert,
    "compare": compare,
    "study": study,
    "demo": demo,
}
_STYLE = (tyro.conf.FlagCreatePairsOff,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``bitspike`` and ``python -m bitspike``."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        print(f"bitspike {__version__}, torch {torch.__version__}; native kernels: {_kernels()}")
        return
    keep_memory()  # where it cannot, commands are slower and nothing else
    app = tyro.extras.SubcommandApp()
    for name, function in COMMANDS.items():
        app.command(name=name)(function)
    try:
        app.cli(prog="bitspike", description="Multi-bit spiking neural networks.", args=given, config=_STYLE)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"bitspike: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("bitspike: interrupted; the same command goes on where it was (train: with --resume)", file=sys.stderr)
        raise SystemExit(130) from None


def _kernels() -> str:
    return native.isa_in_use() or "none, plain PyTorch serves"


if __name__ == "__main__":
    main()
