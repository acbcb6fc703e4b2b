"""The page as a whole, from the folder of a run."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch

from bitspike.checks import bad_value
from bitspike.files import read_json
from bitspike.report.html.sections import (
    allocation_section,
    check_section,
    cost_section,
    curve_section,
    layer_section,
    table,
)
from bitspike.report.html.spikes import Spikes, spike_section
from bitspike.report.html.style import HEAD
from bitspike.training.measures import MEASURES
from bitspike.training.recipe import Recipe
from bitspike.training.runs import RunFolder


def report_page(folder: Path, version: str, spikes: Spikes | str) -> str:
    """One HTML page of a run: what was trained, curves, layers, cost, checks, spikes, environment.

    What the run does not hold yet has a line that says which command makes it.

    Args:
        folder: of the run, finished or not, or converted. version: of the package.
        spikes: of some samples, or why there are none.

    Returns:
        The page: no scripts, no requests, every name of the user escaped.

    Raises:
        ValueError: no run, or a file of it is damaged or of another form.
    """
    run = RunFolder(folder)
    recipe = run.read()
    summary = run.figures() if run.summary.exists() else {}
    history = _history(run, summary)
    cost, fold, verify = (_table(folder / f"{name}.json") for name in ("cost", "fold", "verify"))
    fold = summary.get("fold") if fold is None else fold
    name = escape(recipe.name)
    parts = [
        f"<header><h1>{name}</h1><p class='note'>{escape(_about(recipe))}</p>",
        f"{_state(recipe, summary, history)}</header>",
    ]
    try:
        parts += [
            _tiles(summary, cost),
            _section("Training", curve_section(history), "No epoch has ended." if not recipe.convert else _CONVERTED),
            _section(
                "Layers",
                layer_section(cost["layers"], summary.get("rates", {})) if cost is not None else "",
                _made_by("cost"),
            ),
            _section(
                "Allocation", allocation_section(summary.get("allocation", [])), "Known when the run has finished."
            ),
            _section("Cost beside the quantized ANN", cost_section(cost) if cost is not None else "", _made_by("cost")),
            _section("Fold and program", check_section(fold, verify) if fold or verify else "", _made_by("fold")),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        got = f"{type(error).__name__} {error}"
        todo = "run eval, fold, cost and verify again"
        raise bad_value(str(folder), "its JSON files must be of this version", got, todo) from error
    if fold and not verify:
        parts.append(f"<p class='note'>The compiled program was not checked: {_made_by('verify')}</p>")
    drawn = "" if isinstance(spikes, str) else spike_section(spikes)
    parts.append(_section("Spikes of some samples", drawn, spikes if isinstance(spikes, str) else "None."))
    parts.append(_section("Environment of this page", _environment(version, summary), ""))
    parts.append(
        f"<details><summary>Recipe</summary><pre>{escape(run.recipe.read_text(encoding='utf-8'))}</pre></details>"
    )
    return f"{HEAD}<title>{name}</title></head><body><main>{''.join(parts)}</main></body></html>\n"


_CONVERTED = "Converted from a trained ANN: there are no epochs."


def _made_by(command: str) -> str:
    words = {"fold": "`bitspike fold RUN`", "cost": "`bitspike cost RUN`"}
    words["verify"] = "`bitspike compile RUN --out MODEL` and `bitspike verify RUN MODEL` do it."
    return words[command] if command == "verify" else f"Not there yet: {words[command]} makes it."


def _about(recipe: Recipe) -> str:
    parts = [f"data {recipe.data.name}", f"network {recipe.model.name}", f"neurons {recipe.neuron.name}"]
    return ", ".join([*parts, f"weights {recipe.weight.name}", f"T {recipe.model.T}", f"seed {recipe.seed}"])


def _state(recipe: Recipe, summary: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
    if not summary:
        done = f"{len(history)} of {recipe.train.epochs} epochs"
        return f"<p class='warn'>Unfinished: {done}. Figures of the end are missing.</p>"
    found = "".join(f"<p class='warn'>Training failed: {escape(str(one))}</p>" for one in summary.get("findings", []))
    tested = any(f"test_{name}" in summary for name in MEASURES)
    return found + (
        "" if tested else "<p class='note'>The run was not tested (data.test = false, or no test split).</p>"
    )


def _tiles(summary: dict[str, Any], cost: dict[str, Any] | None) -> str:
    tiles = []
    for part in ("validation", "test", "folded_test"):
        for name, measure in MEASURES.items():
            if summary.get(f"{part}_{name}") is not None:
                words = f"{part.replace('_', ' ')} {measure.words}"
                tiles.append((measure.text(summary[f"{part}_{name}"]), words))
    size = (cost or summary).get("size_bytes")
    if size is not None:
        tiles.append((f"{size:,.0f} B", "weights"))
    if summary.get("train_time_s"):
        tiles.append((f"{summary['train_time_s']:,.0f} s", "training"))
    body = "".join(f"<div><b>{escape(big)}</b><span>{escape(words)}</span></div>" for big, words in tiles)
    return f"<div class='tiles'>{body}</div>" if tiles else ""


def _section(title: str, body: str, missing: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body or f'<p class=note>{escape(missing)}</p>'}</section>"


def _environment(version: str, summary: dict[str, Any]) -> str:
    rows = [("bitspike", version), ("torch", torch.__version__), ("Python", platform.python_version())]
    rows.append(("system", f"{platform.system()} {platform.machine()}"))
    if "key" in summary:
        rows.append(("key of recipe and data", str(summary["key"])[:16]))
    return table(("part", "version"), rows)


def _history(run: RunFolder, summary: dict[str, Any]) -> list[dict[str, Any]]:
    if not run.metrics.exists():
        return list(summary.get("history", []))
    try:
        records = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines() if line]
    except ValueError as error:
        raise bad_value(str(run.metrics), "every line must be JSON", error, "train again with --resume") from None
    if not all(isinstance(record, dict) and "epoch" in record for record in records):
        raise bad_value(str(run.metrics), "every line must be a record of an epoch", "another", "train again")
    return records


def _table(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    document = read_json(path)
    if not isinstance(document, dict):
        raise bad_value(str(path), "it must hold a table", type(document).__name__, "delete it and write it again")
    return document
