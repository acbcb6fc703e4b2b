"""`SpikingClassifier`: scikit-learn's own checks, tools around it, odd features, and the way on to a program."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from bitspike.neurons import LIF, NEURONS
from bitspike.quantizers import Uniform
from bitspike.sklearn import SpikingClassifier

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


def small(**options: Any) -> SpikingClassifier:
    return SpikingClassifier(**{"hidden": 16, "epochs": 30, "random_state": 0, **options})


@parametrize_with_checks([SpikingClassifier(hidden=32, epochs=20)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> SpikingClassifier:
    return small(weight="uniform").fit(X, NAMES)


def test_it_learns_and_answers_in_the_labels_it_was_given(iris: SpikingClassifier) -> None:
    assert iris.score(X, NAMES) > 0.93 and iris.predict(X[:3]).dtype == NAMES.dtype
    proba = iris.predict_proba(X)
    assert np.allclose(proba.sum(1), 1) and (iris.classes_[proba.argmax(1)] == iris.predict(X)).all()
    assert np.allclose(np.log(proba), iris.predict_log_proba(X))
    assert iris.loss_curve_[-1] < iris.loss_curve_[0] and len(iris.loss_curve_) == 30


@pytest.mark.parametrize("neuron", list(NEURONS))
def test_every_neuron_trains_folds_and_compiles(neuron: str) -> None:
    made = small(neuron=neuron, epochs=8).fit(X, Y)
    assert made.score(X, Y) > 0.7
    levels = made.compile(X)(made.standardise(X)).values.argmax(1)
    assert (levels == made.predict(X)).mean() > 0.9


def test_a_program_and_its_cost(iris: SpikingClassifier) -> None:
    program = iris.compile(X)
    assert [name for [(name, _)] in program(iris.standardise(X[:3])).top(1)] == ["setosa"] * 3
    right = iris.classes_[program(iris.standardise(X)).values.argmax(1)]
    assert (right == iris.predict(X)).mean() > 0.95
    assert iris.cost(X).total("multiplications") > 0 and len(iris.cost(X).layers) >= 2
    assert iris.fold(X).report.samples == len(X)


def test_random_state_decides_everything_and_torch_keeps_its_own() -> None:
    state = torch.get_rng_state()
    first, again, other = (small(random_state=seed).fit(X, Y).predict_proba(X) for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any() and torch.equal(state, torch.get_rng_state())


def test_a_row_does_not_depend_on_its_company(iris: SpikingClassifier) -> None:
    alone = np.concatenate([iris.predict_proba(row[None]) for row in X[:40]])
    assert np.allclose(alone, iris.predict_proba(X)[:40], rtol=0, atol=1e-12)


def test_pipelines_grids_clones_and_pickles() -> None:
    given = LIF(threshold=0.8)
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), small(neuron=given, epochs=5)),
        {"spikingclassifier__T": np.array([1, 2]), "spikingclassifier__weight": [None, Uniform(4)]},
        cv=2,
    ).fit(X, NAMES)
    assert search.best_score_ > 0.6 and set(search.predict(X)) <= set(NAMES)
    made = search.best_estimator_[-1]
    again = pickle.loads(pickle.dumps(search))
    assert (again.predict_proba(X) == search.predict_proba(X)).all()
    assert not hasattr(clone(made), "network_") and clone(made).get_params()["T"] == made.T


def test_constant_huge_and_tiny_features_change_nothing() -> None:
    odd = np.column_stack([X[:, :2] * 1e306, X[:, 2:] * 1e-300, np.full(len(X), 0.1), np.zeros(len(X))])
    made, plain = small().fit(odd, Y), small().fit(np.column_stack([X, X[:, :2] * 0]), Y)
    assert np.allclose(made.standardise(odd), plain.standardise(np.column_stack([X, X[:, :2] * 0])), atol=1e-5)
    assert made.scale_[4] == made.scale_[5] == 0 and made.score(odd, Y) > 0.9
    moved = odd.copy()
    moved[:, 4:] = 1e308
    assert (made.predict_proba(moved) == made.predict_proba(odd)).all()
    far = np.abs(made.standardise(odd[:1] * np.array([[-20.0, 1, 1, 1, 1, 1]])))
    assert far.max() == pytest.approx(made.clip)


def test_tiny_sets_and_batches_of_one_row_are_trained() -> None:
    made = small(batch_size=2, epochs=3).fit([[0.0], [1.0], [2.0]], [True, False, True])
    assert made.classes_.tolist() == [False, True] and made.predict([[1.5]]).dtype == bool


@pytest.mark.parametrize(
    ("options", "words", "where"),
    [
        ({"neuron": "lift"}, ("'lif'",), "neuron registry"),
        ({"neuron": 3}, ("neuron", "int"), "SpikingClassifier"),
        ({"weight": "unifrom"}, ("'uniform'",), "quantizer registry"),
        ({"T": 0}, ("T",), "mlp"),
        ({"hidden": ()}, ("hidden",), "mlp"),
        ({"hidden": "64"}, ("hidden",), "SpikingClassifier"),
        ({"epochs": 0}, ("epochs",), "TrainConfig"),
        ({"batch_size": 1}, ("batch_size",), "SpikingClassifier"),
        ({"clip": -1.0}, ("clip",), "SpikingClassifier"),
        ({"lr": "fast"}, ("lr",), "TrainConfig"),
    ],
)
def test_bad_arguments_are_named_at_fit(options: dict[str, Any], words: tuple[str, ...], where: str) -> None:
    made = small(**options)  # as scikit-learn wants it: the constructor looks at nothing
    with pytest.raises((ValueError, TypeError)) as caught:
        made.fit(X, Y)
    assert str(caught.value).startswith(where) and all(word in str(caught.value) for word in words)


def test_one_class_is_refused(refuses: Any) -> None:
    with refuses("SpikingClassifier", "two classes"):
        small().fit(X[:10], np.zeros(10))


def test_without_scikit_learn_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport bitspike.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and 'pip install "bitspike[demo]"' in done.stderr.splitlines()[-1]
