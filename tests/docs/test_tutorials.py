"""The tutorials: committed with outputs, small, without paths; the code of each runs and prints the same words."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="not run: pip install nbformat nbclient ipykernel")
pytest.importorskip("nbclient", reason="not run: pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="not run: pip install ipykernel")

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
NAMES = ["first_network", "your_own_network", "fit_a_budget", "ann_to_chip", "events_and_streaming", "a_new_neuron"]


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def book(*cells: Any) -> Any:
    return nbformat.v4.new_notebook(cells=list(cells))


def printing(text: str, name: str = "stdout") -> Any:
    return nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", name=name, text=text)])


def test_the_tutorials_are_there() -> None:
    wanted = [f"{place}_{name}" for place, name in enumerate([*NAMES, "reading_costs"], 1)]
    assert [path.stem for path in BOOKS] == wanted
    assert sum(path.stat().st_size for path in BOOKS) < 2_000_000


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_executed_and_clean(path: Path) -> None:
    held = nbformat.read(path, as_version=4)
    nbformat.validate(held)
    assert not tool().faults(held)
    assert nbformat.writes(tool().normalised(held), indent=1, ensure_ascii=False) + "\n" == path.read_text("utf-8")
    assert any(cell.get("outputs") for cell in held.cells)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert "## What next" in text and links
    assert not [link for link in links if not (path.parent / link).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    assert tool().main([path.stem, "--check"]) == 0


def test_what_differs_from_run_to_run_is_taken_out() -> None:
    cell = printing("1 of 2\r2 of 2\ndone ")
    cell.outputs += printing("in all\n").outputs
    cell.execution_count, cell.metadata["execution"] = 7, {"started": "now"}
    made = tool().normalised(book(nbformat.v4.new_markdown_cell("# A"), cell))
    assert [cell.id for cell in made.cells] == ["cell-1", "cell-2"]
    assert made.cells[1].execution_count is None and not made.cells[1].metadata
    assert [output.text for output in made.cells[1].outputs] == ["2 of 2\ndone in all\n"]


def test_words_are_compared_and_numbers_are_not() -> None:
    held = book(printing("epoch 1: loss 0.52, kept: True"))
    assert not tool().differences(held, book(printing("epoch 1: loss 1,234.5, kept: True")))
    found = tool().differences(held, book(printing("epoch 1: loss 0.52, kept: False")))
    assert len(found) == 2 and all(line.startswith("cell 1:") for line in found)


@pytest.mark.parametrize("text, name", [(str(ROOT / "x"), "stdout"), ("Warning", "stderr"), ("x" * 500_000, "stdout")])
def test_faults_are_found(text: str, name: str) -> None:
    assert tool().faults(book(printing(text, name))) and not tool().faults(book(printing("fine")))


def test_a_cell_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbformat.write(book(nbformat.v4.new_code_cell("1 / 0")), tmp_path / "bad.ipynb")
    before = (tmp_path / "bad.ipynb").read_bytes()
    assert tool().main(["--folder", str(tmp_path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "bad.ipynb").read_bytes() == before


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="NAME must begin one of 1_first"):
        tool().main(["9"])
    with pytest.raises(SystemExit, match="got none"):
        tool().main(["--folder", str(tmp_path)])
    assert "notebooks" not in sys.modules
