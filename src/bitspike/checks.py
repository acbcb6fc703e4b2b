"""The one form of error message: ``Where: what must hold, got what; what to do.``

Bad input raises `ValueError` (a wrong value) or `TypeError` (a wrong kind of object), never an
assertion. Values of tensors (NaN, inf, ranges) are checked at the borders only: data, calibration,
fold, the loss at the logging interval. Inside a module's forward only shapes and dtypes are checked.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from numbers import Real
from typing import TypeVar

import torch

T = TypeVar("T")


def message(where: str, must: str, got: object, todo: str) -> str:
    """Write one error message in the house form.

    >>> message("LIF", "threshold must be > 0", -1.0, "pass a positive threshold")
    'LIF: threshold must be > 0, got -1.0; pass a positive threshold.'
    """
    return f"{where}: {must}, got {got}; {todo}" + ("" if todo.endswith("?") else ".")


def bad_value(where: str, must: str, got: object, todo: str) -> ValueError:
    """A `ValueError` in the house form, for ``raise bad_value(...)``."""
    return ValueError(message(where, must, got, todo))


def bad_type(where: str, must: str, got: object, todo: str) -> TypeError:
    """A `TypeError` in the house form, for ``raise bad_type(...)``."""
    return TypeError(message(where, must, got, todo))


def one_of(where: str, name: str, value: T, allowed: Collection[T]) -> T:
    """Return ``value`` if it is allowed, else raise and suggest the nearest spelling.

    >>> one_of("LIF", "reset", "hard", ("hard", "soft"))
    'hard'
    >>> one_of("LIF", "reset", "sofft", ("hard", "soft"))
    Traceback (most recent call last):
        ...
    ValueError: LIF: reset must be one of 'hard', 'soft', got 'sofft'; did you mean 'soft'?
    """
    if value in allowed:
        return value
    raise bad_value(where, choice(name, allowed), repr(value), suggestion(value, allowed))


def choice(name: str, allowed: Collection[object]) -> str:
    """What must hold of a name, as words.

    >>> choice("reset", ("hard", "soft")), choice("an option", ())
    ("reset must be one of 'hard', 'soft'", 'an option must be left out, as there are none')
    """
    listed = ", ".join(repr(item) for item in allowed)
    return f"{name} must be one of {listed}" if listed else f"{name} must be left out, as there are none"


def suggestion(value: object, allowed: Collection[object]) -> str:
    """The nearest allowed spelling as advice, or a request to choose one of the listed, or to remove it."""
    if not allowed:
        return "remove it"
    near = difflib.get_close_matches(str(value), [str(item) for item in allowed], n=1)
    return f"did you mean {near[0]!r}?" if near else "choose one of these"


def number(where: str, name: str, value: object) -> None:
    """Raise unless ``value`` is a real number."""
    if not isinstance(value, Real):
        raise bad_type(where, f"{name} must be a number", type(value).__name__, "pass an int or a float")


def at_least(where: str, name: str, value: float, low: float) -> None:
    """Raise unless ``value >= low`` (NaN fails)."""
    number(where, name, value)
    if not value >= low:
        raise bad_value(where, f"{name} must be >= {low}", value, f"pass {name} >= {low}")


def in_range(where: str, name: str, value: float, low: float, high: float) -> None:
    """Raise unless ``low <= value <= high`` (NaN fails)."""
    number(where, name, value)
    if not low <= value <= high:
        raise bad_value(where, f"{name} must lie in [{low}, {high}]", value, "pass a value inside")


def positive(where: str, name: str, value: float) -> None:
    """Raise unless ``0 < value < inf`` (NaN fails)."""
    number(where, name, value)
    if not 0 < value < float("inf"):
        raise bad_value(where, f"{name} must be positive and finite", value, f"pass {name} > 0")


def single(where: str, fields: object) -> None:
    """Raise unless the floats among the attributes of ``fields`` fit into float32, in which networks compute.

    >>> import types
    >>> single("Train", types.SimpleNamespace(lr=1e300))
    Traceback (most recent call last):
        ...
    ValueError: Train: lr must lie in [-3.4e+38, 3.4e+38], got 1e+300; pass a value inside.
    """
    for name, value in vars(fields).items():
        if isinstance(value, float):
            in_range(where, name, value, -3.4e38, 3.4e38)


def integer(where: str, name: str, value: object, low: int, high: int) -> int:
    """Return ``value`` if it is an int (not a bool) in [low, high], else raise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_type(where, f"{name} must be an int", type(value).__name__, f"pass an int from {low} to {high}")
    in_range(where, name, value, low, high)
    return value


def pair(where: str, name: str, value: object, low: int, high: int) -> tuple[int, int]:
    """(height, width) of one int or two in [low, high], else raise.

    >>> pair("Conv2d", "kernel", 3, 1, 9), pair("Conv2d", "kernel", (1, 3), 1, 9)
    ((3, 3), (1, 3))
    """
    if not isinstance(value, (tuple, list)):
        side = integer(where, name, value, low, high)
        return side, side
    if len(value) != 2:
        raise bad_value(where, f"{name} must be one number or (height, width)", tuple(value), "e.g. (1, 3)")
    sides = zip(("of height", "of width"), value, strict=True)
    height, width = (integer(where, f"{name} {side}", n, low, high) for side, n in sides)
    return height, width


def greatest(*values: float) -> float:
    """The greatest of some numbers; NaN if one is NaN, which `max` keeps or loses by its place.

    >>> greatest(0.0, float("nan")), max(0.0, float("nan"))
    (nan, 0.0)
    """
    return max(values, key=lambda value: (value != value, value))


def floating(where: str, x: torch.Tensor) -> None:
    """Raise unless ``x`` is a floating-point tensor."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise bad_type(where, "the input must be a floating-point tensor", kind, "convert it with .float()")


def wide(where: str, x: torch.Tensor) -> None:
    """Raise unless ``x`` is a floating-point tensor of 32 bits or more."""
    floating(where, x)
    if torch.finfo(x.dtype).bits < 32:
        must = "the numbers must have 32 bits or more, or rounding decides the result"
        raise bad_type(where, must, x.dtype, "convert input and network with .float()")


def is_indices(x: torch.Tensor) -> bool:
    """Whether a tensor holds numbers of words, for an embedding: int64 or int32."""
    return isinstance(x, torch.Tensor) and x.dtype in (torch.int64, torch.int32)


def time_first(where: str, x: torch.Tensor, least: int = 2, indices: bool = False) -> None:
    """Raise unless ``x`` is a floating tensor ``[T, B, ...]`` with T >= 1 and at least ``least`` axes.

    With ``indices`` it may hold numbers of words, too.
    """
    if not (indices and is_indices(x)):
        floating(where, x)
    if x.dim() < least:
        raise bad_value(where, f"the input must be [T, B, ...] with at least {least} axes", list(x.shape), "add them")
    if x.shape[0] < 1:
        raise bad_value(where, "T (axis 0) must be >= 1", x.shape[0], "pass at least one time step")


def all_finite(where: str, named: Iterable[tuple[str, torch.Tensor]]) -> None:
    """`finite` for every (name, tensor), such as ``model.named_parameters()``."""
    for name, value in named:
        finite(where, repr(name), value)


def finite(where: str, name: str, x: torch.Tensor) -> None:
    """Raise if ``x`` holds NaN or inf. For the borders only: it waits for the device."""
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise bad_value(where, f"{name} must be finite", f"{bad} NaN or inf of {x.numel()} values", "clean the values")
