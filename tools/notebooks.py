"""Executes the tutorials and writes them back with their outputs, or checks that they still run.

Usage: python tools/notebooks.py [NAME ...] [--check] [--folder DIR]

NAME is a file of docs/tutorials or the beginning of its name ("1"); without one, all of them. Every notebook runs in a
fresh kernel with two threads, in an empty folder. Written files hold no times, counters and paths of this run, and the
same cells always have the same ids. --check writes nothing: the code must run without an error, within the limit, and
print what the file holds wherever that has no numbers.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from bitspike.files import write_text_atomic

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
LIMIT_S, SMALL_BYTES = 90, 400_000
"""Seconds that a notebook may take on two cores; bytes of its file."""
QUIET = ["--log-level=40"]  # of the kernel: errors only
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def execute(path: Path, folder: Path) -> tuple[Any, float]:
    """The notebook with the outputs of a fresh kernel that stands in the folder, and the seconds it took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed. CellTimeoutError: one took longer than all may.
    """
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(book, timeout=LIMIT_S, kernel_name="python3", resources=resources, extra_arguments=QUIET)
    start = time.perf_counter()
    client.execute(env=env)
    return book, time.perf_counter() - start


def normalised(book: Any) -> Any:
    """The same notebook without what differs from run to run; cells are numbered from 1."""
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    book.nbformat, book.nbformat_minor = 4, 5
    for place, cell in enumerate(book.cells, 1):
        cell.id, cell.metadata = f"cell-{place}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _joined(cell.outputs)
    return book


def _joined(outputs: Sequence[Any]) -> list[Any]:
    """Outputs without numbers and addresses; pieces of one stream are one, and of a rewritten line the last stays."""
    found: list[Any] = []
    for output in outputs:
        output = nbformat.from_dict(output)
        if "execution_count" in output:
            output.execution_count = None
        if output.output_type in ("display_data", "execute_result"):
            output.metadata = nbformat.from_dict({})
            if "image/png" in output.data:
                output.data.pop("text/plain", None)
            if "text/plain" in output.data:
                output.data["text/plain"] = ADDRESS.sub("", output.data["text/plain"])
        if output.output_type == "stream" and found and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    for output in found:
        if output.output_type == "stream":
            output.text = "\n".join(line.split("\r")[-1] for line in output.text.replace("\r\n", "\n").split("\n"))
    return found


def faults(book: Any) -> list[str]:
    """What a committed notebook must not hold: warnings, errors, paths of a machine, files that are too large."""
    found, size = [], len(nbformat.writes(book).encode())
    if size > SMALL_BYTES:
        found.append(f"{size:,} bytes, at most {SMALL_BYTES:,}: draw smaller pictures")
    for place, cell in enumerate(book.cells, 1):
        for output in cell.get("outputs", ()):
            words = printed(output)
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {place}: an error or a warning: {words[:200]}")
            if any(part in words for part in (str(ROOT), str(Path.home()) + os.sep, tempfile.gettempdir() + os.sep)):
                found.append(f"cell {place}: a path of this machine")
    return found


def printed(output: Mapping[str, Any]) -> str:
    """The text of an output; none for pictures."""
    kind = output["output_type"]
    if kind == "stream":
        return str(output["text"])
    if kind == "error":
        return f"{output['ename']}: {output['evalue']}"
    return str(output["data"].get("text/plain", "")) if "image/png" not in output["data"] else "(picture)"


def differences(committed: Any, ran: Any) -> list[str]:
    """Lines of text that changed, numbers left out; how many pictures there are counts too."""
    found = []
    for place, (old, new) in enumerate(zip(committed.cells, ran.cells, strict=True), 1):
        if old.cell_type == "code":
            before, after = (_words(cell.outputs) for cell in (old, new))
            found += [f"cell {place}: {line}" for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    return found


def _words(outputs: Sequence[Any]) -> list[str]:
    text = "\n".join(printed(output) for output in outputs)
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines() if line.strip()]


def chosen(names: Sequence[str], folder: Path) -> list[Path]:
    """Notebooks of a folder whose names begin with one of these; all without names.

    Raises:
        SystemExit: a name that no notebook has, or a folder without notebooks.
    """
    there = sorted(folder.glob("*.ipynb"))
    if not there:
        raise SystemExit(f"notebooks: {folder} must hold notebooks, got none; give their folder with --folder")
    paths = []
    for name in names:
        found = [path for path in there if path.name.startswith(Path(name).name)]
        if not found:
            known = ", ".join(path.stem for path in there)
            raise SystemExit(f"notebooks: NAME must begin one of {known}, got {name!r}")
        paths += found
    return list(dict.fromkeys(paths)) if names else there


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    parser.add_argument("--folder", type=Path, default=TUTORIALS)
    given = parser.parse_args(arguments)
    bad = 0
    for path in chosen(given.names, given.folder):
        try:
            with tempfile.TemporaryDirectory() as empty:
                ran, seconds = execute(path, Path(empty))
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"{path.stem}: failed\n{COLOUR.sub('', str(error))}", file=sys.stderr, flush=True)
            bad += 1
            continue
        ran = normalised(ran)
        problems = faults(ran)
        if seconds > LIMIT_S:
            problems.append(f"it took longer than {LIMIT_S} s")
        if given.check:
            problems += differences(nbformat.read(path, as_version=4), ran)
        else:
            write_text_atomic(path, nbformat.writes(ran, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.stem}: {seconds:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
        bad += bool(problems)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
