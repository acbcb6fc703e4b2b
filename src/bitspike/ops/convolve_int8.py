"""Convolutions of integer spikes with integer weights in int8, exact in the forward pass, through oneDNN."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.ops.convolve import ConvolveFacts, Levels, Map, Place
from bitspike.ops.dispatch import register
from bitspike.ops.packing import PackedSpikes, packed_if_levels, stored_bits

_LEAST, _MOST = -127, 127  # of a weight
_PAIR = 2**15 - 1  # processors without VNNI add two products in 16 bits and saturate
_EXACT = 2**24  # integers up to it are float32 numbers


class _Convolve(torch.autograd.Function):
    """Forward in int8; the backward pass is that of the float convolution, of the same spikes and weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        packed: PackedSpikes,
        levels: Tensor,
        scale: Tensor,
        place: Place,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.place, ctx.outputs = place, None if bias is None else [len(bias)]
        y = _multiply(packed.codes.as_strided(x.shape, x.stride()), -packed.low, levels, scale, place)
        return y if bias is None else y.add_(bias.detach()[:, None, None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.place
        backward = torch.ops.aten.convolution_backward
        mask = list(ctx.needs_input_grad[:3])
        rest = stride, padding, dilation, False, [0, 0], groups, mask
        return (*backward(grads[0], x, weight, ctx.outputs, *rest), None, None, None, None)


def _multiply(codes: Tensor, zero: int, levels: Tensor, scale: Tensor, place: Place) -> Tensor:
    """``scale·Σ (codes − zero)·levels``: uint8 [N, I, H, W], int8 [O, I, kh, kw], float32 [O] → float32."""
    ops, (stride, padding, dilation, groups) = torch.ops.onednn, place
    where = list(stride), list(padding), list(dilation), groups
    packed = ops.qconv_prepack(levels, scale, 1.0, zero, *where, list(codes.shape))
    zeros = torch.zeros(len(scale), dtype=torch.int64, device="cpu")
    last: tuple[Any, ...] = 1.0, 0, torch.float32, "none", [], ""
    return ops.qconv2d_pointwise(codes, 1.0, zero, packed, scale, zeros, None, *where, *last)  # type: ignore[no-any-return]


def convolve_int8(layer: Any, facts: ConvolveFacts) -> Map:
    """``y = (factor·scale)·Σ k·w (+ bias)``: integers are multiplied and summed exactly, then scaled in float32.

    The float convolution rounds every product and sum, so outputs may differ in their last bits, except where factor
    and scales are powers of two. Gradients are those of the float convolution. Spikes or weights that hold NaN are
    multiplied in floating point.
    """
    levels, scale = layer.quantizer.to_int(layer.weight.detach())
    if not bool(levels.isfinite().all()):  # int8 has no NaN, and it has to go out
        return layer.connect  # type: ignore[no-any-return]
    assert isinstance(facts.spikes, Levels) and isinstance(facts.place, Place)
    scales = (scale * facts.spikes.factor).expand(len(levels), 1, 1, 1).reshape(-1).contiguous()
    return partial(_run, layer, levels.to(torch.int8), scales, facts.spikes, facts.place)


def _run(
    layer: Any, levels: Tensor, scales: Tensor, s: Levels, place: Place, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    assert s.factor is not None
    flat = x.flatten(0, 1)
    packed = packed_if_levels(flat, s.low, s.low + 255, s.factor)
    if packed is None:  # NaN came in and has to go out
        return layer.connect(x, weight, bias)  # type: ignore[no-any-return]
    y: Tensor = _Convolve.apply(flat, weight, bias, packed, levels, scales, place)  # type: ignore[no-untyped-call]
    out: Tensor = y.unflatten(0, x.shape[:2])
    return out


def refuses(given: object) -> str | None:
    """Why a convolution must stay in floating point, or None."""
    if not isinstance(given, ConvolveFacts):
        return "it needs ConvolveFacts"
    spikes, place, weight, x = given.spikes, given.place, given.weight, given.tensor
    if isinstance(place, str):
        return place
    if isinstance(spikes, str):
        return spikes
    if weight.real:
        return "the weights are real"
    if weight.scale == "input":
        return "the weights have a scale per input channel"
    if weight.low < _LEAST or weight.high > _MOST:
        return f"weights {weight.low}..{weight.high} do not fit {_LEAST}..{_MOST}"
    if spikes.factor is None:
        return "the spikes have several amplitudes"
    if not stored_bits(spikes.low, spikes.high):
        return f"spikes {spikes.low}..{spikes.high} take more than 8 bits"
    greatest = max(-weight.low, weight.high)
    if 2 * (spikes.high - spikes.low) * greatest > _PAIR:
        return f"two products of spikes {spikes.low}..{spikes.high} with weights up to {greatest} may exceed 16 bits"
    if max(-spikes.low, spikes.high) * greatest * given.fan_in > _EXACT:
        return f"sums of {given.fan_in} products may exceed what float32 holds exactly"
    if given.autocast or x.dtype != torch.float32:
        return f"spikes must be float32, not {'under autocast' if given.autocast else x.dtype}"
    if not x.flatten(0, 1).is_contiguous(memory_format=torch.channels_last):
        return "the memory order must be channels-last"
    return missing()


@cache
def missing() -> str | None:
    """Why this torch cannot, or None: a small convolution with known sums is run."""
    k = torch.arange(-9, 9).reshape(1, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    levels = torch.arange(18).reshape(1, 2, 3, 3) - 7
    place = Place((2, 2), (1, 1))
    try:
        y = _multiply((k + 9).to(torch.uint8), 9, levels.to(torch.int8), torch.tensor([0.5]), place)
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"this torch has no oneDNN convolution in int8 ({str(error).splitlines()[0]})"
    wanted = F.conv2d(k.double(), levels.double() * 0.5, stride=2, padding=1)
    return None if torch.equal(y.double(), wanted) else "oneDNN's convolution in int8 is not exact here"


register("convolve", "int8", convolve_int8, "cpu", refuses)
