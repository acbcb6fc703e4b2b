"""Every file of the package can be the first that an interpreter imports, and the only one that pytest is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from test_tree import OPTIONAL, ROOT, SOURCES

FORKED = f"""
import os, sys, traceback

OPTIONAL = {OPTIONAL!r}

def forked(what, job, given):
    child = os.fork()
    if not child:
        failed = 1
        try:
            failed = int(job(given))
        except ModuleNotFoundError as missing:
            failed = missing.name not in OPTIONAL
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(failed)
    if os.waitpid(child, 0)[1]:
        print(what, given)
"""
COLLECT = """
import pytest, torch  # once for all children

def collect(file):
    return pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", file]) not in (0, 5)

for file in sys.argv[1:]:
    forked("not collected:", collect, file)
"""
IMPORT = """
import importlib
import bitspike  # what any other import of the package begins with

def load(module):
    return importlib.import_module(module).__name__ != module

for module in sys.argv[1:]:
    if module not in sys.modules:
        forked("not imported:", load, module)
"""


def run(script: str, given: list[str]) -> list[str]:
    command = [sys.executable, "-c", FORKED + script, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("not ")]


def registering() -> list[str]:
    """Files that register something, and so cannot be run twice."""
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES.values()}
    return [str(path) for path, text in texts.items() if "\n@" in text and ".register(" in text]


def test_every_module_imports_first() -> None:
    modules = [module for module in SOURCES if not module.endswith("__main__")]
    assert len(modules) > 200
    assert not run(IMPORT, modules)


def test_one_file_is_collected_alone() -> None:
    first = {Path(file).parent: file for file in reversed(registering())}
    assert len(first) > 5
    assert not run(COLLECT, list(first.values()))


@pytest.mark.slow
def test_every_file_that_registers_is_collected_alone() -> None:
    assert not run(COLLECT, registering())
