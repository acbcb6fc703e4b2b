"""The study queue: strict reading, planning, resuming after a cut, and the summary."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike.files import read_json, write_text_atomic
from bitspike.schema import override, to_mapping
from bitspike.training import study as s
from bitspike.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
BASE = 'name = "base"\n[neuron]\nname = "lif"\ndecay = 0.5\n[weight]\nname = "sign"\n'
QUEUE = """
name = "lr"
out = "runs/lr"
base = "base.toml"
seeds = [0, 1]
[[arms]]
name = "low"
set = {"train.lr" = 0.05, "neuron.decay" = 0.25}
[[arms]]
name = "multi"
[arms.replace.neuron]
name = "multibit"
bits = 2
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "QUEUE.toml").write_text(QUEUE)
    return tmp_path / "QUEUE.toml"


class Runner:
    """Counts its calls and fails at the ``cut``-th."""

    def __init__(self, cut: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.cut, self.error = cut, error

    def __call__(self, recipe: Recipe) -> dict[str, Any]:
        if self.error is not None and len(self.calls) == self.cut:
            raise self.error
        self.calls.append((recipe.neuron.name, recipe.seed))
        return {"accuracy": recipe.seed + recipe.train.lr, "per_class": [1, 2], "name": "x", "ok": True}


def go(
    study: s.Study, run: Callable[[Recipe], Any], digest: str = "d"
) -> tuple[s.Outcome, list[s.Progress], list[str]]:
    seen: list[s.Progress] = []
    done: list[str] = []
    outcome = s.run_study(
        study, run, data_digest=lambda _: digest, on_progress=seen.append, on_done=lambda path: done.append(path.name)
    )
    return outcome, seen, done


ALL = ["low-seed0.json", "multi-seed0.json", "low-seed1.json", "multi-seed1.json"]


def test_plan(queue: Path) -> None:
    study = s.read_study(queue)
    jobs = s.plan(study)
    assert [job.path for job in jobs] == [queue.parent / "runs/lr" / name for name in ALL]
    assert jobs[2].recipe.seed == 1 and jobs[2].recipe.train.lr == 0.05
    assert jobs[2].recipe.neuron.options == {"decay": 0.25}
    assert jobs[1].recipe.neuron.name == "multibit" and jobs[1].recipe.neuron.options == {"bits": 2}
    by_arm = [job.path.name for job in s.plan(replace(study, jobs_order="arm-major"))]
    assert by_arm == [ALL[0], ALL[2], ALL[1], ALL[3]]


@pytest.mark.parametrize(("order", "left"), [("seed-major", ALL[:3]), ("arm-major", [ALL[0], ALL[2], ALL[1]])])
def test_an_arm_with_seeds_of_its_own(queue: Path, order: str, left: list[str]) -> None:
    queue.write_text(QUEUE.replace('name = "multi"', 'name = "multi"\nseeds = [0]') + "\n")
    study = replace(s.read_study(queue), jobs_order=order)
    assert [job.path.name for job in s.plan(study)] == left
    go(study, Runner())
    assert [(row.arm, row.n, row.missing) for row in s.summarise(study)] == [("low", 2, {}), ("multi", 1, {})]


def test_base_may_be_a_table(queue: Path) -> None:
    text = QUEUE.replace('base = "base.toml"\n', "")
    tables = BASE.replace("[", "[base.").replace('name = "base"', '[base]\nname = "base"')
    write_text_atomic(queue, text + tables)
    (queue.parent / "base.toml").unlink()
    assert len(s.plan(s.read_study(queue))) == 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds", "seed", ["QUEUE.toml: ", "got 'seed'", "did you mean 'seeds'?"]),
        ("set =", "sett =", ["QUEUE.toml [arms[0]]: ", "did you mean 'set'?"]),
        ('"low"', '"a/b"', ["QUEUE.toml [arms[0]]: name must be letters"]),
        ('"low"', '"Multi"', ["QUEUE.toml: arms must be given, each once"]),
        ("[0, 1]", "[1, 1]", ["seeds must be given, each once"]),
        ("[0, 1]", "[]", ["seeds must be given"]),
        ("[0, 1]", "[-1]", ["a seed must lie"]),
        ('name = "low"', 'name = "low"\nseeds = [0, 2]', ["the seeds of arm 'low' must be among the study's [0, 1]"]),
        ('"train.lr" = 0.05', '"seed" = 1', ["seed must not be set by an arm"]),
        ('"train.lr"', '"train.lrr"', ["base.toml with arm 'low'", "[train]: ", "did you mean 'lr'?"]),
        ('base = "base.toml"', "", ["QUEUE.toml: the key 'base' must be given"]),
        ('base = "base.toml"', 'base = "base.toml"\njobs_order = "seed"', ["jobs_order must be one of"]),
    ],
)
def test_a_bad_queue_raises_before_any_job(queue: Path, old: str, new: str, words: list[str]) -> None:
    queue.write_text(QUEUE.replace(old, new, 1))
    run = Runner()
    with pytest.raises(ValueError) as error:
        go(s.read_study(queue), run)
    assert all(word in str(error.value) for word in words) and not run.calls, error.value


