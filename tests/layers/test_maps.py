"""Convolutions, linear maps, pools and folded maps over time against torch on the merged batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.formats import SpikeFormat
from bitspike.graph import trace
from bitspike.layers import (
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Gain,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    MeanReadout,
    StepReadout,
    SumPool2d,
    Synapse,
    TimeLayer,
    merge_time,
    split_time,
)
from bitspike.neurons import Integer
from bitspike.quantizers import Sign, TernaryWeight, Uniform

T, B, C, H, W = 3, 2, 5, 7, 5


def image(channels: int = C) -> Tensor:
    return torch.randn(T, B, channels, H, W)


def each_sample(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Step by step, sample by sample: what a layer over [T, B, ...] is."""
    return torch.stack([torch.cat([run(x[t, b : b + 1]) for b in range(x.shape[1])]) for t in range(x.shape[0])])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 3, 2), (7, 1, 3)])
def test_convolution(kernel: int, stride: int, padding: int, bias: bool) -> None:
    layer = Conv2d(C, 4, kernel, stride, padding, bias=bias)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = image()
    wanted = each_sample(lambda one: F.conv2d(one, layer.weight, layer.bias, stride, padding), x)
    found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert layer.macs(tuple(found.shape)) == 4 * C * kernel * kernel * found.shape[-1] * found.shape[-2]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolution(groups: int) -> None:
    layer = Conv2d(4, 8, 3, 2, 1, bias=True, groups=groups)
    assert layer.weight.shape == (8, 4 // groups, 3, 3) and layer.bias is not None
    nn.init.normal_(layer.bias)
    x = torch.randn(T, B, 4, H, W)
    wanted = each_sample(lambda one: F.conv2d(one, layer.weight, layer.bias, 2, 1, 1, groups), x)
    found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert layer.macs(tuple(found.shape)) == 8 * (4 // groups) * 9 * found.shape[-1] * found.shape[-2]
    assert layer.extra_repr().startswith("4, 8, ") and ("groups" in layer.extra_repr()) == (groups > 1)


def test_linear() -> None:
    layer, x = Linear(C, 4), torch.randn(T, B, C)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(x), each_sample(lambda one: F.linear(one, layer.weight, layer.bias), x))
    assert layer.macs((T, B, 4)) == 4 * C
    assert Linear(C, 4, bias=False).bias is None


@pytest.mark.parametrize(
    "quantizer", [Sign("output"), TernaryWeight(), Uniform(3, "output")], ids=lambda q: str(q.bits)
)
def test_a_synapse_multiplies_by_its_quantized_weight(quantizer: Any) -> None:
    for layer, x in (
        (Linear(C, 4, weight=quantizer), torch.randn(T, B, C)),
        (Conv2d(C, 4, 3, weight=quantizer), image()),
    ):
        k, scale = layer.quantizer.to_int(layer.weight)
        wanted = layer.connect(x, k * scale, layer.bias)
        assert torch.equal(layer(x), wanted)
        assert not torch.equal(layer(x), layer.connect(x, layer.weight, layer.bias))
        assert layer.quantizer is not quantizer


def test_a_synapse_takes_another_quantizer() -> None:
    layer: Synapse = Linear(C, 4)
    layer.quantize_with(Sign("none"))
    assert set(layer.quantizer(layer.weight).detach().unique().tolist()) == {-1.0, 1.0}


def test_weights_start_as_documented() -> None:
    """N(0, 2/(k²·O)) for convolutions, N(0, 1/I) for linear maps, biases 0."""
    conv, linear = Conv2d(64, 32, 3, bias=True), Linear(400, 200)
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
    assert linear.weight.std().item() == pytest.approx(400**-0.5, rel=0.03)
    assert not conv.bias.any() and not linear.bias.any()  # type: ignore[union-attr]
    depthwise = Conv2d(4096, 4096, 3, groups=4096)
    assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, None, 0), (2, None, 0), (3, 2, 1), (3, 1, 0), (2, 3, 1)])
def test_average_pooling(kernel: int, stride: int | None, padding: int) -> None:
    layer = AvgPool2d(kernel, stride, padding)
    x = image()
    wanted = each_sample(lambda one: F.avg_pool2d(one, kernel, stride or kernel, padding), x)
    assert torch.equal(layer(x), wanted)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_average_pooling_with_sides_rounded_up_follows_a_convolution(stride: int) -> None:
    """The same sides as of a padded convolution; windows that stick out average what is there."""
    for side in range(4, 12):
        x = torch.rand(T, B, C, side, side + 1, dtype=torch.float64)
        y = AvgPool2d(stride, ceil=True)(x)
        assert y.shape == Conv2d(C, C, 3, stride=stride, padding=1).double()(x).shape
        corner = x[..., stride * (y.shape[3] - 1) :, stride * (y.shape[4] - 1) :]
        assert torch.allclose(y[..., -1, -1], corner.mean((3, 4)))
        assert torch.allclose(AvgPool2d(stride, ceil=True)(torch.ones_like(x)), torch.ones_like(y))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, None, 0), (2, None, 0), (3, 2, 1), (3, 1, 0), (2, 3, 1)])
