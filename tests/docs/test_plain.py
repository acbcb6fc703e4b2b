"""Pages can be read on a narrow screen: short lines, tables of few columns, split where rewritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitspike.report import as_markdown, narrow_tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
COLUMNS, CHARACTERS = 6, 120


def lines_of(text: str) -> list[tuple[int, str, bool]]:
    """(number, line, whether a tool writes it) of what stands outside code fences."""
    found, fenced, written = [], False, False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        written = (written or re.match(r"<!-- [\w-]+: ", line) is not None) and not line.startswith("<!-- end")
        if not fenced:
            found.append((number, line, written))
    return found


def test_lines_are_told_apart() -> None:
    text = "a\n```\nb\n```\n<!-- table: x -->\nc\n<!-- end -->\nd"
    assert [(line, written) for _, line, written in lines_of(text) if len(line) == 1] == [
        *[("a", False), ("c", True), ("d", False)]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_have_few_columns(page: Path) -> None:
    rules = [(n, line) for n, line, _ in lines_of(page.read_text(encoding="utf-8")) if re.match(r"^\|[ :|-]+\|$", line)]
    assert not [(n, line) for n, line in rules if line.count("|") - 1 > COLUMNS]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    prose = [(n, line) for n, line, written in lines_of(page.read_text(encoding="utf-8")) if not written]
    assert not [(n, line) for n, line in prose if len(line) > CHARACTERS and not line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lists_within_lists_are_nested_on_the_site(page: Path) -> None:
    """Its reader of Markdown wants four spaces a level, and makes one flat list of fewer."""
    items = [
        (n, line) for n, line, _ in lines_of(page.read_text(encoding="utf-8")) if re.match(r" +([-*]|\d+\.) ", line)
    ]
    assert not [(n, line) for n, line in items if (len(line) - len(line.lstrip())) % 4]


def test_a_wide_table_is_split_and_loses_nothing() -> None:
    rows = [[f"{r}{c}" for c in "abcdefgh"] for r in "12"]
    head = list("abcdefgh")
    text = narrow_tables(f"words\n{as_markdown([head, *rows])}\nmore")
    tables = [[line for line in part.split("\n") if line.startswith("|")] for part in text.split("\n\n")]
    cells = [[re.findall(r"[^| ]+", line) for line in table if "---" not in line] for table in tables]
    assert len(tables) == 2 and all(len(line) <= COLUMNS for table in cells for line in table)
    assert [one + other[1:] for one, other in zip(*cells, strict=True)] == [head, *rows]
    assert text.startswith("words\n| a |") and text.endswith("|\nmore")


def test_names_of_rows_are_repeated_until_they_differ() -> None:
    table = as_markdown([list("abcdefgh"), ["x", "1", *"lmnopq"], ["x", "2", *"rstuvw"]])
    assert narrow_tables(table).count("| x | 1 |") == narrow_tables(table).count("| x | 2 |") == 2


def test_rows_that_say_nothing_stand_in_the_first_part_alone() -> None:
    table = as_markdown([list("abcdefgh"), ["x", *"1234567"], ["y", *"1234", "", "", ""]])
    assert narrow_tables(table).count("| y |") == 1


def test_narrow_tables_and_code_stay() -> None:
    table = as_markdown([list("abcdefgh"), list("12345678")])
    fenced = f"```\n{table}\n```"
    narrow = as_markdown([["a", "b"], ["1", "2"]])
    assert narrow_tables(fenced) == fenced and narrow_tables(narrow) == narrow and narrow_tables("") == ""
    with pytest.raises(ValueError, match="most must be at least 3, got 2"):
        narrow_tables(table, 2)
