"""Attributes of operations: what JSON may stand there, and its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import fault
from .limits import INT32, MAX_NAME

REQUIRED: Any = object()


@dataclass(frozen=True)
class Int:
    """An integer from low to high; with ``none`` also null."""

    low: int = INT32[0]
    high: int = INT32[1]
    default: Any = REQUIRED
    none: bool = False

    def check(self, where: str, value: Any) -> Any:
        """Return the value if it is legal, else raise."""
        if value is None and self.none:
            return None
        if type(value) is not int or not self.low <= value <= self.high:
            raise fault(where, f"it must be an integer from {self.low} to {self.high}", repr(value), "correct it")
        return value


@dataclass(frozen=True)
class Ints:
    """A list of integers from low to high, least to most of them."""

    low: int
    high: int
    least: int = 1
    most: int = 3
    default: Any = REQUIRED

    def check(self, where: str, value: Any) -> tuple[int, ...]:
        """Return the values as a tuple if they are legal, else raise."""
        listed = isinstance(value, (list, tuple)) and self.least <= len(value) <= self.most
        if not listed or any(type(item) is not int or not self.low <= item <= self.high for item in value):
            must = f"it must be a list of {self.least} to {self.most} integers from {self.low} to {self.high}"
            raise fault(where, must, repr(value), "correct it")
        return tuple(value)


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    default: Any = REQUIRED

    def check(self, where: str, value: Any) -> str:
        """Return the word if it is legal, else raise."""
        if not isinstance(value, str) or value not in self.words:
            raise fault(where, f"it must be one of {', '.join(self.words)}", repr(value), "choose one")
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    default: Any = False

    def check(self, where: str, value: Any) -> bool:
        """Return the flag if it is one, else raise."""
        if not isinstance(value, bool):
            raise fault(where, "it must be true or false", repr(value), "correct it")
        return value


@dataclass(frozen=True)
class Name:
    """The name of a value."""

    default: Any = REQUIRED

    def check(self, where: str, value: Any) -> str:
        """Return the name if it is a text, else raise; that there is such a value others look at."""
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
            raise fault(where, "it must be the name of a value", repr(value), "correct it")
        return value


Field = Int | Ints | Choice | Flag | Name
Fields = Mapping[str, Field]
"""Attribute → what may stand there."""
Roles = Mapping[str, bool]
"""Constant of an operation, by the part it plays → whether it must be there."""
