"""`zoo list|get|run`, for the command lines of both packages."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..arithmetic import Array
from ..errors import fault
from ..file import load
from ..program import Program
from ..text import columns
from .cards import Card, zoo_card, zoo_names
from .checking import check
from .text import card_text, zoo_table

ACTIONS = ("list", "get", "run")


def listed(name: str | None) -> tuple[str, dict[str, Any]]:
    """(text, JSON) of one card, or of all as a table."""
    if name is None:
        cards = {known: dict(zoo_card(known).facts) for known in zoo_names()}
        return columns(zoo_table(), left=(0, 1)), {"programs": cards}
    card = zoo_card(name)
    return card_text(card), dict(card.facts)


def chosen(name: str | None, action: str) -> Card:
    """The card of the program that is asked for.

    Raises:
        ProgramError: none is named, or one that is not there.
    """
    if name is None:
        raise fault(f"zoo {action}", "a program must be named", "none", f"choose one of {', '.join(zoo_names())}")
    return zoo_card(name)


def copy_to(card: Card, out: Path | None) -> list[Path]:
    """Copy a program, its card and its notices; each file is whole or not there.

    Args:
        out: file of the program, by custom MODEL.bitspike; None: DATA-KIND.bitspike in this folder. The card is written
            beside it as MODEL.json, notices as they are called.
    """
    target = Path(card.name.replace("/", "-") + ".bitspike") if out is None else out
    if target.suffix == ".json" or target.is_dir():
        got = "a folder" if target.is_dir() else target.name
        raise fault("zoo get", "out must be the file of the program, MODEL.bitspike", got, "name a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    pairs = [(card.path, target), (card.path.with_suffix(".json"), target.with_suffix(".json"))]
    pairs += [(notice, target.with_name(notice.name)) for notice in card.notices()]
    for source, goal in pairs:
        _copy(source, goal)
    return [goal for _, goal in pairs]


def _copy(source: Path, goal: Path) -> None:
    handle, part = tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name}")
    try:
        with os.fdopen(handle, "wb") as file, open(source, "rb") as given:
            shutil.copyfileobj(given, file)
        os.chmod(part, 0o644)
        os.replace(part, goal)
    except BaseException:
        os.unlink(part)
        raise


def run_card(card: Card, program: Program, x: Array, top: int) -> tuple[str, dict[str, Any], bool]:
    """(text, JSON, whether predictions are those of the card) for the samples of a card."""
    found, told = check(card, program, x), card.facts["slice"]
    names = program.spec.classes or tuple(map(str, range(max(*found.predictions, *found.labels) + 1)))
    best = program(x).top(min(top, len(names)))
    rows = [["sample", "label", *(f"{i + 1}." for i in range(len(best[0])))]]
    for index, (label, row) in enumerate(zip(found.labels, best, strict=True)):
        rows.append([str(index), names[label], *(f"{kind} {value:.3g}" for kind, value in row)])
    right = sum(a == b for a, b in zip(found.predictions, found.labels, strict=True))
    said = "predictions are those of the card" if found.same else "predictions are NOT those of the card"
    if not found.same_input:
        said += "; the samples are not those of the card either"
    text = f"{columns(rows, left=(0, 1))}\n{told['what']}: {right} of {len(found.labels)} right; {said}"
    document = {
        "program": card.name,
        "predictions": [names[index] for index in found.predictions],
        "labels": [names[index] for index in found.labels],
        "top": [[{"class": kind, "value": value} for kind, value in row] for row in best],
        "same_input": found.same_input,
        "same": found.same,
        "engine": program.engine.facts,
    }
    return text, document, found.same and found.same_input


def opened(card: Card, engine: str, threads: int | None) -> Program:
    """The program of a card."""
    return load(card.path, engine, threads, plan=False)
