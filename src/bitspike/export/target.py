"""What a target is, and the one registry of them: other systems that a program or a folded network is written for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from bitspike.graph import Graph
from bitspike.registry import Registry
from bitspike.runtime import Program

Reads = Literal["program", "network"]


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: of the program or run; files and symbols are named after it.
        program: integers, where there is one. graph: the folded network's, where there is one.
    """

    name: str
    program: Program | None = None
    graph: Graph | None = None


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: every file, the main one first. notes: what a user of them has to know, a sentence each.
        facts: sizes and such, plain values.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None


class Target(ABC):
    """One system that reads what bitspike writes; a file each, registered by name.

    Attributes:
        reads: whether it is made from the integer program or from the folded network.
        about: what comes out, in one line. suffix: of the main file.
        options: name → (default, what it does); values have the type of the default.
    """

    reads: ClassVar[Reads]
    about: ClassVar[str]
    suffix: ClassVar[str]
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {}

    @abstractmethod
    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        """Everything that the target could not say, each by its place and with what to change; none: it says it all."""

    @abstractmethod
    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        """Write the files; called only where nothing is lost."""


TARGETS: Registry[type[Target]] = Registry("export target")
