"""Rows of the tables of results: which queue an arm is of, what is committed for it, and how a new run differs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value
from bitspike.files import read_json
from bitspike.schema import override
from bitspike.training.recipe import recipe_from_mapping
from bitspike.training.study import Job, Study, plan, read_study


@dataclass(frozen=True)
class Table:
    """What a table was made by: a built-in queue, and what was laid over its base recipe."""

    queue: str
    set: tuple[str, ...] = ()


TABLES: dict[str, Table] = {
    "digits": Table("digits_demo"),
    "digits_bf16": Table("digits_demo", ("train.precision=bf16",)),
    "digits_budgets": Table("digits_budgets"),
    "fashion_mnist": Table("fashion_mnist_study"),
    "fashion_mnist_tuning": Table("fashion_mnist_tuning"),
    "fashion_mnist_bf16": Table("fashion_mnist_bf16"),
    "fashion_mnist_adaptive": Table("fashion_mnist_adaptive_study"),
    "fashion_mnist_restimulation": Table("fashion_mnist_restimulation"),
    "fashion_spikformer": Table("fashion_spikformer_study"),
    "fsdd": Table("fsdd_study"),
    "nmnist": Table("nmnist_study"),
    "nmnist_tuning": Table("nmnist_tuning"),
    "cifar10_adaptive": Table("cifar10_adaptive_study"),
    "cifar10_allocation": Table("cifar10_allocation_study"),
    "cifar10_mechanisms": Table("cifar10_mechanisms_study"),
    "cifar10_scratch": Table("cifar10_scratch_study"),
    "cifar10_spikformer": Table("cifar10_spikformer_study"),
    "cifar10_engine": Table("cifar10_engine_study"),
    "cifar10_gpu": Table("cifar10_gpu_study"),
    "cifar10_gpu_long": Table("cifar10_gpu_long_study"),
    "cifar_former_gpu": Table("cifar_former_gpu_study"),
}
"""Table, which is the name of its folder of results → what made it."""

SCRIPTS: dict[str, str] = {
    "counts": "python benchmarks/models/counts.py",
    "nmnist_published": "python benchmarks/conversion/nmnist.py",
    "conversion": "python benchmarks/conversion/run.py",
    "programs": "python benchmarks/programs/run.py",
    "digits_every_budget": "bitspike study benchmarks/budgets/queue.toml",
}
"""Tables that no built-in queue makes → the command that does."""

_TIMES = frozenset({"train_time_s", "time_s"})
_NEAREST = 3


@dataclass(frozen=True)
class Row:
    """A job of a table: one arm with one seed.

    Attributes:
        table: key of `TABLES`. study: its queue, with this arm and this seed alone. job: the job.
        committed: the document of the file that is committed for it, or None.
    """

    table: str
    study: Study
    job: Job
    committed: dict[str, Any] | None

    @property
    def name(self) -> str:
        """TABLE/ARM."""
        return f"{self.table}/{self.job.arm}"


@dataclass(frozen=True)
class Difference:
    """What differs between two results under one key; ``largest`` is of numbers, of all values below the key."""

    key: str
    values: int
    different: int
    largest: float
    committed: object = None
    found: object = None


@dataclass(frozen=True)
class Compared:
    """A result beside the committed one.

    Attributes:
        recipe, data: whether recipe and data (with the network's structure) are the same. values: compared in all.
        differences: by key of the result. only_committed, only_found: keys of one side.
        environment: key → (committed, here) of what differs.
    """

    recipe: bool
    data: bool
    values: int
    differences: tuple[Difference, ...]
    only_committed: tuple[str, ...] = ()
    only_found: tuple[str, ...] = ()
    environment: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether all values that both have are the same; times are not compared."""
        return not self.differences and self.values > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "identical": self.identical,
            "same_recipe": self.recipe,
            "same_data": self.data,
            "values": self.values,
            "differences": [vars(difference) for difference in self.differences],
            "only_committed": list(self.only_committed),
            "only_found": list(self.only_found),
            "environment": {key: {"committed": old, "here": new} for key, (old, new) in self.environment.items()},
        }


