"""The registry of data sets: each set's own file puts one `Entry` into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitspike.data.dataset import Splits
from bitspike.registry import Registry


@dataclass(frozen=True)
class Entry:
    """How one name is loaded.

    Args:
        load: called with root (a folder, or what stands after the colon), validation, seed as keywords, and the
            options given.
        validation: images carved from the training part, or their fraction, where none is asked for.
        root: whether it needs a folder.
        options: keywords of ``load`` that a caller may pass on; of a set with "T", a recipe passes its ``model.T``.
        joined: whether what stands after the colon is a path below root; else ``load`` gets it as ``place``.
        place: what stands after the colon of its name, such as "PATH"; "" where the name is all.
        groups: what its validation part is carved by, such as "persons", where it has an option ``validation_by``
            ("group", the default where they are known, or "class"); then it is only about as large as asked for.
    """

    load: Callable[..., Splits]
    validation: int | float
    root: bool = True
    options: tuple[str, ...] = ()
    place: str = ""
    joined: bool = True
    groups: str = ""


DATASETS: Registry[Entry] = Registry("data set")
"""Data sets by name, without colon and place."""


def listed() -> tuple[str, ...]:
    """Every name as one writes it.

    >>> [name for name in listed() if name.startswith("f")]
    ['fashion_mnist', 'folder:PATH', 'fsdd']
    """
    return tuple(f"{name}:{entry.place}" if entry.place else name for name, entry in DATASETS.items())
