"""The page of the format against the code: every operation, attribute, constant and key is there."""

from __future__ import annotations

import re
from pathlib import Path

from bitspike.runtime.document import FORMAT, VERSION, write_document
from bitspike.runtime.ops import OPERATIONS
from programs.golden import golden
from programs.golden import named as several

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "program-format.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    lines = PAGE.split(f"\n{heading}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_operation_stands_in_the_table_with_all_it_takes() -> None:
    rows = {re.findall(r"`(\w+)`", row[0])[0]: row for row in table("| kind |")}
    assert list(rows) == list(OPERATIONS)
    for kind, row in OPERATIONS.items():
        text = PAGE.split("**Fire.**")[1].split("A step:")[0] if kind == "fire" else rows[kind][1]
        named = set(re.findall(r"`(\w+)`", text))
        wanted = {*row.fields, *row.roles}
        if kind == "tally":
            assert rows[kind][1] == "as maxpool" and row.fields == OPERATIONS["maxpool"].fields
        else:
            assert named == wanted, kind
        remembers = kind in ("fire", "tally", "windows", "latch", "echo", "mean")
        assert ("*state*" in rows[kind][0]) == remembers


def test_every_key_of_a_file_stands_in_the_table() -> None:
    named = {name for row in table("| key | holds |") for name in re.findall(r"`(\w+)`", row[0])}
    document = write_document(golden().spec, "")
    assert named == {*document, *write_document(several().spec, "")} and "outputs" not in document
    for part, entries in (("values", document["values"]), ("constants", document["constants"])):
        cell = next(row[1] for row in table("| key | holds |") if row[0] == f"`{part}`")
        keys = set(next(iter(entries.values())))
        assert keys <= set(re.findall(r"`(\w+)`", cell))
    assert FORMAT in PAGE and VERSION == (1, 2)