def test_sum_pooling(kernel: int, stride: int | None, padding: int) -> None:
    x = torch.randint(-3, 4, (T, B, C, H, W)).double()
    ones = torch.ones(C, 1, kernel, kernel, dtype=x.dtype)
    wanted = each_sample(lambda one: F.conv2d(one, ones, None, stride or kernel, padding, groups=C), x)
    for turned in (x, x.movedim(2, -1).contiguous().movedim(-1, 2)):
        assert torch.equal(SumPool2d(kernel, stride, padding)(turned), wanted)


def test_sums_of_levels_are_levels() -> None:
    """The alphabet of a sum over the window; real spikes and sums beyond any format are real values."""
    graph = trace(nn.Sequential(Integer(3, amplitude=2.0), SumPool2d(2), Flatten(), Linear(4, 1)))
    node = next(n for n in graph if isinstance(n.module, SumPool2d))
    assert node.format == SpikeFormat(0, 12, amplitude="layer", unary=12) and node.sources == ("_0",)
    assert SumPool2d(3).format_of(SpikeFormat(-1, 1)) == SpikeFormat(-9, 9)
    assert SumPool2d(2).format_of(SpikeFormat(real=True)) is None and SumPool2d(2).format_of(None) is None
    assert SumPool2d(17).format_of(SpikeFormat(0, 255)) is None
    with pytest.raises(ValueError, match="SumPool2d: kernel"):
        SumPool2d(0)


@pytest.mark.parametrize(("kernel", "stride"), [(1, None), (2, None), (3, 2), (3, 1)])
def test_max_pooling(kernel: int, stride: int | None) -> None:
    x = image()
    wanted = each_sample(lambda one: F.max_pool2d(one, kernel, stride or kernel), x)
    assert torch.equal(MaxPool2d(kernel, stride)(x), wanted)


