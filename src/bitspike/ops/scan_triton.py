"""The scan as one fused Triton kernel forward and one backward, registered as torch operators.

``bitspike::scan_triton`` and ``bitspike::scan_triton_backward`` work on float32, float16 or bfloat16 currents with
float32 membranes, on CUDA; with ``TRITON_INTERPRET=1``, set before triton and bitspike are imported, also on the CPU,
by `using("triton")` alone. Class M saves bits, class U computes the membranes again from the currents, and beyond
`SEGMENT` steps from membranes saved in between; see `ScanSpec`. State is written out of place, nothing waits for the
device, and all sizes follow from shapes, so that a call can be captured in a CUDA graph.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.ops.dispatch import register
from bitspike.ops.operators import Operator, define
from bitspike.ops.rows import channels_last, empty_rows, in_rows, packed, same_rows
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
from bitspike.ops.spec import REAL, MembraneState, ScanFacts, ScanSpec, is_class_m, why_not_read

SEGMENT = 8
"""Steps that a kernel holds in registers at once."""
ROWS = 128
"""Bytes of saved bits that a program makes in a step; it takes eight times as many elements."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_INSTALLED = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_MOST = 2**31 - 2**16  # elements of a step: places within one are 32-bit


def refuses(facts: object) -> str | None:
    """Why the Triton scan cannot run, or None."""
    if not isinstance(facts, ScanFacts):
        return "it needs ScanFacts"
    if not isinstance(facts.spec, ScanSpec):
        return facts.spec if isinstance(facts.spec, str) else "it runs no adaptive neuron"
    if facts.dtype not in _DTYPES or facts.state_dtype != torch.float32:
        return f"it has float32 membranes, here they are {facts.state_dtype} (currents {facts.dtype})"
    return why_not_read(facts.spec) or (None if _INSTALLED else "triton is not installed")


def scan_triton(
    neuron: Any, x_seq: Tensor, state: Any, keep: bool, spec: ScanSpec
) -> tuple[Tensor, MembraneState | None]:
    """All steps at once; the arguments are those of every kernel of "scan", see `bitspike.ops.scan`."""
    return run_scan(torch.ops.bitspike.scan_triton, in_rows(x_seq), state, keep, spec)


