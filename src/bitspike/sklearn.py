"""Spiking networks as scikit-learn estimators: fit, predict, pipelines, grid search, and the way on to a program."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, integer, message
from bitspike.cost import Cost
from bitspike.cost import cost as count
from bitspike.fold import Folded, fold
from bitspike.lower import compile as lowered
from bitspike.models import Network
from bitspike.models.mlp import mlp
from bitspike.neurons import NEURONS, Neuron
from bitspike.quantizers import QUANTIZERS, Quantizer
from bitspike.runtime import Program
from bitspike.training.losses import find_loss
from bitspike.training.optim import learning_rate, make_optimiser
from bitspike.training.step_sizes import StepSizes
from bitspike.training.train_config import TrainConfig

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    _TEXT = message("SpikingClassifier", "scikit-learn >= 1.6 must be installed", error, 'pip install "bitspike[demo]"')
    raise ImportError(_TEXT) from error

Array = npt.NDArray[Any]

_WHERE, _CHUNK = "SpikingClassifier", 4096


class SpikingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of rows of numbers that is a spiking network of linear layers, batch norms and neurons.

    What enters the network: every feature minus its mean, divided by its standard deviation, both of the training
    rows and computed in float64 for any scale; then clipped to ±``clip``. A feature that is constant in training
    enters as 0, whatever it is later. The network sees the result at each of T time steps (direct encoding). Features
    of categories are to be encoded before, e.g. by a `OneHotEncoder` in a pipeline.

    Training minimises the cross-entropy of the mean output over T steps by AdamW; optimiser, schedule, losses and step
    sizes are those of `bitspike.training`. A neuron that learns bits keeps those it starts with. Predictions are
    computed in float64, so that they do not depend on which rows share a call.

    Args:
        neuron: a name of `bitspike.neurons.NEURONS` ("lif", "ternary", "multibit", ...) or a neuron, as a prototype.
        weight: quantizer of the hidden weights, a name of `bitspike.quantizers.QUANTIZERS` or a quantizer; None: float.
        T: time steps, >= 1.
        hidden: widths of the hidden layers, an int or several, at least one.
        epochs: passes over the rows, >= 1.
        batch_size: rows of an optimiser step, >= 2; rows are spread evenly over N // batch_size batches, at least one.
        lr: peak learning rate, > 0; a cosine brings it to 0.
        weight_decay: of synaptic weights, >= 0.
        label_smoothing: [0, 1).
        clip: largest standardised value, > 0.
        random_state: int, `RandomState` or None, as in scikit-learn; an int gives the same network again. torch's own
            generator is left as it was.

    Attributes:
        classes_: sorted labels [K], of the dtype of y. n_features_in_: F. feature_names_in_: of data frames.
        network_: the trained `Network`, float32, in evaluation mode; it reads what `standardise` returns.
        mean_, scale_: of the features, float64 [F]; scale_ is 0 for a constant one.
        loss_curve_: mean training loss of every epoch.

    Raises:
        ValueError: at fit: a value out of its range, an unknown name, fewer than two classes, NaN or inf in X, or
            training that diverges. TypeError: sparse X, or an argument of another kind.

    >>> import numpy as np
    >>> X = np.array([[0.0, 5.0], [1.0, 5.0], [10.0, 5.0], [11.0, 5.0]])
    >>> model = SpikingClassifier(hidden=8, epochs=20, random_state=0).fit(X, ["low", "low", "high", "high"])
    >>> model.predict([[0.5, 5.0], [12.0, 1e300]]).tolist()  # the second feature was constant: it is not read
    ['low', 'high']
    """

    def __init__(
        self,
        neuron: str | Neuron = "multibit",
        *,
        weight: str | Quantizer | None = None,
        T: int = 2,
        hidden: int | tuple[int, ...] = (64,),
        epochs: int = 60,
        batch_size: int = 32,
        lr: float = 1e-2,
        weight_decay: float = 1e-3,
        label_smoothing: float = 0.0,
        clip: float = 5.0,
        random_state: Any = None,
    ) -> None:
        self.neuron = neuron
        self.weight = weight
        self.T = T
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.clip = clip
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SpikingClassifier:
        """Train a new network.

        Args:
            X: numbers [N, F], N >= 2. y: labels [N] of any dtype that sorts, at least two different ones.

        Returns:
            The estimator itself.
        """
        neuron = _prototype("neuron", self.neuron, NEURONS, Neuron)
        weight = None if self.weight is None else _prototype("weight", self.weight, QUANTIZERS, Quantizer)
        widths = (self.hidden,) if isinstance(self.hidden, (int, np.integer)) else self.hidden
        if not isinstance(widths, (tuple, list)):
            raise bad_type(_WHERE, "hidden must be an int or a tuple", type(widths).__name__, "pass e.g. (64, 64)")
        batch_size = integer(_WHERE, "batch_size", _plain(self.batch_size), 2, 2**31 - 1)
        if not isinstance(self.clip, (int, float, np.number)) or not 0 < self.clip < np.inf:
            raise bad_value(_WHERE, "clip must be positive and finite", self.clip, "pass e.g. clip=5.0")
        config = TrainConfig(
            epochs=_plain(self.epochs),
            optimiser="adamw",
            lr=_plain(self.lr),
            weight_decay=_plain(self.weight_decay),
            label_smoothing=_plain(self.label_smoothing),
        )
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        self.classes_: Array = classes
        if len(self.classes_) < 2:
            raise bad_value(_WHERE, "y must hold at least two classes", "1 class", "give rows of another class, too")
        mean, scale = _moments(X)
        self.mean_: Array = mean
        self.scale_: Array = scale
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs, targets = torch.from_numpy(self._standardised(X)), torch.from_numpy(labels.reshape(-1))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            T, hidden = _plain(self.T), tuple(map(_plain, widths))
            network = mlp(neuron, weight, T, (X.shape[1],), len(self.classes_), hidden)
            self.loss_curve_: list[float] = _train(network, inputs, targets, config, batch_size)
        self.network_: Network = network.eval()
        return self

    def predict(self, X: Any) -> Array:
        """The most probable label of every row, [N]; of equal ones the first in ``classes_``."""
        best = self._logits(X).argmax(1).numpy()
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> Array:
        """Softmax of the outputs, float64 [N, K], columns as in ``classes_``."""
        return self._logits(X).softmax(1).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of `predict_proba`, without the underflow of a logarithm of 0."""
        return self._logits(X).log_softmax(1).numpy()

    def standardise(self, X: Any) -> npt.NDArray[np.float32]:
        """What the network, the folded network and the program read: float32 [N, F], see the class."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._standardised(X).astype(np.float32)

    def fold(self, X: Any) -> Folded:
        """The network with batch norms and amplitudes folded into weights and thresholds, checked on the rows of X."""
        return fold(self.network_, torch.from_numpy(self.standardise(X)))

    def compile(self, X: Any, **options: Any) -> Program:
        """A program of integer operations, which runs without torch.

        Args:
            X: rows that choose ranges, some hundred of training. options: of `bitspike.compile`.

        Returns:
            The program: ``program(model.standardise(X)).values`` are logits [N, K] in the order of ``classes_``.
        """
        names = {"classes": [str(name) for name in self.classes_.tolist()]} if hasattr(self, "classes_") else {}
        rows = torch.from_numpy(self.standardise(X))
        return lowered(fold(self.network_, rows), rows, **{**names, **options})

    def cost(self, X: Any) -> Cost:
        """Operations, bits and bytes of one prediction of the folded network, averaged over the rows of X."""
        rows = torch.from_numpy(self.standardise(X))
        return count(fold(self.network_, rows).graph, rows)

    def _standardised(self, X: Array) -> npt.NDArray[np.float64]:
        """Clipped standard scores, [N, F]; huge values are divided before they are subtracted."""
        live = self.scale_ > 0
        scale = np.where(live, self.scale_, 1.0)
        with np.errstate(over="ignore"):  # to inf, which clips
            scores = np.where(live, X / scale - self.mean_ / scale, 0.0)
        return np.clip(scores, -self.clip, self.clip)

    def _logits(self, X: Any) -> Tensor:
        """Outputs [N, K] in float64: a batch of another size then rounds no membrane across a threshold."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        rows, network = torch.from_numpy(self._standardised(X)), copy.deepcopy(self.network_).double().eval()
        with torch.no_grad():
            return torch.cat([network(part) for part in rows.split(_CHUNK)])


def _plain(value: Any) -> Any:
    """A number of NumPy, as grids of parameters have them, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _prototype(name: str, given: Any, table: Any, kind: type) -> Any:
    """A component by its name, with its defaults, or as it was given."""
    if isinstance(given, str):
        return table[given]()
    if not isinstance(given, kind):
        todo = f"pass one of {', '.join(map(repr, table))}, or an object"
        raise bad_type(_WHERE, f"{name} must be a name or a {kind.__name__}", type(given).__name__, todo)
    return given


