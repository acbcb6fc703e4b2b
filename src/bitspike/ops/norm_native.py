"""Batch norm and the scan behind it in native code: neither normalised values nor currents are ever in memory.

``bitspike::norm_scan`` and ``bitspike::norm_scan_backward`` work on float32, or bfloat16 beside float32 parameters and
membranes, on the CPU. The current is rounded as ``scale·y + shift`` (+ shortcut) with ``scale = weight/deviation`` and
``shift = bias - mean·scale``, all float32; statistics are added up in float64. Class M (see `ScanSpec`) keeps bits,
class U computes currents and membranes again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.functional import repeats
from bitspike.ops.dispatch import choose, register
from bitspike.ops.norm_scan import NormParts
from bitspike.ops.operators import Operator, define, library
from bitspike.ops.rows import address, channels_last, empty_rows, given_where, one_row, rows_or_one, same_rows
from bitspike.ops.scan_given import any_grad, check_channels, new_bits, split_bits
from bitspike.ops.scan_native import ScanCall
from bitspike.ops.scan_native import refuses as scan_refuses
from bitspike.ops.spec import ScanFacts, ScanSpec

_ARGS = struct.Struct("<6Qdq")  # NormArgs of csrc/scan/kernels.h behind its ScanArgs
_CALLS = "bitspike_norm_forward", "bitspike_norm_backward"
_NORM = (
    "Tensor y, Tensor weight, Tensor bias, Tensor? shortcut, Tensor? decay, Tensor? amplitude, float eps, int[] codes,"
    " float[] numbers, bool train"
)
_BACK = (
    "Tensor? grad_s, Tensor y, Tensor? shortcut, Tensor? decay, Tensor? amplitude, Tensor moments, Tensor bits,"
    " int[] codes, float[] numbers, bool wanted"
)


class _Given(NamedTuple):
    """Arguments of the operator, `_NORM` in its schema; see `NormParts`, `ScanSpec` and `ScanGiven`."""

    y: Tensor
    weight: Tensor
    bias: Tensor
    shortcut: Tensor | None
    decay: Tensor | None
    amplitude: Tensor | None
    eps: float
    codes: Sequence[int]
    numbers: Sequence[float]
    train: bool


class _BackGiven(NamedTuple):
    """Arguments of the backward operator, `_BACK` in its schema; ``wanted``: whether the shortcut needs a gradient."""

    grad_s: Tensor | None
    y: Tensor
    shortcut: Tensor | None
    decay: Tensor | None
    amplitude: Tensor | None
    moments: Tensor
    bits: Tensor
    codes: Sequence[int]
    numbers: Sequence[float]
    wanted: bool


def refuses(facts: object) -> str | None:
    """Why native code cannot fuse the norm with the scan, or None."""
    reason = scan_refuses(facts)
    if reason or not isinstance(facts, ScanFacts) or not isinstance(facts.spec, ScanSpec):
        return reason or "it needs ScanFacts"
    scan = choose("scan", "cpu", facts).name
    return None if scan == "native" else f"the scan runs on the kernel {scan!r}"


def norm_scan_native(neuron: Any, y_seq: Tensor, norm: NormParts, shortcut: Tensor | None, spec: ScanSpec) -> Tensor:
    """Spikes; the arguments are those of every kernel of "norm_scan", see `bitspike.ops.norm_scan`."""
    y = rows_or_one(y_seq)
    given = y, norm.weight, norm.bias, shortcut, spec.decay, spec.amplitude
    check_channels(y, spec.amplitude)
    rest = norm.eps, list(spec.codes), list(spec.numbers), any_grad(given)
    s, moments, _ = torch.ops.bitspike.norm_scan(*given, *rest)
    with torch.no_grad():
        for running, found in ((norm.running_mean, moments[0]), (norm.running_var, moments[2])):
            running.mul_(1 - norm.momentum).add_(found, alpha=norm.momentum)
    return s  # type: ignore[no-any-return]


def _fake_forward(*inputs: Any, real: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    y, weight, _, _, decay, amplitude, _, codes, _, train = _Given(*inputs)
    s = empty_rows(y, y.shape, channels_last(one_row(y)), y.dtype, real)
    moments = weight.new_empty((5, weight.shape[0]))
    return s, moments, new_bits(y, decay, amplitude, codes, train, real)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, [mean, 1/deviation, unbiased variance, scale, shift] of each channel, bits."""
    y, weight, bias, shortcut, decay, amplitude, eps, codes, numbers, _ = _Given(*inputs)
    s, moments, bits = _fake_forward(*inputs, real=True)
    amplitude = _every(amplitude, weight)
    call = ScanCall(s, codes, numbers, decay, amplitude, len(weight))
    work = y.new_empty((library().bitspike_norm_blocks(call.size), 2 * len(weight)), dtype=torch.float64)
    added = same_rows(shortcut, s, y.dtype)
    given = added, weight.contiguous(), bias.contiguous(), moments, None, None
    scan = call.pack(y, None, amplitude, None, None, s, None, *split_bits(bits, codes), None, None, work)
    library(*_CALLS).bitspike_norm_forward(scan + _ARGS.pack(*map(address, given), eps, _onward(y, call)))
    return s, moments, bits