def test_an_unquoted_dotted_key_is_explained(queue: Path) -> None:
    queue.write_text(QUEUE.replace('"train.lr"', "train.lr"))
    with pytest.raises(TypeError, match=r"\[arms\[0\]\.set\]: train must be .* put a dotted key in quotes"):
        s.read_study(queue)


def test_each_job_leaves_one_whole_file(queue: Path) -> None:
    study = s.read_study(queue)
    outcome, seen, done = go(study, Runner())
    assert done == ALL and sorted(os.listdir(study.out)) == sorted(ALL)
    assert outcome == s.Outcome(tuple(study.out / name for name in ALL), (), 0, False)
    assert [(p.position, p.total, p.state) for p in seen] == [(n, 4, "not run") for n in range(1, 5)]
    job, document = s.plan(study)[0], read_json(study.out / ALL[0])
    assert isinstance(document, dict) and document.pop("wall_s") >= 0
    assert document.pop("environment").keys() == {"python", "torch", "threads"}
    assert document == {
        "key": job.recipe.key("d"),
        "arm": "low",
        "seed": 0,
        "recipe": to_mapping(job.recipe),
        "data_digest": "d",
        "result": {"accuracy": 0.05, "per_class": [1, 2], "name": "x", "ok": True},
    }


def test_a_job_does_not_say_where_the_data_lies(queue: Path) -> None:
    study = s.read_study(queue)
    study = replace(study, base=override(study.base, ["data.root=/somewhere/else"]))
    assert {job.recipe.data.root for job in s.plan(study)} == {"/somewhere/else"}
    go(study, Runner())
    assert "somewhere" not in (study.out / ALL[0]).read_text()
    again = Runner()
    go(s.read_study(queue), again)  # the same jobs, so nothing is left to run
    assert again.calls == []


@pytest.mark.parametrize("cut", [0, 1, 3])
@pytest.mark.parametrize("error", [RuntimeError("diverged"), KeyboardInterrupt()])
def test_resumes_after_a_cut(queue: Path, cut: int, error: BaseException) -> None:
    study = s.read_study(queue)
    if isinstance(error, KeyboardInterrupt):
        outcome, _, _ = go(study, Runner(cut, error))
        assert outcome.interrupted and outcome.left == 4 - cut and len(outcome.written) == cut
    else:
        with pytest.raises(RuntimeError, match="diverged"):
            go(study, Runner(cut, error))
    assert sorted(os.listdir(study.out)) == sorted(ALL[:cut])
    run = Runner()
    outcome, seen, done = go(study, run)
    assert len(run.calls) == 4 - cut and done == ALL[cut:] and not outcome.interrupted
    assert [p.state for p in seen] == ["done"] * cut + ["not run"] * (4 - cut)
    again = Runner()
    assert len(go(study, again)[0].skipped) == 4 and not again.calls


