"""What both suites share: the error, and the records of what a module holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from bitspike.checks import message


class ConformanceError(AssertionError):
    """A neuron or quantizer breaks its contract; the message names the check and the first offender."""


def fail(where: str, must: str, got: object, todo: str) -> NoReturn:
    """Raise `ConformanceError` in the house form."""
    raise ConformanceError(message(where, must, got, todo))


def first_bad(bad: Tensor, values: Tensor) -> str:
    """The first offending value and its place.

    >>> first_bad(torch.tensor([[False, True]]), torch.tensor([[1.0, 2.5]]))
    '2.5 at [0, 1] (1 of 2 values)'
    """
    place = bad.nonzero()[0].tolist()
    return f"{values[tuple(place)].item():.9g} at {place} ({int(bad.sum())} of {bad.numel()} values)"


def expect_all(good: Tensor, values: Tensor, where: str, must: str, todo: str) -> None:
    """Fail with the first of ``values`` where ``good`` is False."""
    if not bool(good.all()):
        fail(where, must, first_bad(~good, values), todo)


def expect_kind(found: Tensor, like: Tensor, where: str, must: str, todo: str) -> None:
    """Fail unless two tensors have equal shape, dtype and device."""
    for name in ("shape", "dtype", "device"):
        if getattr(found, name) != getattr(like, name):
            fail(where, must, f"{name} {getattr(found, name)} for {getattr(like, name)}", todo)


def expect_same(found: Any, wanted: Any, where: str, must: str, todo: str) -> None:
    """Fail unless two tensors (or tuples of tensors) have equal shape, dtype, device and bits (−0 equals 0)."""
    if isinstance(wanted, tuple):
        if not isinstance(found, tuple) or len(found) != len(wanted):
            fail(where, must, f"{type(found).__name__} for {type(wanted).__name__}", todo)
        for one, other in zip(found, wanted, strict=True):
            expect_same(one, other, where, must, todo)
        return
    expect_kind(found, wanted, where, must, todo)
    expect_all((found == wanted) | (found.isnan() & wanted.isnan()), found, where, must, todo)


def record(value: Any) -> Any:
    """All that a module (or any nested value) holds, as plain comparable data.

    >>> layer = nn.Linear(2, 1); before = record(layer); layer.last = torch.ones(1); record(layer) == before
    False
    """
    if isinstance(value, Tensor):
        return (str(value.dtype), str(value.device), tuple(value.shape), repr(value.detach().tolist()))
    if isinstance(value, nn.Module):
        return (type(value).__name__, {key: record(item) for key, item in vars(value).items()})
    if isinstance(value, dict):
        return {key: record(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [record(item) for item in value]
    return repr(value)


def expect_untouched(run: Callable[[], object], module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Fail if ``run`` changes the module, its class or the tensors."""
    before = record(module), record(dict(vars(type(module)))), {name: record(t) for name, t in tensors.items()}
    run()
    after = record(module), record(dict(vars(type(module)))), {name: record(t) for name, t in tensors.items()}
    changed = [name for name in tensors if before[2][name] != after[2][name]]
    if changed:
        fail(where, "a call must not write to its arguments", f"changes of {', '.join(changed)}", "write to a copy")
    for one, other in zip(before[:2], after[:2], strict=True):
        if one != other:
            must = "a call must leave parameters, buffers and attributes as they are"
            fail(where, must, "a module that changed", "return the state instead of keeping it")


def expect_clean_state(module: nn.Module, constants: tuple[str, ...], where: str) -> None:
    """Fail if ``state_dict`` holds anything but parameters and the declared constants."""
    extra = set(module.state_dict()) - {name for name, _ in module.named_parameters()} - set(constants)
    if extra:
        fail(
            where,
            "state_dict must hold parameters and declared constants only",
            sorted(extra),
            "pass state as arguments",
        )


def gradients(output: Tensor, leaves: list[Tensor]) -> list[Tensor | None]:
    """Gradients of a scalar, or of a fixed random projection of anything larger; None where nothing arrives."""
    if not output.requires_grad:
        return [None] * len(leaves)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64).to(output)
    return list(torch.autograd.grad((output * weight).sum() if output.dim() else output, leaves, allow_unused=True))


def expect_finite_gradients(output: Tensor, named: dict[str, Tensor], where: str) -> None:
    """Fail if a leaf gets no gradient, or one that is not finite."""
    for name, gradient in zip(named, gradients(output, list(named.values())), strict=True):
        if gradient is None:
            fail(where, f"{name} must get a gradient", "none", "keep the graph connected to it")
        expect_all(
            gradient.isfinite(), gradient, where, f"the gradient of {name} must be finite", "bound the surrogate"
        )
