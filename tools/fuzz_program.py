"""Feed mutated program files to the loader until something but a `ProgramError` comes out.

Usage: python tools/fuzz_program.py [--seconds 60] [--corpus FOLDER] [FILE.bitspike ...]

With atheris (``pip install atheris``, Python 3.11 or 3.12) mutations are guided by the coverage of `bitspike.runtime`;
without it they are drawn at random. Seeds are the committed golden and hostile files and those that are named. Torch is
not needed. A file that breaks something is left as crash-*.bitspike in the current folder, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib.util
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "tests" / "runtime"
NASTY = [None, True, 0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**31, 2**63, 0.5, "", "input", [], [0], [2**40], {}, [[]]]


def runtime() -> Any:
    """The package `bitspike.runtime` alone, without the rest of the library."""
    folder = ROOT / "src" / "bitspike" / "runtime"
    spec = importlib.util.spec_from_file_location("bitspike_runtime", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bitspike_runtime"] = module
    spec.loader.exec_module(module)
    return module


class Target:
    """What must hold: a file is refused with a `ProgramError`, or it is a program, which runs and is written again."""

    def __init__(self) -> None:
        self.runtime = runtime()
        self.file = sys.modules["bitspike_runtime.file"]
        self.legal = 0

    def __call__(self, data: bytes) -> None:
        try:
            program = self.runtime.Program(self.file.from_bytes(bytes(data)))
        except self.runtime.ProgramError:
            return
        self.legal += 1
        again = self.file.from_bytes(self.file.to_bytes(program.spec))
        if (again.values, again.sent) != (program.spec.values, program.spec.sent):
            raise AssertionError("the program that was written again is another one")
        given = program.spec.input
        steps = 1 if given.repeat else given.value.steps
        if program.plan.peak_bytes < 2**20 and steps <= 20:
            x = np.full((steps, 1, *given.value.shape), given.value.high)
            results, _ = program.feed(x)
            for name, whole in results.items():
                value = program.spec.values[program.spec.sent[name].value]
                if whole.levels.size and not value.low <= whole.levels.min() <= whole.levels.max() <= value.high:
                    raise AssertionError("a number left the range that was proved")


def mutated(data: bytes, seed: int) -> bytes:
    """A file changed in a few places: of its JSON, with header and digest made right again, or of its bytes."""
    draw = random.Random(seed)
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        program = json.loads(header["__metadata__"]["bitspike.program"])
        body = bytearray(data[8 + size :])
    except (ValueError, KeyError, TypeError, RecursionError):
        return _bytes_changed(data, draw)
    if draw.random() < 0.2:
        return _bytes_changed(data, draw)
    for _ in range(draw.randint(1, 4)):
        if draw.random() < 0.85:
            _tree_changed(program if draw.random() < 0.9 else header, draw)
        elif body:
            body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    if isinstance(program, dict):
        program["sha256"] = "0" * 64
    header["__metadata__"] = {"bitspike.program": json.dumps(program)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    size = len(text).to_bytes(8, "little")
    right = hashlib.sha256(size + text + body).hexdigest()  # of the file with zeros in its place
    return size + text.replace(b"0" * 64, right.encode(), 1) + bytes(body)


def _tree_changed(tree: Any, draw: random.Random) -> None:
    """Go down at random; then replace, copy, count on or leave out."""
    root = tree
    while isinstance(tree, (dict, list)) and tree:
        key = draw.choice(list(tree)) if isinstance(tree, dict) else draw.randrange(len(tree))
        if isinstance(tree[key], (dict, list)) and tree[key] and draw.random() < 0.85:
            tree = tree[key]
            continue
        move = draw.randrange(5)
        if move == 0:
            tree[key] = copy.deepcopy(draw.choice(NASTY))
        elif move == 1 and isinstance(tree[key], int):
            tree[key] += draw.choice([-1, 1, 2**31, -(2**31)])
        elif move == 2:
            tree[key] = draw.randint(-300, 300)
        elif move == 3:
            del tree[key]
        else:
            other = root[draw.choice(list(root))] if isinstance(root, dict) and root else root
            tree[key] = json.loads(json.dumps(other))
        return


def _bytes_changed(data: bytes, draw: random.Random) -> bytes:
    raw = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(raw) + 1)
        move = draw.randrange(4)
        if move == 0 and place < len(raw):
            raw[place] ^= 1 << draw.randrange(8)
        elif move == 1:
            del raw[place : place + draw.randint(1, 64)]
        elif move == 2:
            raw[place:place] = draw.randbytes(draw.randint(1, 8))
        else:
            raw[place:place] = raw[: draw.randint(0, 64)]
    return bytes(raw)


def plainly(target: Target, seeds: list[bytes], seconds: float) -> int:
    """Random mutations of the seeds, and of what was legal after them, for so long; returns the exit code."""
    began, runs, pool = time.monotonic(), 0, list(seeds)
    draw = random.Random(0)
    while time.monotonic() - began < seconds:
        data = mutated(draw.choice(pool), runs)
        legal = target.legal
        try:
            target(data)
        except Exception as error:
            name = f"crash-{hashlib.sha256(data).hexdigest()[:12]}.bitspike"
            Path(name).write_bytes(data)
            print(f"{name}: {error!r}")
            return 1
        if target.legal > legal and len(data) < 2**16:
            pool = [*pool[-200:], data]
        runs += 1
    print(f"{runs} files in {seconds:g} s, {target.legal} of them legal; nothing but ProgramError came out")
    return 0


def guided(atheris: Any, seeds: list[bytes], corpus: Path, seconds: float) -> int:
    """Coverage-guided mutations through libFuzzer, which ends the process."""
    with atheris.instrument_imports(include=["bitspike_runtime"]):
        target = Target()
    corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        return mutated(bytes(data), seed)[:size] if seed % 4 else bytes(atheris.Mutate(data, size))

    options = [f"-max_total_time={int(seconds)}", "-max_len=65536", "-artifact_prefix=crash-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def main() -> int:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    parser.add_argument("files", nargs="*", type=Path)
    given = parser.parse_args()
    seeds = [path.read_bytes() for path in sorted(SEEDS.glob("*/*.bitspike"))]
    seeds += [path.read_bytes() for path in given.files]
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        print("without atheris: random mutations, not guided by coverage")
        return plainly(Target(), seeds, given.seconds)
    return guided(atheris, seeds, given.corpus, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
