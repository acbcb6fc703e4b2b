"""Every measure against scikit-learn, where both define it; what has no value is refused, not made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics

from bitspike.data import ArraySet
from bitspike.training import evaluate, recipe_from_mapping
from bitspike.training.measures import MEASURES, measures_of
from bitspike.training.task import Task, task_of

RNG = np.random.default_rng(0)
SAID = RNG.normal(size=(200, 5)).round(1)  # many equal outputs, some exactly 0
THERE = RNG.random((200, 5)) < np.array([0.5, 0.1, 0.9, 0.02, 0.3])
OUTPUTS, TARGETS = RNG.normal(size=(200, 3)), RNG.normal(size=(200, 3)) * [1, 5, 0.1]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("micro_f1", lambda y, t: metrics.f1_score(t, y > 0, average="micro")),
        ("macro_f1", lambda y, t: metrics.f1_score(t, y > 0, average="macro")),
        ("subset_accuracy", lambda y, t: metrics.accuracy_score(t, y > 0)),
        ("mean_average_precision", lambda y, t: metrics.average_precision_score(t, y)),
    ],
)
def test_labels_as_scikit_learn(name: str, wanted: object) -> None:
    got = MEASURES[name].score(SAID, THERE)
    assert got == pytest.approx(wanted(SAID, THERE), abs=1e-12)  # type: ignore[operator]
    assert 0 < got < 1 and (SAID == 0).any()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("error", lambda y, t: metrics.mean_squared_error(t, y) ** 0.5),
        ("mae", lambda y, t: metrics.mean_absolute_error(t, y)),
        ("rmse", lambda y, t: metrics.root_mean_squared_error(t, y)),
        ("r2", lambda y, t: metrics.r2_score(t, y)),
    ],
)
def test_numbers_as_scikit_learn(name: str, wanted: object) -> None:
    got = MEASURES[name].score(OUTPUTS, TARGETS)
    assert got == pytest.approx(wanted(OUTPUTS, TARGETS), rel=1e-12)  # type: ignore[operator]


@pytest.mark.parametrize("name", [*measures_of("labels"), *measures_of("numbers")])
def test_one_answer_for_all_is_as_good_as_constant_says(name: str) -> None:
    measure = MEASURES[name]
    targets = THERE if measure.kind == "labels" else TARGETS
    sign = 1 if measure.higher else -1
    answers = RNG.normal(size=(300, targets.shape[1]))
    if measure.kind == "labels":
        answers = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 5), -1).reshape(-1, 5)
    else:
        answers = np.concatenate([answers * 0.1, targets.mean(0)[None], np.median(targets, 0)[None]])
    best = max(sign * measure.score(np.broadcast_to(row, targets.shape), targets) for row in answers)
    assert best == pytest.approx(sign * measure.constant(targets), abs=1e-12)


def test_a_label_that_no_sample_has() -> None:
    there = THERE.copy()
    there[:, 3] = False
    kept = [0, 1, 2, 4]
    wanted = metrics.average_precision_score(there[:, kept], SAID[:, kept])
    assert MEASURES["mean_average_precision"].score(SAID, there) == pytest.approx(wanted, abs=1e-12)
    assert MEASURES["macro_f1"].score(SAID, there) == pytest.approx(
        metrics.f1_score(there, SAID > 0, average="macro", zero_division=0), abs=1e-12
    )


def test_what_is_not_defined_is_refused() -> None:
    still = torch.tensor([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]])
    data = ArraySet(torch.rand(3, 2), still, ("a", "b"), "still")
    task = task_of(data, "r2")
    with pytest.raises(ValueError, match=r"train.metric 'r2' must be defined on 'still', got value 1 is the same in"):
        task.check(data)
    with pytest.raises(ValueError, match="r2 must be defined by the targets, got value 1"):
        task.scores(still, still)
    assert list(task_of(data).scores(still, still)) == ["error", "mae", "rmse"]  # r2 is left out
    none = ArraySet(torch.rand(3, 2), torch.zeros(3, 2, dtype=torch.bool), ("a", "b"), "none")
    with pytest.raises(ValueError, match="must be defined on 'none', got no label is there"):
        task_of(none, "mean_average_precision").check(none)
    assert "mean_average_precision" not in task_of(none).scores(still, none.labels)
    with pytest.raises(ValueError, match="the metric of numbers must be one of 'error', 'mae', 'rmse', 'r2'"):
        evaluate(torch.nn.Identity(), data, metric="accuracy")


@pytest.mark.parametrize("name", list(MEASURES))
def test_better_is_better_everywhere(name: str) -> None:
    """A perfect answer beats a bad one by `quality`, whichever way the measure goes."""
    measure = MEASURES[name]
    regression, multilabel = measure.kind == "numbers", measure.kind == "labels"
    task = Task(regression, multilabel=multilabel, metric=name)
    given = {
        "classes": (torch.eye(4), torch.arange(4)),
        "numbers": (torch.from_numpy(TARGETS).float(), torch.from_numpy(TARGETS).float()),
        "labels": (torch.from_numpy(THERE).float() - 0.5, torch.from_numpy(THERE)),
    }
    right, targets = given[measure.kind]
    good, bad = (task.scores(y, targets)[name] for y in (right, -right))
    assert task.quality(good) > task.quality(bad)
    running = task.figure(float(task.tally(right, targets)), len(targets))
    assert running == task.scores(right, targets, [task.running])[task.running]


def test_the_metric_of_a_recipe() -> None:
    base = {"name": "r", "neuron": {"name": "multibit"}, "weight": {"name": "float"}}
    plain, other = (recipe_from_mapping({**base, "train": {"loss": "mse", **more}}) for more in ({}, {"metric": "r2"}))
    assert plain.key("x") != other.key("x")
    for loss, metric in (("mse", "accuracy"), ("mean", "r2"), ("bce", "error")):
        with pytest.raises(ValueError, match=f"the metric of the loss '{loss}' must be one of"):
            recipe_from_mapping({**base, "train": {"loss": loss, "metric": metric}})
