"""Name → class. Filled at import only; a duplicate name raises, an unknown one suggests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bitspike.checks import bad_value, choice, suggestion

E = TypeVar("E")
V = TypeVar("V")


class Registry(Generic[E]):
    """A read-mostly table of named variants.

    >>> shapes: Registry[type] = Registry("shape")
    >>> @shapes.register("square")
    ... class Square: ...
    >>> shapes["square"] is Square
    True
    >>> shapes["sqare"]
    Traceback (most recent call last):
        ...
    ValueError: shape registry: the name must be one of 'square', got 'sqare'; did you mean 'square'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, E] = {}

    def register(self, name: str) -> Callable[[V], V]:
        """Decorator that stores an entry under ``name``; raises `ValueError` if the name is taken."""

        def store(entry: V) -> V:
            if name in self._entries:
                raise bad_value(f"{self.kind} registry", "a name is registered once", repr(name), "choose another name")
            self._entries[name] = entry  # type: ignore[assignment]
            return entry

        return store

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except KeyError:
            must = choice("the name", self._entries)
            raise bad_value(f"{self.kind} registry", must, repr(name), suggestion(name, self._entries)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def items(self) -> Iterator[tuple[str, E]]:
        """(name, entry) pairs in order of registration."""
        return iter(self._entries.items())

    def name_of(self, entry: object) -> str:
        """The name under which ``entry`` is registered; raises `ValueError` if it is not."""
        for name, known in self._entries.items():
            if known is entry:
                return name
        raise bad_value(f"{self.kind} registry", "the entry must be registered", entry, "register it first")
