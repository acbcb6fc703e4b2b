"""Batch norm and the scan behind it in native code: neither normalised values nor currents are ever in memory.

``bitspike::norm_scan`` and ``bitspike::norm_scan_backward`` work on float32 on the CPU, for neurons of class M (see
`ScanSpec`). The current is rounded as ``scale·y + shift`` (+ shortcut) with ``scale = weight/deviation`` and ``shift =
bias - mean·scale``, all float32; statistics are added up in float64.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bitspike import native
from bitspike.checks import bad_value
from bitspike.ops.dispatch import choose, register
from bitspike.ops.norm_scan import NormParts
from bitspike.ops.scan_native import (
    LIBRARY,
    ScanCall,
    address,
    channels_last,
    empty_rows,
    in_rows,
    new_bits,
    same_rows,
    split_bits,
)
from bitspike.ops.scan_native import refuses as scan_refuses
from bitspike.ops.spec import ScanFacts, ScanSpec

_ARGS = struct.Struct("<6Qd")  # NormArgs of csrc/kernels.h behind its ScanArgs
LIBRARY.define(
    "norm_scan(Tensor y, Tensor weight, Tensor bias, Tensor? shortcut, float eps, int[] codes, float[] numbers,"
    " bool train) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "norm_scan_backward(Tensor? grad_s, Tensor y, Tensor moments, Tensor bits, int[] codes, float[] numbers,"
    " bool shortcut) -> (Tensor, Tensor, Tensor)"
)


def refuses(facts: object) -> str | None:
    """Why native code cannot fuse the norm with the scan, or None."""
    reason = scan_refuses(facts)
    if reason or not isinstance(facts, ScanFacts) or not isinstance(facts.spec, ScanSpec):
        return reason or "it needs ScanFacts"
    if not facts.spec.bits_suffice:
        return "it has neurons with a detached reset, a window surrogate and fixed scalars"
    if facts.dtype != torch.float32:
        return f"it has float32 currents, here they are {facts.dtype}"
    scan = choose("scan", "cpu", facts).name
    return None if scan == "native" else f"the scan runs on the kernel {scan!r}"


def norm_scan_native(neuron: Any, y_seq: Tensor, norm: NormParts, shortcut: Tensor | None, spec: ScanSpec) -> Tensor:
    """Spikes; the arguments are those of every kernel of "norm_scan", see `bitspike.ops.norm_scan`."""
    y = in_rows(y_seq)
    given = [t for t in (y, norm.weight, norm.bias, shortcut) if t is not None]
    train = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    s, moments, _ = torch.ops.bitspike.norm_scan(
        y, norm.weight, norm.bias, shortcut, norm.eps, list(spec.codes), list(spec.numbers), train
    )
    with torch.no_grad():
        for running, found in ((norm.running_mean, moments[0]), (norm.running_var, moments[2])):
            running.mul_(1 - norm.momentum).add_(found, alpha=norm.momentum)
    return s  # type: ignore[no-any-return]


@cache
def _library() -> ctypes.CDLL:
    library = native.required()
    library.bitspike_norm_blocks.argtypes, library.bitspike_norm_blocks.restype = [ctypes.c_int64], ctypes.c_int64
    for name in ("bitspike_norm_forward", "bitspike_norm_backward"):
        getattr(library, name).argtypes, getattr(library, name).restype = [ctypes.c_char_p], None
    return library


def _fake_forward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    shortcut: Tensor | None,
    eps: float,
    codes: Sequence[int],
    numbers: Sequence[float],
    train: bool,
    real: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    s = empty_rows(y, y.shape, channels_last(y), y.dtype, real)
    moments = y.new_empty((5, weight.shape[0]))
    return s, moments, new_bits(y, None, None, codes, train, real)


def _forward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    shortcut: Tensor | None,
    eps: float,
    codes: Sequence[int],
    numbers: Sequence[float],
    train: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, [mean, 1/deviation, unbiased variance, scale, shift] of each channel, bits."""
    s, moments, bits = _fake_forward(y, weight, bias, shortcut, eps, codes, numbers, train, real=True)
    call, work = _call(y, codes, numbers, len(weight))
    added = same_rows(shortcut, y, y.dtype)
    given = added, weight.contiguous(), bias.contiguous(), moments, None, None
    scan = call.pack(y, *(None,) * 4, s, None, *split_bits(bits, codes), None, None, work)
    _library().bitspike_norm_forward(scan + _ARGS.pack(*map(address, given), eps))
    return s, moments, bits


