"""Doctests are collected from every source file; the one that needs triton is left out where there is none."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("triton") else ["src/bitspike/ops/scan_triton_kernels.py"]