def _moments(X: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of every column; 0 for a column that is constant but for rounding."""
    top = np.abs(X).max(0)
    unit = np.where(top > 0, top, 1.0)
    scaled = X / unit
    mean, spread = scaled.mean(0), scaled.std(0)
    constant = (np.ptp(scaled, 0) == 0) | (spread <= 8 * np.finfo(np.float64).eps)
    return mean * unit, np.where(constant, 0.0, spread * unit)


def _train(network: Network, x: Tensor, y: Tensor, config: TrainConfig, batch_size: int) -> list[float]:
    """Mean loss of every epoch; batches are of equal size but for one row, so that none is too small for batch norm."""
    x, loss_of = x.float(), find_loss(config.loss)
    optimiser, step_sizes = make_optimiser(network, config), StepSizes(network)
    batches = max(1, len(x) // batch_size)
    curve = []
    network.train()
    for epoch in range(config.epochs):
        total = 0.0
        for index, rows in enumerate(torch.randperm(len(x)).tensor_split(batches)):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, epoch + index / batches)
            loss = loss_of(network(x[rows]), y[rows], config.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            with step_sizes.held(optimiser):
                optimiser.step()
            total += float(loss.detach()) * len(rows)
        curve.append(total / len(x))
        if not np.isfinite(curve[-1]):
            must = f"the loss must stay finite (epoch {epoch + 1})"
            raise bad_value(_WHERE, must, curve[-1], "pass a smaller lr")
    return curve