def _onward(y: Tensor, call: ScanCall) -> int:
    """Elements from a row of y to the next."""
    return 0 if repeats(y) else call.size


def _every(amplitude: Tensor | None, weight: Tensor) -> Tensor | None:
    """One amplitude per channel."""
    return None if amplitude is None else amplitude.expand_as(weight).contiguous()


def _fake_backward(*inputs: Any, real: bool = False) -> tuple[Tensor, ...]:
    _, y, _, decay, amplitude, moments, _, _, _, wanted = _BackGiven(*inputs)
    last, nothing = channels_last(one_row(y)), moments.new_empty(0)
    return (
        empty_rows(y, y.shape, last, y.dtype, real),
        empty_rows(y, y.shape, last, y.dtype, real) if wanted else y.new_empty(0),
        moments.new_empty((4, moments.shape[1])),
        nothing if decay is None else torch.empty_like(decay),
        nothing if amplitude is None else torch.empty_like(amplitude),
    )


def _backward(*inputs: Any) -> tuple[Tensor, ...]:
    """Gradients of y, of the shortcut, [of the weight, of the bias, two working rows], of decay and amplitude."""
    grad_s, y, shortcut, decay, amplitude, moments, bits, codes, numbers, wanted = _BackGiven(*inputs)
    grads = _fake_backward(*inputs, real=True)
    grad_y, grad_shortcut, found, grad_decay, grad_amplitude = grads
    channels, each = moments.shape[1], _every(amplitude, moments[0])
    call = ScanCall(grad_y, codes, numbers, decay, each, channels)
    blocks, width = library().bitspike_norm_blocks(call.size), 2 * channels
    if bits.dim() == 1:
        blocks, width = library().bitspike_scan_blocks(call.size, len(y)), width + 1 + call.amplitudes
    work = y.new_empty((blocks, width), dtype=torch.float64)
    into = same_rows(torch.zeros_like(grad_y) if grad_s is None else grad_s, grad_y, y.dtype)
    added = same_rows(shortcut, grad_y, y.dtype)
    scan = call.pack(y, None, each, into, None, None, None, *split_bits(bits, codes), grad_y, None, work)
    rest = added, None, None, moments, grad_shortcut if wanted else None, found
    library(*_CALLS).bitspike_norm_backward(scan + _ARGS.pack(*map(address, rest), 0.0, _onward(y, call)))
    if decay is not None:
        grad_decay.copy_(work[0, 2 * channels])
    if amplitude is not None:
        total = work[0, 2 * channels + 1 :] * numbers[4]
        grad_amplitude.copy_(total if amplitude.dim() else total.sum())
    return grads


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, shortcut, decay, amplitude, _, codes, numbers, _ = inputs
    _, moments, bits = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(moments, bits)
    ctx.codes, ctx.numbers, ctx.last = codes, numbers, channels_last(one_row(y))
    ctx.save_for_backward(y, None if bits.dim() > 1 else shortcut, decay, amplitude, moments, bits)


def _differentiate(ctx: Any, grad_s: Tensor | None, *_: Any) -> tuple[Any, ...]:
    wanted, saved = ctx.needs_input_grad[3], ctx.saved_tensors  # once: in lean mode every look computes again
    y, shortcut, decay, amplitude, moments, bits = saved
    row = one_row(y)
    if channels_last(row) != ctx.last or (not ctx.last and not row.is_contiguous()):  # by a hook on saved tensors
        y = empty_rows(y, y.shape, ctx.last, y.dtype, False).copy_(y)
    given = y, shortcut, decay, amplitude, moments.contiguous(), bits.contiguous()
    found = torch.ops.bitspike.norm_scan_backward(grad_s, *given, ctx.codes, ctx.numbers, wanted)
    grad_y, grad_shortcut, grad_norm, *learned = found
    of_shortcut, *others = given_where((wanted, decay is not None, amplitude is not None), (grad_shortcut, *learned))
    return grad_y, grad_norm[0], grad_norm[1], of_shortcut, *others, *(None,) * 4


define(
    "norm_scan",
    Operator(f"({_NORM}) -> (Tensor, Tensor, Tensor)", _forward, _fake_forward),
    Operator(f"({_BACK}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)", _backward, _fake_backward),
    _save,
    _differentiate,
    "the native norm and scan are",
)
register("norm_scan", "native", norm_scan_native, device="cpu", refuses=refuses, half=True)
