"""``bitspike report``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bitspike import __version__
from bitspike.checks import bad_value, integer
from bitspike.commands.options import RunPath
from bitspike.commands.view_spikes import MOST_SAMPLES
from bitspike.files import write_text_atomic
from bitspike.report.html import Spikes, report_page
from bitspike.report.spikes import seen_in_network
from bitspike.training.runs import RunFolder, open_run


def report(
    run: RunPath,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    samples: int = 2,
    weights: Literal["final", "best"] = "final",
) -> None:
    """Write one HTML page of a run that works offline: curves, layers, cost, checks, spikes; leaves report.html.

    Also of a run that has not finished, was not tested, or was converted. What eval, fold, cost, verify have left in
    the run is shown; what is missing is named with the command that makes it.

    Args:
        run: Folder of a run.
        out: The page; left out: RUN/report.html.
        samples: Samples of the run's data whose spikes are shown, 0 to 8. Pictures of samples are shown of the digits
            and Fashion-MNIST only.
        weights: Weights that send the spikes: those after the last epoch, or with the best validation figure.
    """
    integer("report", "--samples", samples, 0, MOST_SAMPLES)
    if not run.is_dir():
        got = "a file" if run.exists() else "no such folder"
        raise bad_value("report", f"{run} must be the folder of a run", got, "pass what `train --out` wrote")
    page = run / "report.html" if out is None else out
    if page.is_dir():
        raise bad_value("report", "--out must be a file", f"the folder {page}", "name a file in it")
    if not RunFolder(run).recipe.exists():
        inside = sorted(path.parent.name for path in run.glob("*/recipe.toml"))
        todo = f"pass one of its runs, as {run / inside[0]}" if inside else "pass what `train --out` wrote"
        got = "a folder of runs or of a study" if inside or (run / "study.json").exists() else "no recipe.toml"
        raise bad_value("report", f"{run} must be the folder of one run", got, todo)
    write_text_atomic(page, report_page(run, __version__, _spikes(run, samples, weights)))
    print(f"{page}: {page.stat().st_size:,} bytes")


def _spikes(run: Path, samples: int, weights: Literal["final", "best"]) -> Spikes | str:
    """What layers send for the first samples, or why that is not shown."""
    if not samples:
        return "None were asked for."
    if not RunFolder(run).weights(weights).exists():
        return "The run has no weights yet."
    try:
        recipe, splits, net = open_run(run, weights)
    except (ValueError, OSError, ImportError) as error:
        return f"Not shown: {' '.join(str(error).split())}"
    tested = recipe.data.test and len(splits.test) > 0
    part = splits.test if tested else splits.validation
    layers, seen = seen_in_network(net, part, range(min(samples, len(part))))
    if not layers:
        return "The network has no layer of neurons."
    if not tested:
        seen = [replace(one, words=one.words.replace("test", "validation", 1)) for one in seen]
    return Spikes(recipe.data.name, layers, seen)
