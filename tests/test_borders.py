"""What is not finite is refused at every border, by the name of the tensor: weights, buffers, samples, statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.ann2snn import ann2snn
from bitspike.checks import greatest
from bitspike.cost import cost
from bitspike.data import ImageSet
from bitspike.fold import FoldReport, fold
from bitspike.fold.verify import compare
from bitspike.graph import trace
from bitspike.layers import BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Repeat, check_numbers
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.observe import observe
from bitspike.quantizers import Sign
from bitspike.training.evaluation import evaluate
from bitspike.training.loop import load_weights
from bitspike.upgrade import upgrade

WILD = (math.nan, math.inf, -math.inf)


def network(**options: Any) -> nn.Sequential:
    """Encoder, quantized convolution, norm, neuron with an amplitude, classifier."""
    torch.manual_seed(0)
    conv = Conv2d(1, 4, 3, padding=1, weight=Sign("output"))
    return nn.Sequential(
        Repeat(2),
        conv,
        BatchNorm(4, **options),
        Ternary(train_amplitude="layer"),
        Flatten(),
        Linear(64, 3),
        MeanReadout(),
    ).eval()


def ann() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return nn.Sequential(*layers).eval()


def sample() -> Tensor:
    return torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def images() -> ImageSet:
    pixels = torch.randint(0, 17, (8, 1, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return ImageSet(pixels, torch.arange(8) % 3, ("a", "b", "c"), 16, (0.5,), (0.5,), "toy")


PASSES: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "fold": fold,
    "cost": cost,
    "observe": lambda net, x: observe(net, [x]),
    "stream": lambda net, x: bitspike.stream(net, Repeat(2)(x)),
    "ann2snn": lambda net, x: ann2snn(net, MultiBit(1, 1, decay=1.0), x),
}
OTHERS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "evaluate": lambda net, _: evaluate(net, images()),
    "load_weights": lambda net, _: load_weights(net, net.state_dict()),
    "upgrade": lambda net, x: upgrade(net, {nn.ReLU: LIF()}, x),
}


def model_for(name: str) -> nn.Module:
    return ann() if name in ("ann2snn", "upgrade") else network()


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("name", {**PASSES, **OTHERS})
def test_every_border_refuses_weights_and_buffers_that_are_not_finite(name: str, wild: float, refuses: Any) -> None:
    run = {**PASSES, **OTHERS}[name]
    run(model_for(name), sample())
    for tensor, _ in [*model_for(name).named_parameters(), *model_for(name).named_buffers()]:
        net = model_for(name)
        value = net.get_parameter(tensor) if tensor in dict(net.named_parameters()) else net.get_buffer(tensor)
        if not value.is_floating_point():
            continue
        value.data.reshape(-1)[-1] = wild
        with refuses(name, repr(tensor), "must be finite", "1 NaN or inf"):
            run(net, sample())


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("name", PASSES)
def test_every_border_refuses_samples_that_are_not_finite(name: str, wild: float, refuses: Any) -> None:
    x = sample()
    x[3, 0, 1, 2] = wild
    with refuses(name, "must be finite"):
        PASSES[name](model_for(name), x)


def test_a_stream_looks_at_every_chunk(refuses: Any) -> None:
    net, x = network(), Repeat(2)(sample()).clone()
    x[1, 0] = math.nan
    _, states = bitspike.stream(net, x[:1])
    with refuses("stream", "the chunk must be finite"):
        bitspike.stream(net, x[1:], states)


@pytest.mark.parametrize("variance", [-0.5, -1e-9, math.nan])
@pytest.mark.parametrize("name", {**PASSES, **OTHERS})
def test_a_negative_variance_is_refused_by_layer_channel_and_value(name: str, variance: float, refuses: Any) -> None:
    net = model_for(name)
    norm, place = (net[1], "'1'") if isinstance(net[1], nn.BatchNorm2d) else (net[2], "'2'")
    norm.running_var[2] = variance
    words = ["running_var"] if math.isnan(variance) else [place, f"{variance:g} in channel 2"]
    with refuses(name, *words):
        {**PASSES, **OTHERS}[name](net, sample())


def test_a_variance_of_zero_needs_eps(refuses: Any) -> None:
    net = network()
    net[2].running_var[1] = 0.0
    check_numbers("fold", net)
    net[2].eps = 0.0
    with refuses("fold", "'2'", "> 0 where eps is 0", "0 in channel 1"):
        check_numbers("fold", net)


def test_what_exp_makes_infinite_is_refused(refuses: Any) -> None:
    net = network()
    net[1].quantizer.factor.raw_factor.data[0] = 1000.0
    with refuses("fold", "the quantized weight of '1' must be finite"):
        fold(net, sample())
    net = network()
    net[3].emission.raw_amplitude.data.fill_(1000.0)
    with refuses("fold", "the amplitude of '3' must be finite"):
        fold(net, sample())


def test_weights_that_folding_makes_infinite_are_refused(refuses: Any) -> None:
    """float32 weight and norm are finite, their product is not."""
    net = network()
    net[1] = Conv2d(1, 4, 3, padding=1)
    net[1].weight.data[1, 0, 0, 0] = 3e38
    net[2].weight.data.fill_(1e3)
    with refuses("fold (what folding made of the weights)", "'_1.weight'", "1 NaN or inf"):
        fold(net, sample())


def overflowing() -> nn.Sequential:
    """Finite weights whose products are inf, and inf − inf NaN, in front of a neuron that would hide it."""
    net = network()
    net[1] = Conv2d(1, 4, 3, padding=1)
    net[1].weight.data.fill_(3e38)
    net[2] = nn.Identity()
    return net


def test_nan_in_a_current_is_no_agreement(refuses: Any) -> None:
    with torch.no_grad():
        assert overflowing()(sample()).isfinite().all()
    with refuses("fold _3", "the current of the network on the sample must be finite"):
        fold(overflowing(), sample())


def test_nan_in_the_folded_network_alone_is_no_agreement(refuses: Any) -> None:
    reference, folded = trace(network()), trace(network())
    report = compare(reference, folded, sample(), FoldReport())
    assert report.agreement == 1 and report.max_logit_difference == 0
    folded["_2"].module.running_mean.fill_(math.nan)  # type: ignore[union-attr, operator]
    with refuses("fold _3", "the current of the folded network"):
        compare(reference, folded, sample(), FoldReport())
    folded = trace(network())
    folded["_5"].module.bias.data.fill_(math.nan)  # type: ignore[union-attr]
    with refuses("fold", "the output of the folded network"):
        compare(reference, folded, sample(), FoldReport())


def test_an_ann_that_overflows_is_not_converted(refuses: Any) -> None:
    net = ann()
    net[0].weight.data.fill_(3e38)
    with refuses("ann2snn 2", "must be finite"):
        PASSES["ann2snn"](net, sample())
    net = ann()
    net[4].weight.data.fill_(3e38)
    with refuses("ann2snn", "the logits of the ANN", "must be finite"):
        PASSES["ann2snn"](net, sample())


def test_the_greatest_of_numbers_keeps_nan_wherever_it_stands() -> None:
    for values in ((math.nan, 1.0), (1.0, math.nan), (0.0, math.nan, 2.0)):
        assert math.isnan(greatest(*values))
    assert greatest(-1.0, 2.0, math.inf) == math.inf and greatest(3.0) == 3.0


@pytest.mark.parametrize("constants", [((0.5,), (1e-46,)), ((0.5,), (1e-40,)), ((1e39,), (1.0,)), ((0.0,), (1e-39,))])
def test_constants_that_make_pixels_infinite_are_refused(constants: Any, refuses: Any) -> None:
    mean, std = constants
    pixels, labels = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    with refuses("ImageSet 'toy'", "normalised pixels must be finite", str(std[0])):
        ImageSet(pixels, labels, ("a",), 255, mean, std, "toy")


class Masked(nn.Module):
    """A mask of attention: −inf in a buffer, finite results."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.relu, self.head = nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
        self.register_buffer("mask", torch.zeros(16).masked_fill(torch.arange(16) > 9, -math.inf))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.map(x.flatten(1)) * (self.map(x.flatten(1)) + self.mask).softmax(-1)))  # type: ignore[no-any-return]


def test_a_mask_of_inf_is_no_fault_and_nan_in_it_is(refuses: Any) -> None:
    model = Masked().eval()
    net = upgrade(model, {nn.ReLU: LIF()}, sample()).eval()
    observe(net, [sample()])
    cost(net, sample())
    fold(net, sample())
    model.mask[3] = math.nan  # type: ignore[index, operator]
    with refuses("upgrade", "'mask'", "must be finite"):
        upgrade(model, {nn.ReLU: LIF()}, sample())
