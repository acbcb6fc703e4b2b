"""A resumable queue of (arm, seed) training jobs: each writes one JSON file, what is done is skipped.

A job's key is the hash of its resolved recipe and its data; a file with another key, or a broken one, is not "done".
"""

from __future__ import annotations

import math
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bitspike.checks import bad_type, bad_value, integer
from bitspike.files import read_json, read_toml, write_json_atomic
from bitspike.schema import conform, from_mapping, to_mapping, with_values
from bitspike.training.builtin import builtin
from bitspike.training.diverged import DivergedError
from bitspike.training.recipe import Recipe, recipe_from_mapping


@dataclass(frozen=True)
class Arm:
    """One variant of the base recipe.

    Args:
        name: letters, digits and ``. _ + -``; begins the names of the arm's files.
        set: dotted key → value, for example ``{"train.lr": 0.05}``; keys are written in quotes in TOML.
        replace: whole tables put in place of the base's before ``set``, for example another ``neuron``.
        seeds: of the study's seeds, those that this arm runs with; empty: all of them.
    """

    name: str
    set: dict[str, object] = field(default_factory=dict)
    replace: dict[str, dict[str, object]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        conform(self)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", self.name):
            raise bad_value("Arm", "name must be letters, digits and . _ + -", repr(self.name), "rename the arm")
        if "seed" in (*self.set, *self.replace):
            raise bad_value("Arm", "seed must not be set by an arm", self.name, "list it in the study's seeds")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A base recipe, arms that change it, and the seeds every arm is run with.

    Args:
        name: a label for people.
        out: folder of the results, one ``ARM-seedN.json`` a job; in a file, relative to that file.
        base: the recipe as nested dicts; in a file, a table or the path of a recipe relative to that file.
        seeds: at least one, all different.
        arms: at least one, names all different (case aside).
        jobs_order: "seed-major" runs every arm with the first seed, then with the second; "arm-major" arm by arm.
        source: what error messages name as the study.
        base_source: what they name as its base.
    """

    name: str
    out: Path
    base: Mapping[str, object]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    jobs_order: Literal["seed-major", "arm-major"] = "seed-major"
    source: str = "Study"
    base_source: str = "base"

    def __post_init__(self) -> None:
        for seed in self.seeds:
            integer(self.source, "a seed", seed, 0, 2**63 - 1)
        for kind, items in (("seeds", self.seeds), ("arms", [arm.name.lower() for arm in self.arms])):
            if not items or len(set(items)) < len(items):
                raise bad_value(self.source, f"{kind} must be given, each once", list(items), f"correct {kind}")
        for arm in self.arms:
            if set(arm.seeds) - set(self.seeds):
                must = f"the seeds of arm {arm.name!r} must be among the study's {list(self.seeds)}"
                raise bad_value(self.source, must, list(arm.seeds), "add them there")


@dataclass(frozen=True, kw_only=True)
class _Queue:
    """The keys of a queue file."""

    name: str
    out: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    base: str
    jobs_order: Literal["seed-major", "arm-major"] = "seed-major"


@dataclass(frozen=True)
class Job:
    """One run of a study: ``recipe`` is resolved, ``path`` is the JSON it leaves."""

    arm: str
    seed: int
    recipe: Recipe
    path: Path


@dataclass(frozen=True)
class Progress:
    """What `run_study` tells before a job: it is number ``position`` of ``total``; ``state`` says why it runs.

    ``state`` is "done" (skipped), "not run", "not run (another key)" or "not run (broken file)"; ``note`` explains.
    """

    position: int
    total: int
    job: Job
    state: str
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one call of `run_study` did: files written, files found done, jobs left, and whether it was interrupted.

    ``diverged``: file that was not written → why; these jobs are among those left.
    """

    written: tuple[Path, ...]
    skipped: tuple[Path, ...]
    left: int
    interrupted: bool
    diverged: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """Mean and sample standard deviation (ddof = 1; None for one value) over ``n`` seeds with a finite number.

    ``without`` lists seeds whose result has no finite number here: the mean does not speak for them.
    """

    mean: float
    std: float | None
    n: int
    without: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArmSummary:
    """One arm: ``n`` finished seeds, the state of each ``missing`` one, its ``metrics`` by name of the result's key."""

    arm: str
    n: int
    missing: dict[int, str]
    metrics: dict[str, Metric]


def read_study(path: str | Path) -> Study:
    """Read a queue file.

    Args:
        path: TOML with ``name``, ``out``, ``base``, ``seeds``, ``[[arms]]`` and, if wanted, ``jobs_order``; as text
            also the name of a built-in queue, whose ``out`` then is runs/NAME.

    Raises:
        ValueError: no TOML, or an unknown, missing or out-of-range key; no file and no built-in queue of that name.
        TypeError: a value of the wrong type.
        OSError: the file or its base cannot be read.
    """
    named, path = path, builtin("queue", path, queues=True) if isinstance(path, str) else path
    raw = read_toml(path)
    base, base_source = raw.get("base"), f"{path} [base]"
    queue = from_mapping(_Queue, {**raw, "base": "[base]"} if isinstance(base, Mapping) else raw, str(path))
    if not isinstance(base, Mapping):
        base_source = str(path.parent / queue.base)
        base = read_toml(base_source)
    out = path.parent / queue.out if Path(named) == path else Path("runs") / named
    read = {**vars(queue), "out": out, "base": base}
    return Study(**read, source=str(path), base_source=base_source)


def plan(study: Study) -> list[Job]:
    """All jobs in the order they run; every recipe is resolved and checked here, before any job starts.

    Raises:
        ValueError, TypeError: an arm makes a bad recipe; the message names the base, the arm and the queue.
    """

    def job(arm: Arm, seed: int) -> Job:
        where = f"{study.base_source} with arm {arm.name!r} of {study.source}"
        mapping = with_values(study.base, {**arm.replace, **arm.set, "seed": seed}, where)
        return Job(arm.name, seed, recipe_from_mapping(mapping, where), study.out / f"{arm.name}-seed{seed}.json")

    pairs = [(arm, seed) for arm in study.arms for seed in study.seeds if seed in (arm.seeds or study.seeds)]
    if study.jobs_order == "seed-major":
        pairs.sort(key=lambda pair: study.seeds.index(pair[1]))
    return [job(arm, seed) for arm, seed in pairs]


def run_study(
    study: Study,
    run: Callable[[Recipe], Mapping[str, Any]],
    *,
    data_digest: Callable[[Recipe], str],
    on_progress: Callable[[Progress], None] | None = None,
    on_done: Callable[[Path], None] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Outcome:
    """Run what is not done, one job after another; stop at any time, call again to go on.

    Each job writes ``{key, arm, seed, recipe, data_digest, result, environment, wall_s}`` atomically when it ends; a
    number that is NaN or inf is written as null. A job that diverges (`DivergedError`) is noted and the next one runs.
    Any other exception from ``run`` ends the study and leaves what is finished; KeyboardInterrupt does so too, but
    returns.

    Args:
        study: what to run.
        run: trains one recipe and returns its results, JSON values by name.
        data_digest: digest of the data a recipe reads.
        on_progress: called before each job, skipped ones included.
        on_done: called with each file just written.
        shard: (i, n): of all jobs only the i-th, (i+n)-th, ...; several processes share a queue this way.

    Returns:
        What was written, skipped and left, and whether it was interrupted.

    Raises:
        ValueError, TypeError: an arm makes a bad recipe, or ``run`` returns what is no JSON value.
    """
    jobs, written, skipped, interrupted = plan(study), [], [], False
    diverged: dict[Path, str] = {}
    study.out.mkdir(parents=True, exist_ok=True)
    try:
        for position, job in enumerate(jobs, 1):
            if (position - 1) % shard[1] != shard[0]:
                continue
            digest = data_digest(job.recipe)
            state, note, _ = look(job, digest)
            if on_progress:
                on_progress(Progress(position, len(jobs), job, state, note))
            if state == "done":
                skipped.append(job.path)
                continue
            finding = run_queued(job, run, digest)
            if finding is not None:
                diverged[job.path] = finding
                continue
            written.append(job.path)
            if on_done:
                on_done(job.path)
    except KeyboardInterrupt:
        interrupted = True
    return Outcome(tuple(written), tuple(skipped), len(jobs) - len(written) - len(skipped), interrupted, diverged)


def summarise(study: Study) -> list[ArmSummary]:
    """Mean and spread over seeds of every number at the top level of the results; what is missing is listed.

    A file counts only if it belongs to the study's present recipe (checked with the data digest stored in it).

    Returns:
        One row an arm, in the study's order; `to_mapping` makes it JSON.
    """
    rows, jobs, found = [], plan(study), results_of(study)
    for arm in study.arms:
        results = found[arm.name]
        own = [job for job in jobs if job.arm == arm.name and job.seed not in results]
        missing = {job.seed: look(job, None)[0] for job in own}
        names = dict.fromkeys(name for result in results.values() for name, v in result.items() if _is_number(v))
        metrics = {name: _metric({seed: result.get(name) for seed, result in results.items()}) for name in names}
        rows.append(ArmSummary(arm.name, len(results), missing, metrics))
    return rows


def results_of(study: Study) -> dict[str, dict[int, Mapping[str, Any]]]:
    """arm → seed → result of every job that is done, as `summarise` counts them."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {arm.name: {} for arm in study.arms}
    for job in plan(study):
        state, _, document = look(job, None)
        if state == "done":
            found[job.arm][job.seed] = document["result"]
    return found


def summary_of(name: str, result: Mapping[str, Any]) -> ArmSummary:
    """One result, such as a run's summary, as a row of a table."""
    metrics = {key: _metric({0: value}) for key, value in result.items() if _is_number(value)}
    return ArmSummary(name, 1, {}, metrics)


def _metric(values: Mapping[int, object]) -> Metric:
    numbers = [float(v) for v in values.values() if _is_number(v)]  # type: ignore[arg-type]
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Metric(
        statistics.fmean(numbers), std, len(numbers), tuple(s for s, v in values.items() if not _is_number(v))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def look(job: Job, digest: str | None) -> tuple[str, str, dict[str, Any]]:
    """State of a job, a note, and its document if done; ``digest`` None takes the one stored in the file."""
    try:
        document = read_json(job.path)
    except FileNotFoundError:
        return "not run", "", {}
    except ValueError as error:
        return "not run (broken file)", str(error), {}
    if not isinstance(document, dict) or not isinstance(document.get("result"), dict):
        return "not run (broken file)", f"{job.path}: a job's file must hold a table named result", {}
    stored = str(document.get("data_digest"))
    if document.get("key") != job.recipe.key(stored if digest is None else digest):
        return "not run (another key)", f"{job.path}: the recipe or the data changed since it was written", {}
    return "done", "", document


def run_queued(job: Job, run: Callable[[Recipe], Mapping[str, Any]], digest: str) -> str | None:
    """Run one job and write its file, as `run_study`; what made it diverge, or None."""
    start = time.perf_counter()
    try:
        result = run(job.recipe)
    except DivergedError as error:
        return str(error)
    wall_s = round(time.perf_counter() - start, 3)
    where = f"result of arm {job.arm!r}, seed {job.seed}"
    if not isinstance(result, Mapping):
        raise bad_type(where, "it must be a dict", type(result).__name__, "return a dict of numbers")
    document = {
        "key": job.recipe.key(digest),
        "arm": job.arm,
        "seed": job.seed,
        "recipe": to_mapping(job.recipe.anywhere()),
        "data_digest": digest,
        "result": _plain(result, where),
        "environment": _environment(job.recipe),
        "wall_s": wall_s,
    }
    write_json_atomic(job.path, document)
    return None


def _environment(recipe: Recipe) -> dict[str, object]:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        version = None
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else recipe.train.threads
    return {"python": platform.python_version(), "torch": version, "threads": threads}


def _plain(value: Any, where: str) -> Any:
    """``value`` as strict JSON: arrays and tensors become lists, NaN and inf become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}, key {key!r}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(item, where) for item in value]
    raise bad_type(where, "it must be a JSON value", type(value).__name__, "return numbers, texts, lists and dicts")
