"""The scan as one fused pass forward and one backward in native code, registered as torch operators.

``bitspike::scan`` and ``bitspike::scan_backward`` work on float32 (or bfloat16 currents with float32 membranes) on the
CPU. Class M saves bits, class U computes the membranes again from the currents; see `ScanSpec`.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from bitspike import native
from bitspike.checks import bad_value
from bitspike.ops import buffers
from bitspike.ops.dispatch import register
from bitspike.ops.spec import REAL, MembraneState, ScanFacts, ScanSpec, is_class_m, why_not_read

_ARGS = struct.Struct("<12Q14q8d")  # ScanArgs of csrc/scan/kernels.h
_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}
LIBRARY = torch.library.Library("bitspike", "DEF")
LIBRARY.define(
    "scan(Tensor x, Tensor? v, Tensor? decay, Tensor? amplitude, int[] codes, float[] numbers, bool keep, bool train)"
    " -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "scan_backward(Tensor? grad_s, Tensor? grad_v, Tensor x, Tensor? v, Tensor? decay, Tensor? amplitude, Tensor bits,"
    " int[] codes, float[] numbers, SymInt[] shape, bool last, bool start) -> (Tensor, Tensor, Tensor, Tensor)"
)


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
    x, v = in_rows(x_seq), None if state is None else state[0]
    if spec.amplitude is not None and spec.amplitude.dim() == 1:
        check_channels(x, spec.amplitude)
    train = torch.is_grad_enabled() and (x.requires_grad or (v is not None and v.requires_grad))
    call: Callable[..., Any] = _Eager.apply if is_eager(x) else torch.ops.bitspike.scan
    s, after, _ = call(x, v, spec.decay, spec.amplitude, list(spec.codes), list(spec.numbers), keep, train)
    return s, MembraneState(after) if keep else None


def is_eager(x: Tensor) -> bool:
    """Whether a call may go around torch's dispatcher, which costs 0.1 ms: nothing traces or transforms it."""
    return (
        type(x) in (Tensor, Parameter)
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def in_rows(x: Tensor) -> Tensor:
    """x [T, B, ...] whose steps are dense rows: contiguous, or channels-last over [T·B, C, H, W]; else a copy."""
    return x if x.is_contiguous() or channels_last(x) else x.contiguous()


def channels_last(x: Tensor) -> bool:
    """Whether x [T, B, C, H, W] is channels-last with time and batch outermost."""
    if x.dim() != 5 or x.is_contiguous():
        return False
    _, batch, channels, height, width = x.shape
    step = channels * height * width
    return x.stride() == (batch * step, step, 1, width * channels, channels)


def empty_rows(like: Tensor, shape: Sequence[int], last: bool, dtype: torch.dtype, real: bool) -> Tensor:
    """Uninitialised rows of a shape [T, B, ...] (or one step of it), channels-last or contiguous."""
    if last:
        *outer, channels, height, width = shape
        rows = empty_rows(like, (*outer, height, width, channels), False, dtype, real).movedim(-1, -3)
        return rows.detach()  # a result that is a view could not be changed in place
    return buffers.empty(shape, dtype) if real else like.new_empty(shape, dtype=dtype)


def same_rows(x: Tensor | None, like: Tensor, dtype: torch.dtype) -> Tensor | None:
    """x in the memory order and dtype wanted, copied only where it differs."""
    if x is None or (x.stride() == like.stride() and x.dtype == dtype):
        return x
    return torch.empty_like(like, dtype=dtype).copy_(x)


def packed(numbers: Tensor | None) -> Tensor | None:
    """Learned numbers one after the other in memory."""
    return None if numbers is None else numbers.contiguous()


def check_channels(x: Tensor, amplitude: Tensor) -> None:
    """Raise `ValueError` where x [T, B, C, ...] has not a channel per amplitude."""
    if x.dim() < 3 or x.shape[2] != amplitude.numel():
        must = f"a per-channel amplitude of {amplitude.numel()} channels needs [B, {amplitude.numel()}, ...]"
        raise bad_value("Emission", must, list(x.shape[1:]), "call replicate(channels) for the right width")


def address(tensor: Tensor | None) -> int:
    """Where the memory of a tensor begins; 0 where there is none."""
    return 0 if tensor is None else tensor.data_ptr()


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
        self.amplitudes = 0 if amplitude is None else amplitude.numel()
        inner = 1 if like.dim() < 4 or channels_last(like) else math.prod(like.shape[3:])
        self.size = math.prod(like.shape[1:])
        self.integers = (
            *(len(like) if steps is None else steps, self.size, inner, max(self.amplitudes, channels), self.amplitudes),
            *(torch.get_num_threads(), _ELEMENTS[like.dtype]),
            *(*codes, int(decay is not None)),
        )
        first, spacing, charge, fixed, *rest = numbers
        self.numbers = (first, spacing, charge, fixed if decay is None else float(decay), *rest)

    def __call__(self, name: str, *pointers: Tensor | None) -> None:
        getattr(_library(), name)(self.pack(*pointers))

    def pack(self, *pointers: Tensor | None) -> bytes:
        """ScanArgs."""
        return _ARGS.pack(*map(address, pointers), *self.integers, *self.numbers)


@cache
def _library() -> ctypes.CDLL:
    library = native.required()
    library.bitspike_scan_blocks.argtypes = [ctypes.c_int64, ctypes.c_int64]
    library.bitspike_scan_blocks.restype = ctypes.c_int64
    for name in ("bitspike_scan_forward", "bitspike_scan_backward_bits", "bitspike_scan_backward_again"):
        getattr(library, name).argtypes, getattr(library, name).restype = [ctypes.c_char_p], None
    return library


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


def empty_gradients(
    x: Tensor,
    decay: Tensor | None,
    amplitude: Tensor | None,
    shape: Sequence[int],
    last: bool,
    start: bool,
    real: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Uninitialised gradients of currents, first membrane, decay and amplitude; empty where none is due."""
    nothing = partial(x.new_empty, 0, dtype=torch.float32)
    return (
        empty_rows(x, shape, last, x.dtype, real),
        empty_rows(x, shape[1:], last, torch.float32, real) if start else nothing(),
        nothing() if decay is None else torch.empty_like(decay),
        nothing() if amplitude is None else torch.empty_like(amplitude),
    )


def remember(ctx: Any, inputs: tuple[Any, ...], bits: Tensor, *more: Tensor) -> None:
    """Save what the backward pass of a scan takes: bits alone where there are any, else currents and first membrane."""
    x, v, decay, amplitude, codes, numbers, _, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(bits, *more)
    ctx.codes, ctx.numbers, ctx.shape, ctx.last, ctx.start = codes, numbers, x.shape, channels_last(x), v is not None
    if bits.dim() > 1:
        x, v = x.new_empty(0), None
    ctx.save_for_backward(x, v, decay, amplitude, bits, *more)


def of_inputs(grads: Sequence[Tensor], start: bool, saved: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients for the eight arguments of a scan, None where an argument was None or is no tensor."""
    present = (True, start, saved[2] is not None, saved[3] is not None)
    return *(grad if there else None for grad, there in zip(grads, present, strict=True)), None, None, None, None


def split_bits(bits: Tensor, codes: Sequence[int]) -> tuple[Tensor | None, Tensor | None]:
    """The bits of both kinds, [T, row bytes] each, None where a kind is not kept.

    Hooks on saved tensors may have given them, and anything else, back in another memory order.
    """
    if bits.dim() == 1:
        return None, None
    bits, (window, fired) = bits.contiguous(), _kinds(codes)
    return bits[0] if window else None, bits[-1] if fired else None


def _fake_forward(
    x: Tensor,
    v: Tensor | None,
    decay: Tensor | None,
    amplitude: Tensor | None,
    codes: Sequence[int],
    numbers: Sequence[float],
    keep: bool,
    train: bool,
    real: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    after = torch.empty_like(x[0], dtype=torch.float32) if keep else x.new_empty(0, dtype=torch.float32)
    s = empty_rows(x, x.shape, channels_last(x), x.dtype, real)
    return s, after, new_bits(x, decay, amplitude, codes, train, real)


def _forward(
    x: Tensor,
    v: Tensor | None,
    decay: Tensor | None,
    amplitude: Tensor | None,
    codes: Sequence[int],
    numbers: Sequence[float],
    keep: bool,
    train: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    s, after, bits = _fake_forward(x, v, decay, amplitude, codes, numbers, keep, train, real=True)
    if x.numel():
        call = ScanCall(x, codes, numbers, decay, amplitude)
        pointers = (x, same_rows(v, x[0], torch.float32), packed(amplitude), None, None, s, after if keep else None)
        call("bitspike_scan_forward", *pointers, *split_bits(bits, codes), None, None, None)
    return s, after, bits


def _fake_backward(
    grad_s: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    v: Tensor | None,
    decay: Tensor | None,
    amplitude: Tensor | None,
    bits: Tensor,
    codes: Sequence[int],
    numbers: Sequence[float],
    shape: Sequence[int],
    last: bool,
    start: bool,
    real: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return empty_gradients(x, decay, amplitude, shape, last, start, real)


def _backward(
    grad_s: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    v: Tensor | None,
    decay: Tensor | None,
    amplitude: Tensor | None,
    bits: Tensor,
    codes: Sequence[int],
    numbers: Sequence[float],
    shape: Sequence[int],
    last: bool,
    start: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grads = _fake_backward(grad_s, grad_v, x, v, decay, amplitude, bits, codes, numbers, shape, last, start, real=True)
    grad_x, grad_start, grad_decay, grad_amplitude = grads
    if not grad_x.numel():
        for grad in grads:
            grad.zero_()
        return grads
    call = ScanCall(grad_x, codes, numbers, decay, amplitude)
    step = grad_x[0]
    into = same_rows(torch.zeros_like(grad_x) if grad_s is None else grad_s, grad_x, x.dtype)
    given = into, same_rows(grad_v, step, torch.float32)
    found = grad_x, grad_start if start else None
    if bits.dim() > 1:
        call("bitspike_scan_backward_bits", *(None,) * 3, *given, *(None,) * 2, *split_bits(bits, codes), *found, None)
        return grads
    blocks = _library().bitspike_scan_blocks(call.size, len(grad_x))
    sums = x.new_zeros((blocks, 1 + call.amplitudes), dtype=torch.float64)
    begin = same_rows(x, grad_x, x.dtype), same_rows(v, step, torch.float32), packed(amplitude)
    call("bitspike_scan_backward_again", *begin, *given, *(None,) * 4, *found, sums)
    total = sums.sum(0)
    if decay is not None:
        grad_decay.copy_(total[0])
    if amplitude is not None:
        grad_amplitude.copy_((total[1:] * numbers[4]).reshape(amplitude.shape))
    return grads


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    remember(ctx, inputs, output[2])


def _differentiate(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: in lean mode every look computes again
    # with create_graph the operator, which refuses to be differentiated again
    direct = not torch.is_grad_enabled() and is_eager(saved[0])
    function: Callable[..., Any] = _backward if direct else torch.ops.bitspike.scan_backward
    grads = function(grad_s, grad_v, *saved, ctx.codes, ctx.numbers, ctx.shape, ctx.last, ctx.start)
    return of_inputs(grads, ctx.start, saved)


class _Eager(torch.autograd.Function):
    """``bitspike::scan`` without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = _forward(*inputs)
        _save(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return _differentiate(ctx, *grads)


def _refuse_twice(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    must = "the native scan is differentiated once"
    raise bad_value("scan", must, "a gradient of its gradient", 'run inside bitspike.ops.using("reference")')


for _name, _function, _fake in (("scan", _forward, _fake_forward), ("scan_backward", _backward, _fake_backward)):
    LIBRARY.impl(_name, _function, "CPU")
    torch.library.register_fake(f"bitspike::{_name}", _fake, lib=LIBRARY)
torch.library.register_autograd("bitspike::scan", _differentiate, setup_context=_save, lib=LIBRARY)
torch.library.register_autograd("bitspike::scan_backward", _refuse_twice, lib=LIBRARY)
register("scan", "native", scan_native, device="cpu", refuses=refuses, half=True)
