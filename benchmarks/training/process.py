"""The driver's end of a worker: starts it, asks, notices when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORKERS = ("bitspike", "spikingjelly", "snntorch", "norse", "sinabs")
THREADS = 2
# Suffix of a worker that gets, by glibc's own settings, the heap that `bitspike.keep_memory` makes.
KEPT_HEAP = "+heap"
HEAP = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
# Settings of the shell that would treat libraries differently are not handed on.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CXX", "CC", "LD_LIBRARY_PATH")


class WorkerError(Exception):
    """A worker is missing, died, or took too long."""


@dataclass(frozen=True)
class Places:
    """Where interpreters are.

    Args:
        venvs: folder with one environment a peer. bitspike: interpreter with bitspike's dependencies.
    """

    venvs: Path = ROOT / ".venvs"
    bitspike: Path = ROOT / ".venv" / "bin" / "python"

    def python(self, worker: str) -> Path:
        """Interpreter of a worker."""
        return self.bitspike if worker == "bitspike" else self.venvs / worker / "bin" / "python"


class Worker:
    """One process; `ask` sends an order and waits for the answer."""

    def __init__(self, name: str, places: Places) -> None:
        module = name.removesuffix(KEPT_HEAP)
        python = places.python(module)
        if not python.exists():
            raise WorkerError(f"no environment for {name}; run benchmarks/training/setup.sh {module}")
        environment = {key: os.environ[key] for key in KEPT if key in os.environ}
        environment |= {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
        environment |= HEAP if module != name else {}
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [str(python), "-m", f"workers.{module}"],
            cwd=HERE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            self.facts = self.ask({"do": "hello", "threads": THREADS}, 120)
        except WorkerError:
            self.close()
            raise

    def ask(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to an order.

        Raises:
            WorkerError: the process ended or did not answer in time; it is not to be used again.
        """
        pipe, answer = self._process.stdin, self._process.stdout
        assert pipe is not None and answer is not None
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        line, until = b"", time.monotonic() + timeout_s
        while not line.endswith(b"\n"):
            if not select.select([answer], [], [], max(0.0, until - time.monotonic()))[0]:
                raise WorkerError(f"{self.name} did not answer {order['do']!r} within {timeout_s:g} s")
            piece = os.read(answer.fileno(), 65536)
            if not piece:
                raise WorkerError(self._last_words())
            line += piece
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{self.name} ended with {code}: {lines[-1][:200] if lines else 'no message'}"