@cache
def _kernels() -> ModuleType:
    from bitspike.ops import scan_triton_kernels  # optional: triton is loaded at the first call

    return scan_triton_kernels


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Kernels start on the current device; make it that of x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def segments(steps: int) -> tuple[int, int]:
    """Steps are worked on in this many segments of this length, the last one perhaps shorter.

    >>> segments(4), segments(9), segments(32)
    ((1, 4), (2, 5), (4, 8))
    """
    count = -(-steps // SEGMENT)
    return count, -(-steps // count)


def programs(size: int) -> int:
    """How many programs share the elements of a step.

    >>> programs(1024), programs(1025)
    (1, 2)
    """
    return -(-size // (8 * ROWS))


class _Call:
    """What all kernels are given: sizes, numbers and constants, by name."""

    def __init__(
        self,
        like: Tensor,
        decay: Tensor | None,
        amplitude: Tensor | None,
        codes: Sequence[int],
        numbers: Sequence[float],
    ) -> None:
        alphabet, count, soft, detach, bump, gate = codes
        first, spacing, charge, fixed, factor, p0, p1, p2 = numbers
        steps, size = len(like), like[0].numel()
        if size > _MOST:
            raise bad_value("scan", f"a step must have at most {_MOST} elements", size, "take a smaller batch")
        number, length = segments(steps)
        exact = abs(math.frexp(float(np.float32(spacing)))[0]) == 0.5
        self.grid = (programs(size),)
        self.sizes = {"size": size}
        self.rows = {"row_bytes": (size + 63) // 64 * 8}
        self.channels = {
            "inner": 1 if like.dim() < 4 or channels_last(like) else like[0, 0, 0].numel(),
            "channels": 1 if amplitude is None else amplitude.numel(),
        }
        self.neuron = {
            **{"count": float(count), "first": first, "spacing": spacing, "inverse": 1 / spacing, "charge": charge},
            **{"p0": p0, "p1": p1},
        }
        self.value = {"decay": fixed, "factor": factor}
        self.height = p2
        self.over_time = {"T": steps, "K": length, "SEGMENTS": number, "ROWS": ROWS}
        self.kind = {"A": alphabet, "SOFT": bool(soft)}
        self.shape = {
            **{"BUMP": bump, "EXACT": exact},
            "PER_CHANNEL": amplitude is not None and amplitude.dim() == 1,
        }
        self.detach = {"DETACH": not gate if alphabet == REAL else bool(detach)}
        self.launch = {"num_warps": 4, "enable_fp_fusion": False}


def _new_marks(x: Tensor, train: bool, decay: Tensor | None, amplitude: Tensor | None, codes: Sequence[int]) -> Tensor:
    """[segments - 1, ...] membranes where class U will need them, else nothing."""
    between = segments(len(x))[0] - 1
    again = train and not (is_class_m(codes) and decay is None and amplitude is None)
    if not between or not again:
        return x.new_empty(0, dtype=torch.float32)
    return empty_rows(x, (between, *x.shape[1:]), channels_last(x), torch.float32, False)


def _fake_forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, _, decay, amplitude, codes, _, keep, train = ScanGiven(*inputs)
    last = channels_last(x)
    after = empty_rows(x, x.shape[1:], last, torch.float32, False) if keep else x.new_empty(0, dtype=torch.float32)
    bits = new_bits(x, decay, amplitude, codes, train, real=False)
    marks = _new_marks(x, train, decay, amplitude, codes)
    return empty_rows(x, x.shape, last, x.dtype, False), after, bits, marks


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, v, decay, amplitude, codes, numbers, keep, _ = ScanGiven(*inputs)
    s, after, bits, marks = results = _fake_forward(*inputs)
    if x.numel():
        c = _Call(x, decay, amplitude, codes, numbers)
        given = x, same_rows(v, x[0], torch.float32), decay, packed(amplitude)
        wanted = s, after if keep else None, *split_bits(bits, codes), marks if marks.numel() else None
        with _on(x):
            _kernels().forward[c.grid](
                *given, *wanted, **c.sizes, **c.rows, **c.channels, **c.neuron, **c.value,
                **c.over_time, **c.kind, **c.shape, **c.launch,
            )  # fmt: skip
    return results


def _fake_backward(*inputs: Any) -> Gradients:
    return empty_gradients(BackGiven(*inputs), real=False)


def _backward(*inputs: Any) -> Gradients:
    i = BackGiven(*inputs)
    x, decay, amplitude, marks = i.x, i.decay, i.amplitude, i.marks
    grad_x, grad_start, grad_decay, grad_amplitude = grads = empty_gradients(i, real=False)
    if not grad_x.numel():
        for grad in grads:
            grad.zero_()
        return grads
    c, step = _Call(grad_x, decay, amplitude, i.codes, i.numbers), grad_x[0]
    given = same_rows(i.grad_s, grad_x, x.dtype), same_rows(i.grad_v, step, torch.float32)
    found = grad_x, grad_start if i.start else None
    if i.bits.dim() > 1:
        with _on(x):
            _kernels().backward_bits[c.grid](
                *given, *split_bits(i.bits, i.codes), *found, **c.sizes, **c.rows, **c.value, height=c.height,
                **c.over_time, **c.kind, **c.launch,
            )  # fmt: skip
        return grads
    of_decay = None if decay is None else x.new_empty(c.grid, dtype=torch.float32)
    of_amplitude = None
    if amplitude is not None:
        each = amplitude.dim() == 1
        of_amplitude = empty_rows(x, i.shape[1:] if each else c.grid, i.last and each, torch.float32, False)
    kept = None
    if marks is not None and marks.numel():
        kept = (marks.movedim(-3, -1) if i.last else marks).contiguous()
    again = same_rows(x, grad_x, x.dtype), same_rows(i.v, step, torch.float32), decay, packed(amplitude), kept
    with _on(x):
        _kernels().backward_again[c.grid](
            *given, *again, *found, of_decay, of_amplitude, **c.sizes, **c.channels, **c.neuron, **c.value,
            p2=c.height, **c.over_time, **c.kind, **c.detach, **c.shape, **c.launch,
        )  # fmt: skip
    if of_decay is not None:
        grad_decay.copy_(of_decay.sum(dtype=torch.float64))
    if of_amplitude is not None and amplitude is not None:
        axes = [axis for axis in range(of_amplitude.dim()) if axis != 1 or amplitude.dim() == 0]
        grad_amplitude.copy_(of_amplitude.sum(axes, dtype=torch.float64) * i.numbers[4])
    return grads


def _differentiate(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None, *_: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: in lean mode every look computes again
    return differentiated(torch.ops.bitspike.scan_triton_backward, ctx.rest, saved, grad_s, grad_v)


define(
    "scan_triton",
    Operator(f"({SCAN}) -> (Tensor, Tensor, Tensor, Tensor)", _forward, _fake_forward),
    Operator(f"({BACK}, Tensor marks) -> (Tensor, Tensor, Tensor, Tensor)", _backward, _fake_backward),
    remember,
    _differentiate,
    "the Triton scan is",
    where="scan",
    keys=("CUDA", *(("CPU",) if _INTERPRETED else ())),
)
register(
    "scan",
    "triton",
    scan_triton,
    device="cuda",
    refuses=refuses,
    half=True,
    on_request="cpu" if _INTERPRETED else "",
)
