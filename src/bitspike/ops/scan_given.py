"""What the native and the Triton scan have in common: arguments, what is kept for the backward pass, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.ops.rows import channels_last, empty_rows, given_where
from bitspike.ops.spec import REAL, MembraneState, ScanSpec, is_class_m

SCAN = "Tensor x, Tensor? v, Tensor? decay, Tensor? amplitude, int[] codes, float[] numbers, bool keep, bool train"
"""`ScanGiven` in an operator's schema."""
BACK = (
    "Tensor? grad_s, Tensor? grad_v, Tensor x, Tensor? v, Tensor? decay, Tensor? amplitude, Tensor bits, int[] codes,"
    " float[] numbers, SymInt[] shape, bool last, bool start"
)
"""`BackGiven` in an operator's schema, up to ``start``."""
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


class ScanGiven(NamedTuple):
    """Arguments of a scan.

    Args:
        x: currents, dense rows. v: first membrane. decay, amplitude, codes, numbers: see `ScanSpec`.
        keep: whether the last membrane is wanted. train: whether there will be a backward pass.
    """

    x: Tensor
    v: Tensor | None
    decay: Tensor | None
    amplitude: Tensor | None
    codes: Sequence[int]
    numbers: Sequence[float]
    keep: bool
    train: bool


class BackGiven(NamedTuple):
    """Arguments of the backward pass of a scan.

    Args:
        grad_s, grad_v: of the spikes and the last membrane. bits: what class M kept.
        x, v, decay, amplitude, codes, numbers: of the scan, x empty and v None where bits suffice.
        shape: of the currents. last: whether they were channels-last. start: whether the first membrane was given.
        marks: membranes that were kept in between (Triton).
    """

    grad_s: Tensor | None
    grad_v: Tensor | None
    x: Tensor
    v: Tensor | None
    decay: Tensor | None
    amplitude: Tensor | None
    bits: Tensor
    codes: Sequence[int]
    numbers: Sequence[float]
    shape: Sequence[int]
    last: bool
    start: bool
    marks: Tensor | None = None


def run_scan(
    call: Callable[..., Any], x: Tensor, state: Any, keep: bool, spec: ScanSpec
) -> tuple[Tensor, MembraneState | None]:
    """Spikes and last membrane by an operator that takes a `ScanGiven`; x as `in_rows` made it."""
    v = None if state is None else state[0]
    check_channels(x, spec.amplitude)
    given = x, v, spec.decay, spec.amplitude
    s, after, *_ = call(*given, list(spec.codes), list(spec.numbers), keep, any_grad(given))
    return s, MembraneState(after) if keep else None


def any_grad(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a backward pass through one of the tensors is to be prepared."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def check_channels(x: Tensor, amplitude: Tensor | None) -> None:
    """Raise `ValueError` where x [T, B, C, ...] has not a channel per amplitude."""
    if amplitude is None or amplitude.dim() != 1:
        return
    if x.dim() < 3 or x.shape[2] != amplitude.numel():
        must = f"a per-channel amplitude of {amplitude.numel()} channels needs [B, {amplitude.numel()}, ...]"
        raise bad_value("Emission", must, list(x.shape[1:]), "call replicate(channels) for the right width")


def _kinds(codes: Sequence[int]) -> tuple[bool, bool]:
    """Which bits class M keeps: inside a window, fired."""
    real, soft = codes[0] == REAL, bool(codes[2])
    return not real, real or not soft


def new_bits(
    x: Tensor, decay: Tensor | None, amplitude: Tensor | None, codes: Sequence[int], train: bool, real: bool
) -> Tensor:
    """[kinds, T, row bytes] where class M will need them, else nothing."""
    if not train or decay is not None or amplitude is not None or not is_class_m(codes):
        return x.new_empty(0, dtype=torch.uint8)
    return empty_rows(
        x, (sum(_kinds(codes)), x.shape[0], (math.prod(x.shape[1:]) + 63) // 64 * 8), False, torch.uint8, real
    )


def split_bits(bits: Tensor, codes: Sequence[int]) -> tuple[Tensor | None, Tensor | None]:
    """The bits of both kinds, [T, row bytes] each, None where a kind is not kept.

    Hooks on saved tensors may have given them, and anything else, back in another memory order.
    """
    if bits.dim() == 1:
        return None, None
    bits, (window, fired) = bits.contiguous(), _kinds(codes)
    return bits[0] if window else None, bits[-1] if fired else None


def empty_gradients(given: BackGiven, real: bool) -> Gradients:
    """Uninitialised gradients of currents, first membrane, decay and amplitude; empty where none is due."""
    x, last = given.x, given.last
    nothing = partial(x.new_empty, 0, dtype=torch.float32)
    return (
        empty_rows(x, given.shape, last, x.dtype, real),
        empty_rows(x, given.shape[1:], last, torch.float32, real) if given.start else nothing(),
        nothing() if given.decay is None else torch.empty_like(given.decay),
        nothing() if given.amplitude is None else torch.empty_like(given.amplitude),
    )


def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save what the backward pass of a scan takes: bits alone where there are any, else currents and first membrane."""
    x, v, decay, amplitude, codes, numbers, _, _ = inputs
    bits, *more = output[2:]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(bits, *more)
    ctx.rest = codes, numbers, x.shape, channels_last(x), v is not None
    if bits.dim() > 1:
        x, v = x.new_empty(0), None
    ctx.save_for_backward(x, v, decay, amplitude, bits, *more)


def differentiated(
    function: Callable[..., Gradients],
    rest: tuple[Any, ...],
    saved: Sequence[Tensor | None],
    grad_s: Tensor | None,
    grad_v: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients for the eight arguments of a scan, None where an argument was None or is no tensor.

    Args:
        function: takes a `BackGiven`. rest, saved: what `remember` put into the context.
    """
    _, _, decay, amplitude, _, *more = saved
    grads = function(grad_s, grad_v, *saved[:5], *rest, *more)
    return *given_where((True, rest[-1], decay is not None, amplitude is not None), grads), *(None,) * 4
