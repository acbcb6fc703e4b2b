"""The relaxed network: a continuous function whose gradient at one point is the one that training uses.

A spiking network is a staircase and its gradients are made up, so central differences of the network itself test
nothing. Near a reference point the relaxed network replaces every made-up piece by a function that has exactly the
claimed derivative: firing gives ``k(u0) + P(u) − P(u0)`` with the surrogate's primitive P, and whatever is detached
(rounding residuals, gates, cut resets) keeps the value it had at the reference point.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bitspike.checks import bad_type, bad_value
from bitspike.functional import Stairs, Surrogate
from bitspike.sealed import Sealed, amend

Forward = Callable[[Any, Tensor], Tensor]


class Tape:
    """Values noted on a reference pass and handed out again, in call order, on later passes."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._next: int | None = None
        self._recording = False
        self._paused = False

    @property
    def running(self) -> bool:
        """Whether a pass is going on whose detached values are noted or replayed."""
        return not self._paused and (self._recording or self._next is not None)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """A pass that starts the tape afresh and notes every value."""
        self._values, self._recording = [], True
        try:
            yield
        finally:
            self._recording = False

    @contextmanager
    def replay(self) -> Iterator[None]:
        """A pass that gets the noted values; raises `ValueError` if it asks for fewer or more of them."""
        self._next = 0
        try:
            yield
            if self._next != len(self._values):
                self._strayed(self._next)
        finally:
            self._next = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, detached values are neither noted nor replayed."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def note(self, value: Tensor) -> Tensor:
        """``value`` on the reference pass; on a replay what stood here then; otherwise ``value``."""
        if self._recording:
            with self.paused():
                self._values.append(value.detach().clone())
        elif self._next is not None:
            if self._next >= len(self._values):
                self._strayed(self._next + 1)
            value = self._values[self._next]
            self._next += 1
        return value

    def _strayed(self, asked: int) -> None:
        must = f"a perturbed pass must ask for the {len(self._values)} values of the reference pass"
        raise bad_value("Tape", must, asked, "call the same modules in the same order")


class Relaxed(Surrogate):
    """A surrogate that sends its primitive forward, shifted to the hard level of the reference pass.

    Args:
        inner: the surrogate whose derivative is under test.
        tape: notes k(u0) and P(u0).

    >>> from bitspike.functional import Rectangle, fire
    >>> tape = Tape(); soft = Relaxed(Rectangle(), tape); u = torch.tensor([0.75])
    >>> with tape.reference(): fire(u, Stairs(1.0), soft)
    tensor([0.])
    >>> with tape.replay(): fire(u + 0.125, Stairs(1.0), soft)
    tensor([0.1250])
    """

    relaxed = True

    def __init__(self, inner: Surrogate, tape: Tape) -> None:
        self.inner: Surrogate = inner
        self.tape: Tape = tape

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """The derivative under test."""
        return self.inner.derivative(u, stairs)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """``k(u0) + P(u) − P(u0)``."""
        with self.tape.paused():
            ramp = self.inner.primitive(u, stairs)
            level, start = stairs.level(u), ramp.detach()
        return self.tape.note(level) + (ramp - self.tape.note(start))

    def check(self, where: str, stairs: Stairs) -> None:
        """As the inner one."""
        self.inner.check(where, stairs)


class _FrozenDetach(TorchFunctionMode):
    """Every ``.detach()`` gives the value it had on the reference pass."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.Tensor.detach, torch.detach) and self.tape.running:
            return self.tape.note(result)
        return result


@contextmanager
def relaxed(model: nn.Module, forwards: Mapping[type[nn.Module], Forward] | None = None) -> Iterator[Tape]:
    """Within the block, ``model`` runs as the relaxed network; its surrogates and forwards come back afterwards.

    Args:
        model: its modules that have a ``surrogate`` fire relaxed.
        forwards: class → forward (module, x) in plain differentiable operations, for modules with a gradient of
            their own (an autograd function), whose claims the tape cannot see.

    Yields:
        the tape: run ``with tape.reference():`` at the point of interest, then ``with tape.replay():`` nearby.
    """
    tape = Tape()
    found = ((m, getattr(m, "surrogate", None)) for m in model.modules())
    soft = {m: own for m, own in found if isinstance(own, Surrogate)}
    plain = {m: own for m in model.modules() for kind, own in (forwards or {}).items() if isinstance(m, kind)}
    for module, surrogate in soft.items():
        _give(module, Relaxed(surrogate, tape))
    for module, own in plain.items():
        module.forward = MethodType(own, module)  # type: ignore[method-assign]
    try:
        with _FrozenDetach(tape):
            yield tape
    finally:
        for module, surrogate in soft.items():
            _give(module, surrogate)
        for module in plain:
            del module.forward


def _give(module: nn.Module, surrogate: Surrogate) -> None:
    if isinstance(module, Sealed):
        amend(module, surrogate=surrogate)
    else:
        module.surrogate = surrogate  # type: ignore[assignment]


def finite_differences(
    loss: Callable[[], Tensor],
    tensors: Iterable[Tensor],
    model: nn.Module,
    step: float = 1e-6,
    forwards: Mapping[type[nn.Module], Forward] | None = None,
) -> list[Tensor]:
    """Central differences of the relaxed network around the present values of ``tensors``.

    They equal the gradients that autograd gives for the same ``loss`` outside, except within ``step`` of a kink.

    Args:
        loss: runs ``model`` and returns a scalar; called twice an element.
        tensors: leaves in float64 that the loss reads: parameters of the model, inputs.
        model, forwards: see `relaxed`.
        step: half the distance of the two points.

    Returns:
        one tensor of differences for each of ``tensors``.

    Raises:
        TypeError: a tensor is not float64 (rounding would drown the difference).

    >>> from bitspike.neurons import LIF
    >>> neuron, x = LIF(), torch.tensor([[[0.75, 3.0]]], dtype=torch.float64)
    >>> [difference] = finite_differences(lambda: neuron(x).sum(), [x], neuron); difference.round(decimals=6).tolist()
    [[[1.0, 0.0]]]
    """
    leaves = list(tensors)
    for leaf in leaves:
        if leaf.dtype != torch.float64:
            raise bad_type("finite_differences", "the tensors must be float64", leaf.dtype, "call model.double()")
    with relaxed(model, forwards) as tape, torch.no_grad():
        with tape.reference():
            loss()
        return [central_differences(loss, leaf, tape, step) for leaf in leaves]


def central_differences(loss: Callable[[], Tensor], leaf: Tensor, tape: Tape, step: float = 1e-6) -> Tensor:
    """Differences of a loss on replays of the tape, one element of ``leaf`` after the other."""
    result = torch.zeros_like(leaf)
    for place in itertools.product(*map(range, leaf.shape)):
        centre = float(leaf.data[place])
        values = []
        for point in (centre + step, centre - step):
            leaf.data[place] = point
            with tape.replay():
                values.append(float(loss()))
        leaf.data[place] = centre
        result[place] = (values[0] - values[1]) / (2 * step)
    return result
