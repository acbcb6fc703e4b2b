"""Which layer of a network first makes NaN or inf: looked for inside `with checked():`, at no cost outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.utils._pytree import tree_leaves

from bitspike.checks import message
from bitspike.layers import TimeLayer, not_numbers
from bitspike.neurons import Neuron

_COMPILED = "_orig_mod."


class NotFiniteError(ValueError):
    """A layer has made, or was given, NaN or inf.

    Attributes:
        path: name of the module in the network that was called ("" for that itself). kind: its class. part: "input",
            "output", "membrane" or the name of a parameter or buffer. made_by: "input" (of the module; no layer before
            it sent that, so the network was given it or a function between layers made it), "weights" or "layer".
        count: of NaN and inf. index: of the first one.
    """

    def __init__(self, text: str, path: str, kind: str, part: str, made_by: str, count: int, index: list[int]) -> None:
        super().__init__(text)
        self.path: str = path
        self.kind: str = kind
        self.part: str = part
        self.made_by: str = made_by
        self.count: int = count
        self.index: list[int] = index


class _Watch:
    """Hooks of one `checked` block; only calls of its own thread and context are looked at."""

    def __init__(self) -> None:
        self.stack: list[nn.Module] = []

    def before(self, module: nn.Module, args: Any) -> None:
        """What comes in, and what the module holds: firing and clips may hide both."""
        if _ACTIVE.get() is not self:
            return
        self.stack.append(module)
        self._given(module, args)
        for name, value in module.named_parameters(recurse=isinstance(module, (Neuron, TimeLayer))):
            if _wild(value):
                self._fail(module, name, "weights", value)

    def named(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """What came in by name: torch shows it only afterwards."""
        if _ACTIVE.get() is self:
            self._given(module, kwargs)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """What comes out."""
        if _ACTIVE.get() is not self:
            return
        for value in tree_leaves(output):
            if _wild(value):
                for name, held in not_numbers(module):
                    self._fail(module, name, "weights", held)
                self._fail(module, "output", "layer", value)
        if isinstance(module, Neuron) and args:
            with torch.no_grad():
                for value in tree_leaves(module.run(args[0])[1]):
                    if _wild(value):
                        self._fail(module, "membrane", "layer", value)
        while self.stack and self.stack.pop() is not module:
            pass  # calls that were left by an exception

    def _given(self, module: nn.Module, values: Any) -> None:
        for value in tree_leaves(values):
            if _wild(value):
                self._fail(module, "input", "input", value)

    def _fail(self, module: nn.Module, part: str, made_by: str, value: Tensor) -> None:
        kind = type(module).__name__
        names = (name for root in self.stack for name, found in root.named_modules() if found is module)
        path = next(names).replace(_COMPILED, "").removesuffix(_COMPILED.rstrip("."))
        self.stack.clear()
        bad = ~value.detach().isfinite()
        count, nan = int(bad.sum()), int(value.detach().isnan().sum())
        index = bad.nonzero()[0].tolist()
        place = f"{path} ({kind})" if path else kind
        got = f"{nan} NaN and {count - nan} inf of {value.numel()} values in {list(value.shape)}, the first at {index}"
        todo = {
            "input": "look at what happens before it" if path else "look at what it is given",
            "weights": "load or train them again, with a smaller learning rate or a clipped gradient",
            "layer": "its input and weights are finite: it overflows, divides by 0 or takes a root or log below 0",
        }[made_by]
        text = message(f"checked: {place}", f"its {part} must be finite", got, todo)
        raise NotFiniteError(text, path, kind, part, made_by, count, index)


_ACTIVE: ContextVar[_Watch | None] = ContextVar("bitspike_checked", default=None)


def _wild(value: object) -> bool:
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()) or value.is_meta:
        return False
    return not bool(value.detach().isfinite().all())


@contextmanager
def checked() -> Iterator[None]:
    """Inside the block a forward stops at the first layer that is given, holds or makes NaN or inf, and names it.

    Firing, clips and comparisons make ordinary numbers of NaN, so a network may answer as if nothing had happened.
    Every module that is called is looked at, the user's own too: its input, its parameters (those of a neuron or layer
    over time with all its parts), its output, and the membrane that a neuron ends with; fused operations run as the
    modules they are made of. Neurons run twice and each look waits for the device: a tool for finding faults, not for
    training.

    Networks compiled by `torch.compile` run uncompiled inside the block. Blocks may be nested; after the block, or an
    exception, nothing of it is left. Calls in other threads are not looked at. What a function between modules makes is
    seen by the next module that is given it. A module that sends inf on purpose, for a mask, is named like any other.

    Raises:
        NotFiniteError: a `ValueError` with path, kind, part, made_by, count and index.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> net = nn.Sequential(Linear(2, 3), LIF()); _ = net[0].weight.data[2, 1].fill_(float("nan"))
    >>> net(torch.ones(1, 1, 2))[0, 0, 2].item()
    0.0
    >>> try:
    ...     with checked():
    ...         net(torch.ones(1, 1, 2))
    ... except NotFiniteError as error:
    ...     print(error.path, error.kind, error.part, error.made_by, error.count, error.index)
    0 Linear weight weights 1 [2, 1]
    """
    if _ACTIVE.get() is not None:
        yield
        return
    watch = _Watch()
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        token = _ACTIVE.set(watch)
        stack.callback(_ACTIVE.reset, token)
        named = modules.register_module_forward_hook(watch.named, with_kwargs=True)
        stack.callback(modules._global_forward_hooks_with_kwargs.pop, named.id, None)  # torch would leave it there
        others = (
            modules.register_module_forward_pre_hook(watch.before),
            modules.register_module_forward_hook(watch.after),
        )
        for hook in (named, *others):
            stack.callback(hook.remove)
        yield