def _fake_backward(
    grad_s: Tensor | None,
    y: Tensor,
    moments: Tensor,
    bits: Tensor,
    codes: Sequence[int],
    numbers: Sequence[float],
    shortcut: bool,
    real: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    last = channels_last(y)
    grad_y = empty_rows(y, y.shape, last, y.dtype, real)
    grad_shortcut = empty_rows(y, y.shape, last, y.dtype, real) if shortcut else y.new_empty(0)
    return grad_y, grad_shortcut, y.new_empty((4, moments.shape[1]))


def _backward(
    grad_s: Tensor | None,
    y: Tensor,
    moments: Tensor,
    bits: Tensor,
    codes: Sequence[int],
    numbers: Sequence[float],
    shortcut: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y and of the shortcut; [gradient of the weight, of the bias, two working rows]."""
    grads = _fake_backward(grad_s, y, moments, bits, codes, numbers, shortcut, real=True)
    grad_y, grad_shortcut, found = grads
    call, work = _call(y, codes, numbers, moments.shape[1])
    into = same_rows(torch.zeros_like(y) if grad_s is None else grad_s, y, y.dtype)
    pointers = (None, None, into, *(None,) * 3, *split_bits(bits, codes), grad_y, None, work)
    given = None, None, None, moments, grad_shortcut if shortcut else None, found
    _library().bitspike_norm_backward(call.pack(y, *pointers) + _ARGS.pack(*map(address, given), 0.0))
    return grads


def _call(y: Tensor, codes: Sequence[int], numbers: Sequence[float], channels: int) -> tuple[ScanCall, Tensor]:
    """The call and its working memory."""
    call = ScanCall(y, codes, numbers, None, None, channels)
    blocks = _library().bitspike_norm_blocks(call.size)
    return call, y.new_empty((blocks, 2 * channels), dtype=torch.float64)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, shortcut, _, codes, numbers, _ = inputs
    _, moments, bits = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(moments, bits)
    ctx.codes, ctx.numbers, ctx.shortcut = codes, numbers, shortcut is not None
    ctx.save_for_backward(y, moments, bits)


def _differentiate(ctx: Any, grad_s: Tensor | None, *_: Any) -> tuple[Any, ...]:
    y, moments, bits = ctx.saved_tensors
    wanted = ctx.shortcut and ctx.needs_input_grad[3]
    grad_y, grad_shortcut, found = torch.ops.bitspike.norm_scan_backward(
        grad_s, y, moments, bits, ctx.codes, ctx.numbers, wanted
    )
    return grad_y, found[0], found[1], grad_shortcut if wanted else None, None, None, None, None


def _refuse_twice(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    must = "the native norm and scan are differentiated once"
    todo = 'run inside bitspike.ops.using("reference", "norm_scan")'
    raise bad_value("norm_scan", must, "a gradient of its gradient", todo)


for _name, _function, _fake in (
    ("norm_scan", _forward, _fake_forward),
    ("norm_scan_backward", _backward, _fake_backward),
):
    LIBRARY.impl(_name, _function, "CPU")
    torch.library.register_fake(f"bitspike::{_name}", _fake, lib=LIBRARY)
torch.library.register_autograd("bitspike::norm_scan", _differentiate, setup_context=_save, lib=LIBRARY)
torch.library.register_autograd("bitspike::norm_scan_backward", _refuse_twice, lib=LIBRARY)
register("norm_scan", "native", norm_scan_native, device="cpu", refuses=refuses)