def table_study(table: str, results: Path, sets: tuple[str, ...] = ()) -> Study:
    """The queue of a table, whose results are those in ``results/TABLE``.

    Raises:
        ValueError: no such table; the nearest names are told.
    """
    if table not in TABLES:
        if table in SCRIPTS:
            raise bad_value("reproduce", "the table must be one of a queue", repr(table), f"run `{SCRIPTS[table]}`")
        must = f"the table must be one of {', '.join(TABLES)}"
        raise bad_value("reproduce", must, repr(table), nearest(table, list(TABLES)))
    made = TABLES[table]
    study = read_study(made.queue)
    return replace(study, base=override(study.base, (*made.set, *sets)), out=results / table)


def find_row(name: str, seed: int | None, results: Path, sets: tuple[str, ...] = ()) -> Row:
    """The row of that name.

    Args:
        name: TABLE/ARM. seed: one of the arm's; None: its first. results: folder of committed results.
        sets: ``key=value`` texts laid over the base recipe, such as data.root=DIR.

    Raises:
        ValueError: no such table, arm or seed; the nearest names are told.
    """
    table, _, arm = name.partition("/")
    study = table_study(table, results, sets)
    jobs = [job for job in plan(study) if job.arm == arm]
    if not jobs:
        known = [f"{table}/{made.name}" for made in study.arms]
        must = f"the arm must be one of {', '.join(known)}"
        raise bad_value("reproduce", must, repr(name), nearest(name, known))
    seeds = [job.seed for job in jobs]
    if seed is not None and seed not in seeds:
        raise bad_value("reproduce", f"the seed of {name} must be one of {seeds}", seed, "choose one of these")
    job = next(job for job in jobs if seed in (None, job.seed))
    alone = tuple(replace(made, seeds=()) for made in study.arms if made.name == arm)
    return Row(table, replace(study, arms=alone, seeds=(job.seed,)), job, committed(job.path))


def committed(path: Path) -> dict[str, Any] | None:
    """The document of a job's file, or None where there is none.

    Raises:
        ValueError: the file is broken, or none of a job.
    """
    if not path.exists():
        return None
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("result"), dict):
        raise bad_value(str(path), "it must be the JSON of a job", type(document).__name__, "check it out again")
    return document


def nearest(name: str, known: list[str]) -> str:
    """Advice: the nearest known names, or where they are listed."""
    near = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else "choose one of these"


def compare_jobs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Compared:
    """A new job beside the committed one, value by value; what took how long is left out.

    >>> tiny = {"name": "tiny", "neuron": {"name": "lif"}, "weight": {"name": "float"}}
    >>> job = {"recipe": tiny, "data_digest": "a", "environment": {"threads": 1}}
    >>> old = {**job, "result": {"test_accuracy": 0.5, "history": [{"loss": 1.0, "time_s": 3.0}]}}
    >>> new = {**job, "result": {"test_accuracy": 0.5, "history": [{"loss": 1.5, "time_s": 9.0}]}}
    >>> found = compare_jobs(old, new)
    >>> found.identical, found.values, [(d.key, d.different, d.largest) for d in found.differences]
    (False, 2, [('history', 1, 0.5)])
    """
    left, right = old["result"], new["result"]
    count, differences = 0, []
    for key in left:
        if key in _TIMES or key not in right:
            continue
        before, after = dict(_values(left[key])), dict(_values(right[key]))
        count += len(before)
        apart = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        lost = before.keys() ^ after.keys()
        if apart or lost:
            largest = max((_distance(before[name], after[name]) for name in apart), default=0.0)
            single = (left[key], right[key]) if set(before) == {""} else (None, None)
            differences.append(Difference(key, len(before), len(apart) + len(lost), largest, *single))
    here, there = new.get("environment", {}), old.get("environment", {})
    return Compared(
        recipe=_key(old) == _key(new),
        data=old.get("data_digest") == new.get("data_digest"),
        values=count,
        differences=tuple(differences),
        only_committed=tuple(key for key in left if key not in right),
        only_found=tuple(key for key in right if key not in left),
        environment={k: (there.get(k), here.get(k)) for k in {**there, **here} if there.get(k) != here.get(k)},
    )


def _values(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every single value of a result, by its place; times left out."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield name, value
        return
    for key, inner in items:
        if key not in _TIMES:
            yield from _values(inner, f"{name}.{key}")


def _distance(left: object, right: object) -> float:
    numbers = [value for value in (left, right) if isinstance(value, (int, float))]
    return abs(numbers[0] - numbers[1]) if len(numbers) == 2 else 0.0


def _key(document: Mapping[str, Any]) -> str:
    """What identifies a recipe, whatever keys came later."""
    return recipe_from_mapping(document["recipe"], "the recipe of a job").key("")