def test_an_interrupt_while_writing_leaves_no_half_file(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = s.read_study(queue)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bitspike.files.os.replace", cut)
        assert go(study, Runner())[0].interrupted
    assert os.listdir(study.out) == []


def test_another_key_is_run_again(queue: Path) -> None:
    study = s.read_study(queue)
    go(study, Runner())
    queue.write_text(QUEUE.replace("0.05", "0.06"))
    changed, run = s.read_study(queue), Runner()
    assert [row.missing for row in s.summarise(changed)] == [dict.fromkeys((0, 1), "not run (another key)"), {}]
    _, seen, _ = go(changed, run)
    assert run.calls == [("lif", 0), ("lif", 1)] and seen[0].state == "not run (another key)"
    assert "recipe or the data changed" in seen[0].note
    new_data = Runner()
    go(changed, new_data, digest="other data")
    assert len(new_data.calls) == 4


@pytest.mark.parametrize("text", ["", '{"key": "', "[]", "{}", '{"result": 1}'])
def test_a_broken_file_is_run_again(queue: Path, text: str) -> None:
    study = s.read_study(queue)
    go(study, Runner())
    (study.out / ALL[1]).write_text(text)
    assert s.summarise(study)[1].missing == {0: "not run (broken file)"}
    run = Runner()
    _, seen, done = go(study, run)
    assert done == [ALL[1]] and seen[1].state == "not run (broken file)" and ALL[1] in seen[1].note


def test_results_become_plain_json(queue: Path) -> None:
    study = s.read_study(queue)
    result = {"a": torch.tensor(1.5), "b": torch.ones(2), "c": math.nan, "d": {1: (math.inf, None)}}
    go(study, lambda recipe: result)
    document = json.loads((study.out / ALL[0]).read_text())
    assert document["result"] == {"a": 1.5, "b": [1.0, 1.0], "c": None, "d": {"1": [None, None]}}


@pytest.mark.parametrize("result", [3, {"a": {1, 2}}, {"a": object()}])
def test_results_that_are_no_json_are_refused(queue: Path, result: object) -> None:
    study = s.read_study(queue)
    with pytest.raises(TypeError, match="result of arm 'low', seed 0"):
        go(study, lambda recipe: result)
    assert os.listdir(study.out) == []


def test_summary(queue: Path) -> None:
    study = replace(s.read_study(queue), seeds=(0, 1, 2))
    values = {("lif", 0): 0.5, ("lif", 1): 0.75, ("lif", 2): math.nan, ("multibit", 0): 0.5}

    def run(recipe: Recipe) -> dict[str, object]:
        key = (recipe.neuron.name, recipe.seed)
        if key not in values:
            raise RuntimeError
        return {"accuracy": values[key], "epochs": 3, "note": "x", "ok": True, "table": {"a": 1}}

    with pytest.raises(RuntimeError):
        go(replace(study, jobs_order="arm-major"), run)
    low, multi = s.summarise(study)
    assert low.n == 3 and low.missing == {} and set(low.metrics) == {"accuracy", "epochs"}
    assert low.metrics["accuracy"] == s.Metric(0.625, statistics.stdev([0.5, 0.75]), 2, without=(2,))
    assert low.metrics["epochs"] == s.Metric(3.0, 0.0, 3)
    assert multi.n == 1 and multi.missing == {1: "not run", 2: "not run"}
    assert multi.metrics["accuracy"] == s.Metric(0.5, None, 1)
    assert json.loads(json.dumps(to_mapping(low)))["metrics"]["accuracy"]["n"] == 2


@pytest.mark.parametrize("name", ["digits_demo", "fashion_mnist_study", "fashion_mnist_tuning", "nmnist_tuning"])
def test_committed_results_belong_to_the_present_recipes(name: str) -> None:
    """A key that is added to the recipe goes into `_LATER`, or every committed result is orphaned."""
    study = s.read_study(ROOT / "src" / "bitspike" / "recipes" / f"{name}.toml")
    study = replace(study, out=ROOT / "results" / name.removesuffix("_demo").removesuffix("_study"))
    states = {state for row in s.summarise(study) for state in row.missing.values()}
    assert states <= {"not run"} and sum(row.n for row in s.summarise(study)) >= 12


def test_summary_of_nothing(queue: Path) -> None:
    rows = s.summarise(s.read_study(queue))
    assert [(row.n, row.metrics, len(row.missing)) for row in rows] == [(0, {}, 2)] * 2


def test_a_text_may_name_a_built_in_queue(refuses: Any) -> None:
    queue = s.read_study("digits_demo")
    assert queue.out == Path("runs/digits_demo") and len(s.plan(queue)) > 3
    with refuses("queue", "it must be a file or one of", "did you mean 'digits_demo'"):
        s.read_study("digits")
