"""The driver's end of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cells import OURS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CXX", "CC", "LD_LIBRARY_PATH")
"""Settings of the shell that are handed on; others would treat runtimes differently."""


class WorkerError(Exception):
    """A worker is missing, died, failed or took too long."""


class Process:
    """One runtime in a process of its own.

    Args:
        peer: name in `cells`. python: its interpreter. threads: of OpenMP.
    """

    def __init__(self, peer: str, python: Path, threads: int) -> None:
        if not python.exists():
            raise WorkerError(f"no environment for {peer}; run benchmarks/inference/setup.sh")
        environment = {key: os.environ[key] for key in KEPT if key in os.environ}
        environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        if peer == OURS:
            environment["PYTHONPATH"] = str(ROOT / "src")
        self.peer, self._errors = peer, tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [str(python), str(HERE / "worker.py"), peer],
            cwd=HERE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            self.versions: dict[str, str] = self.ask({"do": "hello"}, 120)["versions"]
        except WorkerError:
            self.close()
            raise

    def ask(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to an order.

        Raises:
            WorkerError: it failed, the process ended, or it did not answer in time.
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
                raise WorkerError(f"{self.peer} did not answer {order['do']!r} within {timeout_s:g} s")
            piece = os.read(answer.fileno(), 65536)
            if not piece:
                raise WorkerError(self._last_words())
            line += piece
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WorkerError(f"{self.peer}: {found['error']}")
        return found

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
        return f"{self.peer} ended with {code}: {lines[-1][:200] if lines else 'no message'}"