def test_max_pooling_keeps_the_alphabet_and_a_factor_passes_through_what_claims_it() -> None:
    """`scaling` says what a factor does: linear layers pass any, max pooling a positive one."""
    x = (torch.randn(T, B, C, 8, 8) > 0).float()
    factor = torch.tensor([0.5, 2.0, 1.0, 4.0, -0.25])
    wide = factor.reshape(-1, 1, 1)
    for layer in (AvgPool2d(2), SumPool2d(2), GlobalAvgPool(), Flatten(), Gain(torch.tensor(2.0)), MaxPool2d(2)):
        allowed = wide.abs() if layer.scaling == "positive" else wide
        carried = layer.carry(allowed.flatten(), tuple(x.shape))
        out = layer(x)
        shaped = carried.reshape(-1, *[1] * (out.dim() - 3))
        assert layer.scaling in ("linear", "positive")
        assert torch.equal(layer(x * allowed), out * shaped), type(layer).__name__
        assert not layer.keeps_format or set(out.unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(MaxPool2d(2)(x * wide), MaxPool2d(2)(x) * wide)  # the negative one


def test_means_and_flattening() -> None:
    x = image()
    torch.testing.assert_close(GlobalAvgPool()(x), x.mean((-1, -2)))
    assert torch.equal(Flatten()(x), x.reshape(T, B, C * H * W))
    assert torch.equal(Flatten()(torch.ones(T, B, 4)), torch.ones(T, B, 4))


def test_affine_and_gain_are_per_channel() -> None:
    x, scale, shift = image(), torch.randn(C), torch.randn(C)
    wide = (C, 1, 1)
    assert torch.equal(Affine(scale, shift)(x), x * scale.reshape(wide) + shift.reshape(wide))
    assert torch.equal(Affine(torch.tensor(2.0), torch.tensor(1.0))(x), x * 2 + 1)
    assert torch.equal(Gain(scale)(x[..., 0, 0]), x[..., 0, 0] * scale)


def test_the_mean_read_out_streams() -> None:
    """In chunks it gives the bits of the whole run: the mean of all steps so far."""
    x = torch.randn(7, B, 10)
    whole = MeanReadout()(x)
    torch.testing.assert_close(whole, x.mean(0))
    state, y = None, None
    for part in x.split([1, 4, 2]):
        y, state = MeanReadout().stream_step(part, state)
    assert y is not None and torch.equal(y, whole)
    assert torch.equal(MeanReadout().stream_step(x[:3], None)[0], MeanReadout()(x[:3]))
    assert torch.equal(StepReadout()(x), x)


def test_merging_and_splitting_are_inverse() -> None:
    x = image()
    assert torch.equal(split_time(merge_time("X", x, 5), x), x)


def test_a_stateful_layer_must_say_how_it_streams() -> None:
    class Forgets(TimeLayer):
        stateful = True

    with pytest.raises(NotImplementedError, match="Forgets: a stateful layer must define stream_step"):
        Forgets().stream_step(torch.zeros(1, 1), None)


@pytest.mark.parametrize("layer", [Conv2d(C, 4, 3, padding=1), Linear(C, 4)], ids=lambda m: type(m).__name__)
def test_a_sample_does_not_see_its_batch_in_double(layer: nn.Module) -> None:
    layer, x = layer.double(), image().double() if isinstance(layer, Conv2d) else torch.randn(T, 64, C).double()
    whole = layer(x)
    for size in (1, 7):
        torch.testing.assert_close(layer(x[:, :size]), whole[:, :size], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "where", "words"),
    [
        (lambda: Conv2d(0, 1, 3), "Conv2d", ["inputs"]),
        (lambda: Conv2d(1, 0, 3), "Conv2d", ["outputs"]),
        (lambda: Conv2d(1, 1, 0), "Conv2d", ["kernel"]),
        (lambda: Conv2d(1, 1, 3, stride=0), "Conv2d", ["stride"]),
        (lambda: Conv2d(1, 1, 3, padding=-1), "Conv2d", ["padding"]),
        (lambda: Conv2d(4, 6, 3, groups=4), "Conv2d", ["groups must divide", "4 groups of 4 inputs and 6 outputs"]),
        (lambda: Conv2d(3, 6, 3, groups=2), "Conv2d", ["groups must divide"]),
        (lambda: Conv2d(2, 2, 3, groups=0), "Conv2d", ["groups"]),
        (lambda: Conv2d(6, 2, 3, groups=2)(image()), "Conv2d", ["6 channels"]),
        (lambda: Linear(0, 1), "Linear", ["inputs"]),
        (lambda: Linear(1, 0), "Linear", ["outputs"]),
        (lambda: Conv2d(3, 1, 3)(image()), "Conv2d", ["3 channels", f"got [{T}, {B}, {C}, {H}, {W}]"]),
        (lambda: Conv2d(C, 1, 3)(torch.zeros(B, C, H, W)), "Conv2d", ["[T, B, C, H, W]"]),
        (lambda: Linear(3, 1)(torch.zeros(T, B, C)), "Linear", ["3 features"]),
        (lambda: Linear(C, 1)(image()), "Linear", ["[T, B, C]"]),
        (lambda: Linear(C, 1)(torch.zeros(0, B, C)), "Linear", ["T (axis 0)"]),
        (lambda: AvgPool2d(0), "AvgPool2d", ["kernel"]),
        (lambda: AvgPool2d(2, ceil="up"), "AvgPool2d", ["ceil"]),  # type: ignore[arg-type]
        (lambda: MaxPool2d(0), "MaxPool2d", ["kernel"]),
        (lambda: AvgPool2d(2)(torch.zeros(T, B, C)), "AvgPool2d", ["[T, B, C, H, W]"]),
        (lambda: MaxPool2d(2)(torch.zeros(T, B, C)), "MaxPool2d", ["[T, B, C, H, W]"]),
        (lambda: GlobalAvgPool()(torch.zeros(T, B, C)), "GlobalAvgPool", ["[T, B, C, H, W]"]),
        (lambda: Flatten()(torch.zeros(T, B)), "Flatten", ["3 axes"]),
        (lambda: Affine(torch.ones(1), torch.ones(1))(torch.zeros(T, B)), "Affine", ["3 axes"]),
        (lambda: Gain(torch.ones(1))(torch.zeros(T, B)), "Gain", ["3 axes"]),
        (lambda: MeanReadout()(torch.zeros(T)), "MeanReadout", ["2 axes"]),
        (lambda: StepReadout()(torch.zeros(0, B, 1)), "StepReadout", ["T (axis 0)"]),
    ],
)
def test_bad_input(call: Callable[[], object], where: str, words: list[str], refuses: Any) -> None:
    with refuses(where, *words):
        call()


@pytest.mark.parametrize("layer", [Conv2d(C, 1, 3), AvgPool2d(2), MaxPool2d(2), GlobalAvgPool(), Flatten()])
def test_integers_are_refused(layer: nn.Module, refuses: Any) -> None:
    with refuses(type(layer).__name__, "torch.int64", kind=TypeError):
        layer(torch.zeros(T, B, C, H, W, dtype=torch.int64))
