"""What both suites share: the error, and the records of what a module holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def expect_equal_where(good: Tensor, found: Tensor, wanted: Tensor, where: str, must: str, todo: str) -> None:
    """Fail with the first pair of values where ``good`` is False."""
    if not bool(good.all()):
        place = tuple((~good).nonzero()[0].tolist())
        fail(where, must, f"{found[place].item():.9g} for {wanted[place].item():.9g}, {first_bad(~good, found)}", todo)


def kinds(value: Any) -> str:
    """What a value is, with the names of a named tuple or the kinds of a tuple's entries.

    >>> kinds((1, torch.ones(1)))
    'tuple (int, Tensor)'
    """
    name = type(value).__name__
    if not isinstance(value, tuple):
        return name
    return f"{name} ({', '.join(getattr(value, '_fields', [type(item).__name__ for item in value]))})"


def expect_parts(owner: object, parts: Mapping[str, type], where: str) -> None:
    """Fail unless an object has every part, of its class."""
    for name, kind in parts.items():
        if not hasattr(owner, name):
            fail(where, f"`{name}` must be there", "none", f"set it to a {kind.__name__} in the constructor")
        if not isinstance(getattr(owner, name), (float, int) if kind is float else kind):
            got = type(getattr(owner, name)).__name__
            fail(where, f"`{name}` must be a {kind.__name__}", got, "set it in the constructor")


def expect_trainable(module: nn.Module, where: str) -> None:
    """Fail if a parameter cannot get a gradient."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            todo = "make a constant a buffer and name it in `constants`, or thaw it for the check"
            fail(where, f"{name} must get a gradient", "a parameter with requires_grad=False", todo)


def complete(check: Callable[[Any], None], trial: Any) -> None:
    """Run a check; whatever else than `ConformanceError` stops it becomes one."""
    try:
        check(trial)
    except ConformanceError:
        raise
    except Exception as error:
        must = f"`{check.__name__}` must run to its end"
        got, todo = f"{type(error).__name__}: {str(error)[:200]}", "see the error above, which the check met on its way"
        raise ConformanceError(message(trial.where, must, got, todo)) from error


def expect_gain(scaled: Tensor, plain: Tensor, kept: bool, name: str, where: str) -> None:
    """Fail unless a scaled gradient is the plain one (``kept``) or that times a gain in (0, 1]."""
    gain = scaled / plain
    good = (gain - 1).abs() <= 1e-9 if kept else (gain > 0) & (gain <= 1 + 1e-9)
    good |= (plain.abs() <= 1e-12) & (scaled.abs() <= 1e-12)
    must = "not be scaled" if kept else "be scaled by a positive number <= 1"
    expect_equal_where(good, scaled, plain, where, f"the gradient of {name} must {must}", "mend the gradient scale")


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


def expect_no_draws(run: Callable[[], object], where: str) -> None:
    """Fail if ``run`` moves torch's generator."""
    before = torch.get_rng_state()
    run()
    if not torch.equal(torch.get_rng_state(), before):
        must = "a call must not draw from torch's generator"
        fail(where, must, "a generator that moved on", "draw what is random in the constructor")


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
