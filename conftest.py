"""Doctests are collected from every file; those that need triton are left out where there is none."""

from importlib.util import find_spec

_NEED_TRITON = ["src/bitspike/ops/scan_triton_kernels.py", "tests/ops/compile_triton.py"]
collect_ignore = [] if find_spec("triton") else _NEED_TRITON
