"""Weights and learned numbers that are NaN or inf stay visible: no quantizer makes levels of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bitspike import int8
from bitspike.formats import WeightFormat
from bitspike.functional import learns_bits, sign_pm1
from bitspike.layers import Conv2d, Refined, Windows
from bitspike.neurons import LIF, Adaptive, MultiBit
from bitspike.ops.convolve_int8 import missing
from bitspike.quantizers import Fixed, Float, LearnedBits, PowerOfTwo, Quantizer, Sign, TernaryWeight, Uniform
from quantizers.cases import Case, build, cases, label

WILD = (math.nan, math.inf, -math.inf)


def levels_and_values(quantizer: Quantizer, w: torch.Tensor) -> list[torch.Tensor]:
    """What forward gives, and what to_int gives where there is one."""
    if quantizer.format.real:
        return [quantizer(w)]
    k, scale = quantizer.to_int(w)
    return [quantizer(w), k * scale]


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("case", cases(), ids=label)
def test_a_wild_weight_is_seen_in_forward_and_in_integers(case: Case, wild: float) -> None:
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    quantizer = build(*case).replicate(w)
    w[2, 1] = wild
    for value in levels_and_values(quantizer, w):
        assert not value[2, 1].isfinite()


@pytest.mark.parametrize("case", cases(), ids=label)
def test_a_wild_factor_or_step_is_seen(case: Case) -> None:
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    quantizer = build(*case).replicate(w)
    for name, parameter in quantizer.named_parameters():
        if name == "raw_bits":
            continue
        kept = parameter.detach().clone()
        parameter.data.fill_(math.nan)
        assert all(bool(value.isnan().all()) for value in levels_and_values(quantizer, w))
        parameter.data.copy_(kept)


@pytest.mark.parametrize("case", cases(), ids=label)
def test_finite_weights_keep_their_levels(case: Case) -> None:
    """Zeros, both signs of it, ties and the greatest numbers of the dtype are as before."""
    w = torch.tensor([[0.0, -0.0, 0.5], [-0.5, 1.0, -1.0]])
    quantizer = build(*case).replicate(w)
    assert all(bool(value.isfinite().all()) for value in levels_and_values(quantizer, w))
    most = torch.finfo(w.dtype).max
    if not quantizer.format.real:
        k = quantizer.to_int(torch.tensor([[most, -most, 0.0]]).expand(2, 3))[0]
        assert not bool(k.isnan().any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sign_knows_nan_in_every_precision(dtype: torch.dtype) -> None:
    s = sign_pm1(torch.tensor([math.nan, -0.0, 0.0, -math.inf, math.inf], dtype=dtype))
    assert s.dtype == dtype and s[0].isnan() and s[1:].tolist() == [1.0, 1.0, -1.0, 1.0]


def test_fixed_and_float_weights_pass_nan_on() -> None:
    w = torch.tensor([[1.0, math.nan]])
    assert Fixed(WeightFormat(-1, 1))(w)[0, 1].isnan() and Float()(w)[0, 1].isnan()


@pytest.mark.skipif(bool(missing()), reason=f"not run: {missing()}")
@pytest.mark.parametrize("make", [Sign, TernaryWeight, lambda: Uniform(3), lambda: LearnedBits(2)])
def test_convolutions_in_int8_do_not_hide_it(make: Callable[[], Quantizer]) -> None:
    layer, neuron = Conv2d(4, 4, 3, padding=1, weight=make()), LIF()
    layer.weight.data[1, 2, 0, 0] = math.nan
    x = torch.rand(2, 3, 4, 8, 8) * 3
    flat = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with int8() as record:
        y = layer(neuron(flat.unflatten(0, (2, 3))))
    assert record.taken == 1 and bool(y[:, :, 1, 1:-1, 1:-1].isnan().all())


@pytest.mark.parametrize(
    "make", [lambda: LearnedBits(3), lambda: Adaptive(2), lambda: MultiBit(1, 1, learn_bits="integer")]
)
def test_bits_that_are_nan_are_refused_before_they_are_used(make: Callable[[], nn.Module], refuses: Any) -> None:
    part = make()
    assert learns_bits(part) and part.raw_bits is not None
    part.raw_bits.data.fill_(math.nan)
    with refuses(type(part).__name__, "learned bits", "NaN"):
        part.refresh()
    assert bool((part.width >= 1).all())


@pytest.mark.parametrize("make", [lambda: Refined(LIF(), learn_T=True), lambda: Windows(2, learn_T=True)])
def test_time_steps_that_are_nan_are_refused(make: Callable[[], Any], refuses: Any) -> None:
    layer = make()
    layer.raw_steps.data.fill_(math.nan)
    with refuses(type(layer).__name__, "time steps", "NaN"):
        layer.refresh()
    assert int(layer.steps) == 2


def test_power_of_two_shows_inf_that_its_clip_would_hide() -> None:
    w = torch.ones(1, 4)
    quantizer = PowerOfTwo(3).replicate(w)
    w[0, 2] = math.inf
    assert quantizer(w)[0].isfinite().tolist() == [True, True, False, True]
