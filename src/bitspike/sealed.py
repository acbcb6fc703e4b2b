"""Attributes that are fixed when an object is made: what was derived from them would not follow a new value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from bitspike.checks import message


class Sealed:
    """A mixin in front of `torch.nn.Module`: arguments of the constructor cannot be set once it has returned.

    To set one raises `AttributeError`, whether the constructor kept it under that name or not, because constants such
    as staircases and formats were derived from it. Parameters, buffers and modules may be replaced by their like.
    Constructors of subclasses are wrapped, so nothing is to be called; copies, pickles and loaded states stay sealed.

    Attributes:
        sealed: further names that cannot be set.
        settable: arguments that take effect when they are set; `admit` may check them.
        tensors: arguments whose names are those of a parameter or buffer, which may be set to a tensor or None.
        remedies: name → what to do instead of setting it, where that is not to make a new object.

    >>> class Part(Sealed):
    ...     def __init__(self, size=1): self.double = 2 * size
    >>> Part().size = 2
    Traceback (most recent call last):
        ...
    AttributeError: Part: size is fixed when it is made, got 2; make a new one, Part(size=2), and put it in its place.
    """

    sealed: ClassVar[tuple[str, ...]] = ()
    settable: ClassVar[tuple[str, ...]] = ()
    tensors: ClassVar[tuple[str, ...]] = ()
    remedies: ClassVar[Mapping[str, str]] = {}
    _fixed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fixed, settable = set[str](), set[str]()
        own = [base for base in cls.__mro__ if issubclass(base, Sealed)]
        for base in reversed(own):  # a subclass has the last word
            sealed = set(base.__dict__.get("sealed", ()))
            settable = (settable | set(base.__dict__.get("settable", ()))) - sealed
            fixed = (fixed | sealed | set(_arguments(base))) - settable
        cls._fixed = frozenset(fixed)
        if "__init__" in cls.__dict__:
            type.__setattr__(cls, "__init__", _sealing(cls.__init__))

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("_made"):
            if name in self._fixed and not self._replaces(name, value):
                raise AttributeError(self._refusal(name, value))
            value = self.admit(name, value)
        super().__setattr__(name, value)

    def admit(self, name: str, value: Any) -> Any:
        """A hook: what an attribute is set to on a finished object, or an error."""
        return value

    def _replaces(self, name: str, value: Any) -> bool:
        """Whether this is a parameter, buffer or module in the place of another."""
        held = self.__dict__
        if name in self.tensors or name in {**held.get("_parameters", {}), **held.get("_buffers", {})}:
            return value is None or isinstance(value, torch.Tensor)
        replaceable = name not in self.sealed and name in held.get("_modules", {})
        return replaceable and isinstance(value, torch.nn.Module)

    def _refusal(self, name: str, value: Any) -> str:
        kind = type(self).__name__
        got = repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__
        todo = f"make a new one, {kind}({name}={got}), and put it in its place"
        if name not in inspect.signature(type(self)).parameters:
            todo = "it follows from the arguments of the constructor: make a new one"
        for base in reversed(type(self).__mro__):
            todo = base.__dict__.get("remedies", {}).get(name, todo)
        return message(kind, f"{name} is fixed when it is made", got, todo)


def amend(made: Sealed, **values: Any) -> None:
    """Set sealed attributes of a finished object; for code that keeps what depends on them in step.

    >>> class Part(Sealed):
    ...     def __init__(self, size=1): self.size, self.double = size, 2 * size
    >>> part = Part(); amend(part, size=3, double=6); part.size
    3
    """
    for name, value in values.items():
        super(Sealed, made).__setattr__(name, value)


def rewritten(made: torch.nn.Module, *buffers: torch.Tensor) -> bool:
    """Whether buffers hold something else than when this was last asked: written to in place, or other tensors.

    Averages of models (`torch.optim.swa_utils.AveragedModel`) copy into buffers; what is derived from them must follow.
    """
    if torch.compiler.is_compiling():
        return False
    try:
        now = tuple((id(buffer), buffer._version) for buffer in buffers)
    except RuntimeError:  # made in inference mode: it does not count
        return True
    before = made.__dict__.get("_read")
    made.__dict__["_read"] = now
    return before != now


def _arguments(cls: type) -> list[str]:
    """Names of the arguments of a class's own constructor."""
    if "__init__" not in cls.__dict__:
        return []
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    _, *rest = inspect.signature(cls.__dict__["__init__"]).parameters.values()
    return [parameter.name for parameter in rest if parameter.kind not in kinds]


def _sealing(constructor: Callable[..., None]) -> Callable[..., None]:
    """The constructor, after which attributes are fixed; within another one it leaves that to the outer one."""

    @functools.wraps(constructor)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        inner = self.__dict__.get("_made") is False
        object.__setattr__(self, "_made", False)
        constructor(self, *args, **kwargs)
        if not inner:
            object.__setattr__(self, "_made", True)

    return construct
