"""Progress without a terminal: a line a job and an epoch, and within an epoch one every 30 s."""

from __future__ import annotations

import pytest

from bitspike import progress
from bitspike.progress import Shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_lines_without_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Shown(2) as shown:
        shown.job(1, 2, "one: running")
        for step in range(1, 9):  # an epoch of 80 s, a log line every 10 s
            clock[0] += 10
            shown.step({"epoch": step / 8, "epochs": 2, "loss": 1.0})
        shown.step({"epoch": 1, "epochs": 2, "loss": 1.0, "validation_accuracy": 0.5})
        clock[0] += 1
        shown.step({"epoch": 1.5, "epochs": 2, "loss": 1.0})
        shown.step({"epoch": 2, "epochs": 2, "loss": 0.5, "validation_accuracy": 0.75})
    assert capsys.readouterr().err.splitlines() == [
        "    0.0 s  [1/2] one: running",
        "   30.0 s  [1/2] one: running: epoch 0.4/2 loss 1.000 2 min 10 s left",
        "   60.0 s  [1/2] one: running: epoch 0.8/2 loss 1.000 1 min 40 s left",
        "   80.0 s  [1/2] one: running: epoch 1.0/2 loss 1.000 validation 50.00% 1 min 20 s left",
        "   81.0 s  [1/2] one: running: epoch 2.0/2 loss 0.500 validation 75.00%",
    ]


def test_images_a_second(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Counted from the first figures, so that a run that goes on at epoch 3 is not faster than it is."""
    with Shown(1) as shown:
        shown.job(1, 1, "one")
        for epoch in (3.5, 4.0):
            clock[0] += 50
            shown.step({"epoch": epoch, "epochs": 5, "loss": 1.0, "samples": 1000})
    assert capsys.readouterr().err.splitlines()[-1].endswith("epoch 4.0/5 loss 1.000 10 images/s 1 min 40 s left")


def test_quiet_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Shown(1, quiet=True) as shown:
        shown.job(1, 1, "one: running")
        shown.step({"epoch": 1, "epochs": 1, "loss": 0.5, "validation_accuracy": 0.75})
    assert capsys.readouterr().err == ""


def test_without_jobs_there_is_no_label(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Shown() as shown:
        shown.step({"epoch": 1, "epochs": 1, "loss": 0.5, "validation_accuracy": 0.75})
    assert capsys.readouterr().err == "    0.0 s  epoch 1.0/1 loss 0.500 validation 75.00%\n"


CELL = """
from bitspike.progress import Shown
with Shown(1) as shown:
    shown.job(1, 1, "<one>")
    for epoch in (0.5, 1.0):
        shown.step({"epoch": epoch, "epochs": 2, "loss": 1.0})
    shown.step({"epoch": 2, "epochs": 2, "loss": 0.5, "validation_accuracy": 0.75})
"""


def test_a_notebook_has_one_bar_and_no_lines() -> None:
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client.NotebookClient(book, timeout=60).execute()
    (output,) = book.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.data["text/plain"] == "100% [1/1] <one>: epoch 2.0/2 loss 0.500 validation 75.00%"
    assert 'value="1.000"' in output.data["text/html"] and "&lt;one&gt;" in output.data["text/html"]
