"""clang and wasm-ld: C in, a WebAssembly module out; the same compiler gives the same bytes everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bitspike.checks import bad_value

STACK_BYTES = 65536
"""Below everything else in memory, so that a stack that grows too far traps instead of overwriting numbers."""
# -Os: as fast as -O3 here, at half the size; vectors (-msimd128) brought bytes and no speed.
_FLAGS = (
    *("--target=wasm32", "-mcpu=mvp", "-std=c99", "-Os", "-fno-ident", "-nostdlib", "-isystem", "."),
    *(
        "-Wl,--no-entry",
        "-Wl,--export=__heap_base",
        "-Wl,--strip-all",
        "-Wl,--stack-first",
        f"-Wl,-z,stack-size={STACK_BYTES}",
    ),
)
_TODO = "install clang and lld (Debian: clang, lld; Homebrew: llvm, lld) and put them into PATH"


def missing() -> str:
    """What is not there; nothing where all is."""
    return " and ".join(name for name in ("clang", "wasm-ld") if shutil.which(name) is None)


def compiled(where: str, sources: Mapping[str, str], main: str, define: Iterable[str] = ()) -> bytes:
    """Compile one file, which may include the others.

    Args:
        where: what asks, for messages. sources: file name → text. main: the one to compile. define: NAME=VALUE.

    Raises:
        ValueError: clang or wasm-ld is missing, or does not know WebAssembly.
    """
    lacking = missing()
    if lacking:
        raise bad_value(where, "clang and wasm-ld must be in PATH", f"no {lacking}", _TODO)
    with tempfile.TemporaryDirectory() as place:
        for name, text in sources.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        command = ["clang", *_FLAGS, *(f"-D{name}" for name in define), main]
        plain = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            [*command, "-o", "out.wasm"], cwd=place, capture_output=True, text=True, check=False, env=plain
        )
        if done.returncode:
            got = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            must = "clang must compile for wasm32"
            raise bad_value(where, must, got[0], "use LLVM's own clang and wasm-ld, 14 or later")
        return (Path(place) / "out.wasm").read_bytes()
