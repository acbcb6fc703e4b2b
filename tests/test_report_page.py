"""The HTML page of a run: its content, what it says of unfinished runs, and how it looks in a browser."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bitspike.cli import main
from bitspike.files import read_json
from bitspike.fold import FoldReport
from bitspike.report.html import Spikes, report_page
from bitspike.report.html.sections import check_section
from bitspike.report.html.svg import lines
from bitspike.report.spikes import Layer, Seen
from bitspike.training.recipe import read_recipe
from bitspike.training.runs import train_run
from exported.chromium import BROWSER, Browser

needs_browser = pytest.mark.skipif(BROWSER is None, reason="not run: there is no chromium")
NAME = "<b>a&b</b>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("page") / "run"
    recipe = read_recipe("digits", ("model.options.width=4", "train.epochs=2", "data.batch_size=256"))
    train_run(replace(recipe, name=NAME), folder, False)
    return folder


def test_a_finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(run)])
    page = (run / "report.html").read_text()
    assert NAME not in page and "&lt;b&gt;a&amp;b&lt;/b&gt;" in page
    assert "<polyline" in page and 'class="raster"' in page and 'class="sample"' in page and "Unfinished" not in page
    assert "<script" not in page and not re.search(r"(src|href)=.(?!data:)", page)
    assert "bitspike cost RUN" in page and "fold: same predictions" in page
    assert "report.html" in capsys.readouterr().out


def test_an_unfinished_run(run: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(run / "recipe.toml", half)
    (half / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    main(["report", str(half), "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "Unfinished: 1 of 2 epochs" in page and "no weights yet" in page and "<circle" in page
    assert not (half / "report.html").exists()


@pytest.mark.parametrize(("name", "words"), [("none", "no such folder"), ("empty", "no recipe.toml")])
def test_no_run(name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / name)])
    assert words in capsys.readouterr().err


def test_a_folder_of_runs_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(run.parent)])
    assert f"pass one of its runs, as {run}" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "shown"), [("digits", True), ("folder", False)])
def test_samples_of_other_data_are_never_on_the_page(data: str, shown: bool, run: Path) -> None:
    one = Seen("test 0", np.eye(8)[None], False, {"a": np.array([[0, 3, -1, 0]])}, np.zeros(1))
    page = report_page(run, "1", Spikes(data, [Layer("a", (4,), -3, 3)], [one]))
    assert ('class="sample"' in page) == shown and 'class="raster"' in page


def test_a_damaged_file_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "recipe.toml", tmp_path)
    (tmp_path / "cost.json").write_text("{}")
    with pytest.raises(ValueError, match="its JSON files must be of this version"):
        report_page(tmp_path, "1", "none")


def test_a_missing_value_leaves_a_gap() -> None:
    assert lines("loss", [1, 2, 3, 4, 5], {"a": [1.0, 2.0, None, 1.0, 2.0]}).count("<polyline") == 2


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("size", "phone"), [((1280, 900), False), ((390, 844), True)])
def test_it_fits_and_asks_for_nothing(size: tuple[int, int], phone: bool, run: Path, tmp_path: Path) -> None:
    for command in (["cost", str(run)], ["report", str(run), "--out", str(tmp_path / "page.html")]):
        main(command)
    browser = Browser(tmp_path)
    try:
        with browser.tab(size, phone, dark=phone) as tab:
            tab.open(tmp_path / "page.html", "document.readyState === 'complete'")
            assert tab.js("document.documentElement.scrollWidth <= innerWidth")
            assert not tab.said and [one for one in tab.asked if not one.startswith("data:")] == [
                (tmp_path / "page.html").as_uri()
            ]
    finally:
        browser.close()


def test_the_committed_page_has_the_figures_of_its_run() -> None:
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs" / "report_digits.html").read_text(encoding="utf-8")
    names = ("summary", "cost", "verify")
    summary, cost, verify = (read_json(root / "results" / "report_digits" / f"{name}.json") for name in names)
    assert isinstance(summary, dict) and isinstance(cost, dict) and isinstance(verify, dict)
    tiles = [f"{summary[f'{part}_accuracy']:.2%}" for part in ("validation", "test", "folded_test")]
    assert all(f"<b>{figure}</b>" in page for figure in [*tiles, f"{cost['size_bytes']:,.0f} B"])
    rows = (
        f"{cost['shift_adds']:,.0f}",
        f"{cost['ann']['multiplications']:,.0f}",
        f"equal on {verify['interpreted']:,}",
    )
    assert all(f"<td>{figure}</td>" in page for figure in rows)


def test_flips_hide_no_difference_of_outputs() -> None:
    """Where every sample has a flipped spike, no sample without one differs, and that is not what counts."""
    fold = FoldReport(samples=2, samples_with_flips=2, agreement=0.5, max_logit_difference_all=2.0125)
    assert "max logit difference 2.01 (0 if fed the same spikes)" in str(fold)
    page = check_section({**asdict(fold), "forced_flips": 3}, None)
    assert "largest difference of outputs</td><td>2.01<" in page and "fed the same spikes</td><td>0<" in page
