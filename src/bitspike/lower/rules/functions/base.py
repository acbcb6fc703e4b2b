"""A call of a function or module of torch that is to be lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Refused, Wire


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        low: the workbench. name: for operations. what: the function or class, for people. run: the function of tensors
            [B, *shape] in place of the wires, or [T, B, *shape] where ``lead`` is 2. wires, sources: what it takes, and
            the nodes of the network that these are. module: called; None for a function. args, kwargs: of a function,
            with wires where there are tensors of the network. samples: how many
            ``run`` is to be called on, where it matters.
    """

    low: Lowering
    name: str
    what: str
    run: Callable[..., Any]
    wires: list[Wire]
    sources: list[str]
    module: nn.Module | None = None
    lead: int = 1
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[int, ...] = ()

    @property
    def x(self) -> Wire:
        """The only wire.

        Raises:
            Refused: there are several.
        """
        if len(self.wires) != 1:
            raise Refused(f"{self.what} of {len(self.wires)} signals has no integer operation")
        return self.wires[0]

    @property
    def source(self) -> str:
        """The node of the first wire."""
        return self.sources[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample of the only wire."""
        return self.low.shape(self.x)

    def option(self, name: str, place: int, default: Any) -> Any:
        """An argument behind the tensor, or the attribute of the module."""
        if self.module is not None:
            return getattr(self.module, name, default)
        return self.args[place + 1] if len(self.args) > place + 1 else self.kwargs.get(name, default)

    def axes(self, given: Any) -> list[int]:
        """Axes of a sample that an argument names.

        Raises:
            Refused: one of time or batch.
        """
        count = len(self.shape) + self.lead
        named = [given] if isinstance(given, int) else list(given)
        found = [axis % count - self.lead for axis in named]
        if any(axis < 0 for axis in found):
            raise Refused(f"{self.what} works over time or the batch")
        return found


def refused(what: str) -> Refused:
    """There is no rule."""
    return Refused(f"{what} of torch has no integer operation")


def numbers(value: Any) -> Any:
    """A constant as NumPy's."""
    return value.detach().double().cpu().numpy() if isinstance(value, Tensor) else value
