"""Which programs there are, and their cards."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arithmetic import Array
from ..errors import fault
from ..samples import read_array
from ..strict_json import parse

FOLDER = Path(__file__).parent / "programs"
"""DATA/KIND.bitspike, DATA/KIND.json (the card), and for some sets DATA/samples.npy and notices."""


@dataclass(frozen=True)
class Card:
    """What is known of a program of the zoo.

    Attributes:
        name: DATA/KIND. path: file of the program. facts: the card; docs/zoo.md lists its keys.
    """

    name: str
    path: Path
    facts: Mapping[str, Any]

    def samples(self) -> Array | None:
        """The samples that come with the package, as the program takes them; None for sets that may not be copied."""
        named = self.facts["slice"]["file"]
        return None if named is None else read_array(self.path.with_name(named))

    def notices(self) -> list[Path]:
        """Files whose text must go with a copy of the program."""
        return [self.path.with_name(part["file"]) for part in self.facts["derives_from"] if part["file"] is not None]


def zoo_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of all programs, DATA/KIND, sorted."""
    return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.bitspike")))


def zoo_card(name: str, folder: Path = FOLDER) -> Card:
    """The card of a program.

    Raises:
        ProgramError: no program of that name; the nearest ones are told.
    """
    known = zoo_names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        todo = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose one of {', '.join(known)}"
        raise fault("zoo", "the name must be one that `zoo list` shows", repr(name), todo)
    path = folder.joinpath(*name.split("/")).with_suffix(".bitspike")
    return Card(name, path, parse(path.with_suffix(".json").read_bytes(), f"card {name}"))
