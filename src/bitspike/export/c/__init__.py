"""C99: one file and one header from a program."""

from .source import Written, written
from .target import C

__all__ = ["C", "Written", "written"]
