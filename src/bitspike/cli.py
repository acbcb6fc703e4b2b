"""Command line: thin calls into the library. Exit code 0 on success, 2 on bad input with one line, 130 on Ctrl-C."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated

import tyro

from bitspike.checks import bad_value, suggestion
from bitspike.progress import StudyProgress
from bitspike.report import as_text, study_picture, study_table
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.files import write_json_atomic
from bitspike.training.job import digest, load_data, run_job
from bitspike.training.recipe import Recipe
from bitspike.training.schema import override, to_mapping
from bitspike.training.study import Outcome, Study, plan, read_study, run_study, summarise


@dataclass
class DemoCommand:
    """Train, fold, verify and compare four kinds of spikes on scikit-learn's digits (about two minutes)."""

    out: Path = Path("demo-out")
    """Folder of the results: one JSON a job, compare.json, compare.png."""
    quiet: bool = False
    """Show no progress."""


@dataclass
class StudyCommand:
    """Run a queue of (arm, seed) jobs; what is done is skipped, what was cut is run again."""

    queue: Annotated[str, tyro.conf.Positional]
    """TOML file of the queue, or the name of a built-in one: digits_demo, fashion_mnist_study, fashion_mnist_tuning."""
    set: list[str] = field(default_factory=list)
    """key=value pairs laid over the base recipe, e.g. data.root=DIR train.epochs=3."""
    out: Path | None = None
    """Folder of the results; default: what the queue says."""
    shard: str = "0/1"
    """I/N: run only every N-th job, beginning with the I-th; for several processes on one queue."""
    table_only: bool = False
    """Run nothing: print the table of what is done."""
    json: Path | None = None
    """Write the summary (mean, std, n per arm) to this file."""
    picture: Path | None = None
    """Write the comparison as a PNG."""
    quiet: bool = False
    """Show no progress."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``bitspike``."""
    app = tyro.extras.SubcommandApp()
    app.command(name="demo")(_demo)
    app.command(name="study")(_study)
    try:
        app.cli(prog="bitspike", description="Multi-bit spiking neural networks.", args=arguments, config=_STYLE)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"bitspike: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)


def _demo(command: tyro.conf.OmitArgPrefixes[DemoCommand]) -> None:
    """Train, fold, verify and compare four kinds of spikes on scikit-learn's digits (about two minutes)."""
    study = replace(_open("digits_demo"), out=command.out)
    _run(study, (0, 1), command.quiet)
    _show(study, command.out / "compare.json", command.out / "compare.png")


def _study(command: tyro.conf.OmitArgPrefixes[StudyCommand]) -> None:
    """Run a queue of (arm, seed) jobs; what is done is skipped, what was cut is run again."""
    study = _open(command.queue)
    if command.set:
        study = replace(study, base=override(study.base, command.set))
    if command.out:
        study = replace(study, out=command.out)
    if not command.table_only:
        outcome = _run(study, _shard(command.shard), command.quiet)
        if outcome.interrupted:
            raise KeyboardInterrupt
    _show(study, command.json, command.picture)


def _open(queue: str) -> Study:
    """A queue file, or a built-in queue (its results go to runs/NAME)."""
    if Path(queue).exists():
        return read_study(queue)
    with resources.as_file(resources.files("bitspike") / "recipes") as folder:
        known = [path.stem for path in sorted(folder.glob("*_*.toml")) if "[[arms]]" in path.read_text()]
        if queue not in known:
            must = f"the queue must be a file or one of {', '.join(known)}"
            raise bad_value("study", must, repr(queue), suggestion(queue, known))
        return replace(read_study(folder / f"{queue}.toml"), out=Path("runs") / queue)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise bad_value("--shard", "it must be I/N with 0 <= I < N", repr(text), "e.g. --shard 0/2")
    return int(index), int(count)


def _run(study: Study, shard: tuple[int, int], quiet: bool) -> Outcome:
    with StudyProgress(len(plan(study)), quiet) as shown:

        def train(recipe: Recipe) -> dict[str, object]:
            splits = load_data(recipe)
            key = recipe.key(digest(recipe, splits))
            cut = study.out / ".cut" / key[:16]
            finished = run_job(recipe, splits, shown.step, Checkpoints(cut, key))
            shutil.rmtree(cut)
            return finished.result

        return run_study(
            study,
            train,
            data_digest=lambda recipe: digest(recipe, load_data(recipe)),
            on_progress=lambda p: shown.job(p.position, p.total, f"{p.job.arm} seed {p.job.seed}: {p.state}"),
            shard=shard,
        )


def _show(study: Study, json: Path | None, picture: Path | None) -> None:
    rows = summarise(study)
    print(as_text(study_table(rows)))
    if json:
        json.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(json, {"study": study.name, "arms": [to_mapping(row) for row in rows]})
    if picture:
        picture.parent.mkdir(parents=True, exist_ok=True)
        study_picture(rows, picture, study.name)


if __name__ == "__main__":
    main()
