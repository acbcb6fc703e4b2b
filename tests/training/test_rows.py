"""Rows of tables: every table has its queue, committed jobs are those of the queues, differences are found."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from bitspike.files import read_json
from bitspike.training.rows import SCRIPTS, TABLES, compare_jobs, find_row, table_study
from bitspike.training.study import plan, summarise

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
THERE = [name for name in TABLES if (RESULTS / name).is_dir()]


def test_every_table_of_the_pages_says_what_made_it() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    found = {name for page in pages for name in re.findall(r"<!-- (?:table|budgets|every): results/(\w+) -->", page)}
    assert found and found <= {*TABLES, *SCRIPTS}


@pytest.mark.parametrize("table", THERE)
def test_committed_jobs_are_those_that_reproduce_would_run(table: str) -> None:
    study = table_study(table, RESULTS)
    states = [state for row in summarise(study) for state in row.missing.values()]
    assert set(states) <= {"not run"}
    known = {job.path.name for job in plan(study)}
    assert {path.name for path in study.out.glob("*-seed*.json")} <= known


def test_a_row_is_one_job_with_what_is_committed() -> None:
    row = find_row("fashion_mnist/ternary", 1, RESULTS, ("data.root=DIR",))
    assert row.name == "fashion_mnist/ternary" and [job.seed for job in plan(row.study)] == [1]
    assert row.committed == read_json(RESULTS / "fashion_mnist" / "ternary-seed1.json")
    assert row.job.recipe.data.root == "DIR"
    assert find_row("cifar10_gpu/binary", None, RESULTS).committed is None
    assert find_row("fashion_mnist_restimulation/binary-T4", None, RESULTS).job.seed == 0


@pytest.mark.parametrize(
    ("name", "seed", "word"),
    [
        ("fashion_mnst/ternary", None, "did you mean 'fashion_mnist'"),
        ("fashion_mnist/ternry", None, "did you mean 'fashion_mnist/ternary'"),
        ("fashion_mnist", None, "the arm must be one of fashion_mnist/binary"),
        ("digits/binary", 7, r"one of \[0, 1, 2\]"),
        ("counts/x", None, "benchmarks/models/counts.py"),
    ],
)
def test_unknown_rows_are_refused_with_the_nearest(name: str, seed: int | None, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        find_row(name, seed, RESULTS)


def test_differences_are_found_and_times_are_none() -> None:
    old = read_json(RESULTS / "digits" / "ternary-seed0.json")
    assert isinstance(old, dict)
    new = copy.deepcopy(old)
    new["result"]["train_time_s"] = 1.0
    new["result"]["history"][2]["time_s"] = 1.0
    same = compare_jobs(old, new)
    assert same.identical and same.recipe and same.data and same.values > 100 and not same.environment
    new["result"]["history"][2]["loss"] += 0.25
    new["result"]["test_accuracy"] -= 0.5
    new["environment"]["threads"] = 2
    new["data_digest"] = "another"
    new["recipe"]["train"]["lr"] = 0.5
    new["result"]["newer"] = new["result"].pop("bit_budget")
    found = compare_jobs(old, new)
    assert not found.identical and not found.recipe and not found.data
    assert {d.key: (d.different, round(d.largest, 9)) for d in found.differences} == {
        "test_accuracy": (1, 0.5),
        "history": (1, 0.25),
    }
    assert found.environment == {"threads": (1, 2)}
    assert (found.only_committed, found.only_found) == (("bit_budget",), ("newer",))
    assert found.as_dict()["differences"][0]["committed"] == old["result"]["test_accuracy"]
