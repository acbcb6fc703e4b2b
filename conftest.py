"""Doctests are collected from every file, each module imported once; those that need triton only where there is one."""

import importlib
from importlib.util import find_spec
from pathlib import Path

_NEED_TRITON = ["src/bitspike/ops/scan_triton_kernels.py", "tests/ops/compile_triton.py"]
_SOURCE = Path(__file__).parent / "src"
collect_ignore = [] if find_spec("triton") else _NEED_TRITON


def pytest_collect_file(file_path: Path) -> None:
    """Import the package of a module the ordinary way, before pytest imports the module.

    With ``--import-mode=importlib`` pytest imports the packages above a file, then runs the file, although its package
    may have imported it: a registered name would be registered twice.
    """
    if file_path.suffix == ".py" and _SOURCE in file_path.parents:
        importlib.import_module(".".join(file_path.parent.relative_to(_SOURCE).parts))
