"""The scan as one fused pass forward and one backward in native code, registered as torch operators.

``bitspike::scan`` and ``bitspike::scan_backward`` work on float32 (or bfloat16 currents with float32 membranes) on the
CPU. Class M saves bits, class U computes the membranes again from the currents; see `ScanSpec`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from bitspike import native
from bitspike.ops.dispatch import register
from bitspike.ops.operators import Operator, define, library
from bitspike.ops.rows import address, channels_last, empty_rows, in_rows, packed, same_rows
from bitspike.ops.scan_given import (
    BACK,
    SCAN,
    BackGiven,
    Gradients,
    ScanGiven,
    differentiated,
    empty_gradients,
    new_bits,
    remember,
    run_scan,
    split_bits,
)
from bitspike.ops.spec import MembraneState, ScanFacts, ScanSpec, why_not_read

_ARGS = struct.Struct("<12Q14q8d")  # ScanArgs of csrc/scan/kernels.h
_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}
_CALLS = "bitspike_scan_forward", "bitspike_scan_backward_bits", "bitspike_scan_backward_again"


def refuses(facts: object) -> str | None:
    """Why the native scan cannot run, or None."""
    if isinstance(facts, ScanFacts) and not isinstance(facts.spec, (ScanSpec, str)):
        return "the adaptive neuron has a kernel of its own"
    return why_not_native(facts)


def why_not_native(facts: object) -> str | None:
    """Why no native scan can run, whatever the neuron, or None."""
    if not isinstance(facts, ScanFacts):
        return "it needs ScanFacts"
    if isinstance(facts.spec, str):
        return facts.spec
    if facts.dtype not in _ELEMENTS or facts.state_dtype != torch.float32:
        return f"it has float32 membranes, here they are {facts.state_dtype} (currents {facts.dtype})"
    reason = why_not_read(facts.spec, "cpu")
    if reason:
        return reason
    native.warn_if_missing()
    return native.why_missing()


def scan_native(
    neuron: Any, x_seq: Tensor, state: Any, keep: bool, spec: ScanSpec
) -> tuple[Tensor, MembraneState | None]:
    """All steps at once; the arguments are those of every kernel of "scan", see `bitspike.ops.scan`."""
    x = in_rows(x_seq)
    return run_scan(_Eager.apply if is_eager(x) else torch.ops.bitspike.scan, x, state, keep, spec)


def is_eager(x: Tensor) -> bool:
    """Whether a call may go around torch's dispatcher, which costs 0.1 ms: nothing traces or transforms it."""
    return (
        type(x) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


class ScanCall:
    """One call of the library: sizes of the rows, then pointers and numbers in the order of ScanArgs."""

    def __init__(
        self,
        like: Tensor,
        codes: Sequence[int],
        numbers: Sequence[float],
        decay: Tensor | None,
        amplitude: Tensor | None,
        channels: int = 1,
        steps: int | None = None,
    ) -> None:
        self.amplitudes: int = 0 if amplitude is None else amplitude.numel()
        inner = 1 if like.dim() < 4 or channels_last(like) else math.prod(like.shape[3:])
        self.size: int = math.prod(like.shape[1:])
        self.integers: tuple[int, ...] = (
            *(len(like) if steps is None else steps, self.size, inner, max(self.amplitudes, channels), self.amplitudes),
            *(torch.get_num_threads(), _ELEMENTS[like.dtype]),
            *(*codes, int(decay is not None)),
        )
        first, spacing, charge, fixed, *rest = numbers
        self.numbers: tuple[float, ...] = (first, spacing, charge, fixed if decay is None else float(decay), *rest)

    def __call__(self, name: str, *pointers: Tensor | None) -> None:
        getattr(library(*_CALLS), name)(self.pack(*pointers))

    def pack(self, *pointers: Tensor | None) -> bytes:
        """ScanArgs."""
        return _ARGS.pack(*map(address, pointers), *self.integers, *self.numbers)


def _fake_forward(*inputs: Any, real: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    x, _, decay, amplitude, codes, _, keep, train = ScanGiven(*inputs)
    after = torch.empty_like(x[0], dtype=torch.float32) if keep else x.new_empty(0, dtype=torch.float32)
    s = empty_rows(x, x.shape, channels_last(x), x.dtype, real)
    return s, after, new_bits(x, decay, amplitude, codes, train, real)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, v, decay, amplitude, codes, numbers, keep, _ = ScanGiven(*inputs)
    s, after, bits = _fake_forward(*inputs, real=True)
    if x.numel():
        call = ScanCall(x, codes, numbers, decay, amplitude)
        pointers = (x, same_rows(v, x[0], torch.float32), packed(amplitude), None, None, s, after if keep else None)
        call("bitspike_scan_forward", *pointers, *split_bits(bits, codes), None, None, None)
    return s, after, bits


def _fake_backward(*inputs: Any) -> Gradients:
    return empty_gradients(BackGiven(*inputs), real=False)


def _backward(*inputs: Any) -> Gradients:
    given = BackGiven(*inputs)
    x, v, decay, amplitude, bits = given.x, given.v, given.decay, given.amplitude, given.bits
    grad_x, grad_start, grad_decay, grad_amplitude = grads = empty_gradients(given, real=True)
    if not grad_x.numel():
        for grad in grads:
            grad.zero_()
        return grads
    call = ScanCall(grad_x, given.codes, given.numbers, decay, amplitude)
    step = grad_x[0]
    grad_s = torch.zeros_like(grad_x) if given.grad_s is None else given.grad_s
    into = same_rows(grad_s, grad_x, x.dtype), same_rows(given.grad_v, step, torch.float32)
    found = grad_x, grad_start if given.start else None
    if bits.dim() > 1:
        kept = split_bits(bits, given.codes)
        call("bitspike_scan_backward_bits", *(None,) * 3, *into, *(None,) * 2, *kept, *found, None)
        return grads
    blocks = library().bitspike_scan_blocks(call.size, len(grad_x))
    sums = x.new_zeros((blocks, 1 + call.amplitudes), dtype=torch.float64)
    begin = same_rows(x, grad_x, x.dtype), same_rows(v, step, torch.float32), packed(amplitude)
    call("bitspike_scan_backward_again", *begin, *into, *(None,) * 4, *found, sums)
    total = sums.sum(0)
    if decay is not None:
        grad_decay.copy_(total[0])
    if amplitude is not None:
        grad_amplitude.copy_((total[1:] * given.numbers[4]).reshape(amplitude.shape))
    return grads


def _differentiate(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: in lean mode every look computes again
    # with create_graph the operator, which refuses to be differentiated again
    direct = not torch.is_grad_enabled() and is_eager(saved[0])
    function: Callable[..., Any] = _backward if direct else torch.ops.bitspike.scan_backward
    return differentiated(function, ctx.rest, saved, grad_s, grad_v)


class _Eager(torch.autograd.Function):
    """``bitspike::scan`` without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = _forward(*inputs)
        remember(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return _differentiate(ctx, *grads)


define(
    "scan",
    Operator(f"({SCAN}) -> (Tensor, Tensor, Tensor)", _forward, _fake_forward),
    Operator(f"({BACK}) -> (Tensor, Tensor, Tensor, Tensor)", _backward, _fake_backward),
    remember,
    _differentiate,
    "the native scan is",
)
register("scan", "native", scan_native, device="cpu", refuses=refuses, half=True)
