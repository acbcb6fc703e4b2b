"""The adaptive neuron in native code: its scan, and its refined form with the current held and the spikes averaged.

``bitspike::adaptive`` and ``bitspike::adaptive_backward`` work on float32 (or bfloat16 currents with float32
membranes) on the CPU. As no gradient passes through time, the backward pass runs the neuron again from its currents,
which are all that is kept; a current that is held is kept once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.functional import repeats
from bitspike.functional.learned import lsq_gain, processes, scale_gradient
from bitspike.ops.dispatch import register
from bitspike.ops.operators import Operator, define, library
from bitspike.ops.rows import address, channels_last, empty_rows, given_where, rows_or_one, same_rows
from bitspike.ops.scan_native import ScanCall, why_not_native
from bitspike.ops.spec import GRADED, AdaptiveSpec, MembraneState, ScanFacts, TimedState

_ARGS = struct.Struct("<2Q8qd")  # AdaptiveArgs of csrc/scan/kernels.h behind its ScanArgs
_CALLS = "bitspike_adaptive_forward", "bitspike_adaptive_backward"
_GIVEN = (
    "Tensor x, Tensor? v, Tensor? time, Tensor? decay, Tensor sizes, Tensor tops, Tensor? divisor, float[] fixed,"
    " int[] codes"
)


class _Given(NamedTuple):
    """Arguments of the operator, `_GIVEN` in its schema.

    Args:
        x: currents. v: first membrane. time: steps before. decay, sizes, tops: see `AdaptiveSpec`; decay if learned.
        divisor: of the mean, if learned. fixed: decay and divisor, if not.
        codes: signed, levels, mean wanted, time steps.
    """

    x: Tensor
    v: Tensor | None
    time: Tensor | None
    decay: Tensor | None
    sizes: Tensor
    tops: Tensor
    divisor: Tensor | None
    fixed: Sequence[float]
    codes: Sequence[int]


def refuses(facts: object) -> str | None:
    """Why native code cannot run the neuron, or None."""
    if isinstance(facts, ScanFacts) and not isinstance(facts.spec, AdaptiveSpec):
        return facts.spec if isinstance(facts.spec, str) else "it runs the adaptive neuron alone"
    return why_not_native(facts)


def refuses_refined(facts: object) -> str | None:
    """Why native code cannot run the neuron held and averaged, or None."""
    reason = refuses(facts)
    if reason is None and isinstance(facts, ScanFacts) and facts.dtype != torch.float32:
        return f"it has float32 currents, here they are {facts.dtype}"
    return reason


def adaptive_native(
    neuron: Any, x_seq: Tensor, state: Any, keep: bool, spec: AdaptiveSpec
) -> tuple[Tensor, MembraneState | TimedState | None]:
    """All steps at once; the arguments are those of every kernel of "scan", see `bitspike.ops.scan`."""
    v, *rest = (None,) if state is None else state
    time = rest[0] if rest else None
    s, after = _run(x_seq, v, time, spec, None, len(x_seq))
    rows = len(spec.tops)
    if not keep:
        return s, None
    if rows == 1:
        return s, MembraneState(after)
    done = torch.zeros_like(after) if time is None else time
    return s, TimedState(after, (done + len(x_seq)).clamp(max=rows - 1))


def refined_native(refined: Any, x_seq: Tensor, spec: AdaptiveSpec) -> Tensor:
    """Mean spikes; the arguments are those of every kernel of "refined", see `bitspike.ops.refined`."""
    x, steps = refined.before.mean(x_seq).unsqueeze(0), refined.time_steps
    return _run(x, None, None, spec, refined.after.divisor(steps), steps)[0]


def _run(
    x_seq: Tensor, v: Tensor | None, time: Tensor | None, spec: AdaptiveSpec, divisor: Tensor | float | None, steps: int
) -> tuple[Tensor, Tensor]:
    """Spikes [steps, ...] or, with a divisor, their mean [1, ...]; membrane after the last step."""
    if spec.per_channel and (x_seq.dim() < 3 or x_seq.shape[2] != spec.sizes.shape[1]):
        must = f"a step size per channel for {spec.sizes.shape[1]} channels needs [B, {spec.sizes.shape[1]}, ...]"
        raise bad_value("Emission", must, list(x_seq.shape[1:]), "call replicate(channels) for the right width")
    sizes = spec.sizes
    if spec.scaled:
        gain = lsq_gain(x_seq[0].numel() * processes(), sizes.shape[1], spec.tops)
        sizes = scale_gradient(sizes, gain.unsqueeze(1))
    decay, by = (given if isinstance(given, Tensor) else None for given in (spec.decay, divisor))
    fixed = [float(given) if isinstance(given, (int, float)) else 1.0 for given in (spec.decay, divisor)]
    codes = [int(spec.signed), int(spec.levels), int(divisor is not None), steps]
    return torch.ops.bitspike.adaptive(  # type: ignore[no-any-return]
        rows_or_one(x_seq), v, time, decay, sizes, spec.tops, by, fixed, codes
    )


def _rows_like(grad: Tensor, x: Tensor) -> Tensor:
    """grad [T, ...] in the dtype of x and with steps laid out as its steps; copied only where it differs."""
    few = grad[:1] if repeats(grad) else grad
    if few.dtype != x.dtype or few[0].stride() != x[0].stride() or (len(few) > 1 and few.stride(0) != x[0].numel()):
        last = channels_last(x[0].unsqueeze(0))
        few = empty_rows(x, few.shape, last, x.dtype, False).copy_(few)
    return few.expand_as(grad)


class _Pointers(NamedTuple):
    """Tensors whose memory ScanArgs names."""

    x: Tensor | None = None
    v: Tensor | None = None
    grad_s: Tensor | None = None
    s: Tensor | None = None
    after: Tensor | None = None
    grad_x: Tensor | None = None
    grad_v: Tensor | None = None
    sums: Tensor | None = None

    def of(self, call: ScanCall) -> bytes:
        """ScanArgs."""
        first = self.x, self.v, None, self.grad_s, None, self.s, self.after
        return call.pack(*first, None, None, self.grad_x, self.grad_v, self.sums)


def _scan_call(row: Tensor, decay: float, learned: Tensor | None, channels: int, steps: int) -> ScanCall:
    shape = (GRADED, 1, 1, 1, 0, 0), (0.0, 1.0, 0.0, decay, 1.0, 0.0, 0.0, 0.0)
    return ScanCall(row, *shape, learned, None, channels, steps)


def pack_mean(steps: int, divisor: float, **tensors: Tensor | None) -> bytes:
    """AdaptiveArgs of a mean over time steps; the keywords are those of `_Pointers`, the caller keeps the tensors."""
    row = next(t for t in tensors.values() if t is not None)[:1]
    given = _Pointers(**tensors).of(_scan_call(row, 1.0, None, 1, steps))
    return given + _ARGS.pack(*(0,) * 10, divisor)


def _call(name: str, tensors: _Pointers, given: _Given) -> None:
    """One call of the library."""
    x, grad, codes = tensors.x, tensors.grad_s, given.codes
    assert x is not None
    steps = codes[3]
    call = _scan_call(x[0].unsqueeze(0), given.fixed[0], given.decay, given.sizes.shape[1], steps)
    sizes, tops = given.sizes.contiguous(), given.tops.contiguous()
    begin = 0 if given.time is None else int(given.time.flatten()[0])
    onward = call.size if len(x) == steps and not repeats(x) else 0
    grad_onward = 0 if grad is None or repeats(grad) else call.size
    numbers = len(tops), begin, *codes[:2], onward, grad_onward, codes[2], int(len(x) != steps)
    by = given.fixed[1] if given.divisor is None else float(given.divisor)
    getattr(library(*_CALLS), name)(tensors.of(call) + _ARGS.pack(address(sizes), address(tops), *numbers, by))


def _fake_forward(*inputs: Any, real: bool = False) -> tuple[Tensor, Tensor]:
    x, codes = inputs[0], _Given(*inputs).codes
    shape = 1 if codes[2] else codes[3], *x.shape[1:]
    s = empty_rows(x, shape, channels_last(x[0].unsqueeze(0)), x.dtype, real)
    return s, torch.empty_like(x[0], dtype=torch.float32)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    given = _Given(*inputs)
    x = given.x
    s, after = _fake_forward(*inputs, real=True)
    if x.numel():
        tensors = _Pointers(x, same_rows(given.v, x[0], torch.float32), s=s, after=after)
        _call("bitspike_adaptive_forward", tensors, given)
    return s, after


def _fake_backward(grad: Tensor | None, *inputs: Any, real: bool = False) -> tuple[Tensor, ...]:
    x, v, _, decay, sizes, tops, divisor, _, _ = _Given(*inputs)
    nothing, last = x.new_empty(0, dtype=torch.float32), channels_last(x[0].unsqueeze(0))
    return (
        empty_rows(x, x.shape, last, x.dtype, real),
        nothing if v is None else empty_rows(x, x.shape[1:], last, torch.float32, real),
        nothing if decay is None else torch.empty_like(decay),
        torch.empty_like(sizes),
        torch.empty_like(tops),
        nothing if divisor is None else torch.empty_like(divisor),
    )


def _backward(grad: Tensor | None, *inputs: Any) -> tuple[Tensor, ...]:
    """Gradients of x, v, decay, sizes, tops and divisor."""
    given = _Given(*inputs)
    x = rows_or_one(given.x)  # a hook on saved tensors may have given it back in another memory order
    grads = _fake_backward(grad, x, *given[1:], real=True)
    if grad is None or not x.numel():
        for one in grads:
            one.zero_()
        return grads
    grad_x, grad_v, grad_decay, grad_sizes, grad_tops, grad_divisor = grads
    blocks = library().bitspike_norm_blocks(x[0].numel())
    rows, channels = given.sizes.shape
    sums = x.new_zeros((blocks, 2 + rows * (1 + channels)), dtype=torch.float64)
    tensors = _Pointers(
        x,
        same_rows(given.v, x[0], torch.float32),
        grad_s=_rows_like(grad, x),
        grad_x=grad_x,
        grad_v=None if given.v is None else grad_v,
        sums=sums,
    )
    _call("bitspike_adaptive_backward", tensors, given)
    total = sums.sum(0)
    if given.decay is not None:
        grad_decay.copy_(total[0])
    if given.divisor is not None:
        grad_divisor.copy_(total[1])
    found = total[2:].reshape(rows, 1 + channels)
    grad_tops.copy_(found[:, 0])
    grad_sizes.copy_(found[:, 1:])
    return grads


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, fixed, codes = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.rest = fixed, codes
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    _, v, _, decay, _, _, divisor = saved
    found = torch.ops.bitspike.adaptive_backward(grad, *saved, *ctx.rest)
    present = (True, v is not None, decay is not None, True, True, divisor is not None)
    of_x, of_v, *others = given_where(present, found)
    return of_x, of_v, None, *others, None, None


define(
    "adaptive",
    Operator(f"({_GIVEN}) -> (Tensor, Tensor)", _forward, _fake_forward),
    Operator(
        f"(Tensor? grad, {_GIVEN}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)", _backward, _fake_backward
    ),
    _save,
    _differentiate,
    "the native scan is",
)
register("scan", "adaptive", adaptive_native, device="cpu", refuses=refuses, half=True)
register("refined", "native", refined_native, device="cpu", refuses=refuses_refined)
