"""Progress of long work: a bar on a terminal and in a notebook; elsewhere a line a job, an epoch and 30 s."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S = 30.0
"""Where there is no terminal, within an epoch a line comes no sooner after another."""


_BAR_S = 0.2


class Shown:
    """Shows how far training is, and which job of a study runs; its `step` is what `fit` and `run_job` call.

    Args:
        total: number of jobs. quiet: show nothing.

    >>> with Shown() as shown:
    ...     shown.step({"epoch": 1.0, "epochs": 2, "loss": 0.5})  # or fit(recipe, data, shown.step)
    """

    def __init__(self, total: int = 1, quiet: bool = False) -> None:
        console = Console(stderr=True, quiet=quiet)
        self._live = console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._task = self._bar.add_task("", total=float(total), note="")
        self._quiet = quiet
        self._page = None if quiet else _notebook_bar()
        self._total, self._drawn = float(total), 0.0
        self._done = 0
        self._label = ""
        self._first: tuple[float, float] | None = None  # time and epoch of the first figures of a job
        self._start = self._said = time.perf_counter()

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._drawn:
            self._draw(True)

    def job(self, position: int, total: int, label: str) -> None:
        """A job starts (or is skipped)."""
        self._first = None
        self._done, self._label = position - 1, f"[{position}/{total}] {label}"
        self._bar.update(self._task, description=self._label, completed=float(self._done), note="")
        self._say(self._label)
        self._draw(True)

    def step(self, figures: dict[str, Any]) -> None:
        """Figures of the running job, from `bitspike.training.fit`."""
        if "timed" in figures:  # before the first step
            self._note(f"times of kernels, program {figures['timed']}/{figures['programs']}", False)
            return
        share = figures["epoch"] / figures["epochs"]
        note = f"epoch {figures['epoch']:.1f}/{figures['epochs']:.0f} loss {figures['loss']:.3f}"
        measured = [key for key in figures if key.startswith("validation_")]  # the one that decides first
        ended = bool(measured)
        if ended:
            name, figure = measured[0].removeprefix("validation_"), figures[measured[0]]
            exact = name == "accuracy"
            note += f" validation {figure:.2%}" if exact else f" validation {name.replace('_', ' ')} {figure:.4g}"
            for kind, layers in figures.get("health", {}).items():
                note += f" {kind} " + ", ".join(f"{name} {n}/{of}" for name, (n, of) in layers.items())
        self._note(note + self._speed(figures), ended)
        self._bar.update(self._task, completed=self._done + share)
        self._draw(ended)

    def _speed(self, figures: dict[str, Any]) -> str:
        """Images a second, where the size of an epoch is known, and the time that is left, since the first figures."""
        now, epoch = time.perf_counter(), float(figures["epoch"])
        if self._first is None:
            self._first = now, epoch
        passed, done = now - self._first[0], epoch - self._first[1]
        if passed <= 0 or done <= 0:
            return ""
        text = f" {figures['samples'] * done / passed:,.0f} images/s" if "samples" in figures else ""
        left = (float(figures["epochs"]) - epoch) * passed / done
        return text + (f" {_span(left)} left" if left > 0 else "")

    def _note(self, note: str, now: bool) -> None:
        if now or time.perf_counter() - self._said >= EVERY_S:
            self._say(f"{self._label}: {note}" if self._label else note)
        self._bar.update(self._task, note=note)

    def _say(self, text: str) -> None:
        """A plain line where there is no terminal."""
        if not self._live and not self._quiet and self._page is None:
            self._said = time.perf_counter()
            print(f"{self._said - self._start:7.1f} s  {text}", file=sys.stderr, flush=True)

    def _draw(self, now: bool) -> None:
        """The bar of a notebook."""
        if self._page is None or not (now or time.perf_counter() - self._drawn >= _BAR_S):
            return
        self._drawn = time.perf_counter()
        task = self._bar.tasks[0]
        share, note = task.completed / max(self._total, 1e-9), task.fields["note"]
        text = f"{self._label}: {note}" if self._label and note else self._label or note
        bar = f'<progress value="{share:.3f}" max="1" style="width: 16em"></progress>'
        self._page({"text/plain": f"{share:4.0%} {text}", "text/html": f"{bar} {html.escape(text)}"})


def _notebook_bar() -> Callable[[dict[str, str]], None] | None:
    """What shows a text in the output of a notebook's cell, over the one before; None where there is no notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    shown: list[Any] = []

    def show(text: dict[str, str]) -> None:
        if shown:
            shown[0].update(text, raw=True)
        else:
            shown.append(display(text, raw=True, display_id=True))  # type: ignore[no-untyped-call]

    return show


def _span(seconds: float) -> str:
    """A time for people.

    >>> _span(42.3), _span(130), _span(7500)
    ('42 s', '2 min 10 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
