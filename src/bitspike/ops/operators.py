"""Kernels as operators of torch, ``bitspike::name``, differentiated once, and the native functions behind them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from bitspike import native
from bitspike.checks import bad_value

_LIBRARY = torch.library.Library("bitspike", "DEF")


class Operator(NamedTuple):
    """A function of tensors as torch sees it.

    Args:
        schema: "(arguments) -> (results)", in the language of `torch.library`.
        function: what runs. fake: the same arguments to uninitialised results, for tracing.
    """

    schema: str
    function: Callable[..., Any]
    fake: Callable[..., Any]


def define(
    name: str,
    forward: Operator,
    backward: Operator,
    save: Callable[..., None],
    differentiate: Callable[..., Any],
    what: str,
    where: str = "",
    keys: Sequence[str] = ("CPU",),
) -> None:
    """Register ``bitspike::name`` and ``bitspike::name_backward``; at import only.

    Args:
        name: of the forward operator. forward, backward: see `Operator`.
        save: ``setup_context``. differentiate: ``backward``, both of `torch.library.register_autograd`.
        what: is differentiated once, e.g. "the native scan is".
        where: what errors begin with; default the name.
        keys: dispatch keys that the functions serve.
    """
    for own, operator in ((name, forward), (f"{name}_backward", backward)):
        _LIBRARY.define(own + operator.schema)
        for key in keys:
            _LIBRARY.impl(own, operator.function, key)
        torch.library.register_fake(f"bitspike::{own}", operator.fake, lib=_LIBRARY)

    def refuse_twice(ctx: Any, *grads: Any) -> None:
        todo = 'run inside bitspike.ops.using("reference", "all")'
        raise bad_value(where or name, f"{what} differentiated once", "a gradient of its gradient", todo)

    torch.library.register_autograd(f"bitspike::{name}", differentiate, setup_context=save, lib=_LIBRARY)
    torch.library.register_autograd(f"bitspike::{name}_backward", refuse_twice, lib=_LIBRARY)


@cache
def library(*names: str) -> ctypes.CDLL:
    """The native library; functions of these names take packed arguments and return nothing."""
    found = native.required()
    found.bitspike_norm_blocks.argtypes, found.bitspike_norm_blocks.restype = [ctypes.c_int64], ctypes.c_int64
    found.bitspike_scan_blocks.argtypes = [ctypes.c_int64, ctypes.c_int64]
    found.bitspike_scan_blocks.restype = ctypes.c_int64
    for name in names:
        getattr(found, name).argtypes, getattr(found, name).restype = [ctypes.c_char_p], None
    return found
