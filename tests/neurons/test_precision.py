"""Low precision and autocast: dtypes kept, membranes in float32 under autocast, the same spikes in float64."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from bitspike.layers import Linear
from bitspike.layers.affine import Affine, Gain
from bitspike.neurons import NEURONS, Real
from bitspike.ops import using
from neurons.cases import CHANNELS, Options, build, cases

HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("name", list(NEURONS))
def test_autocast_keeps_membranes_in_single_precision(name: str) -> None:
    """A bfloat16 current from a linear layer is charged in float32: decay·v keeps 24 bits."""
    neuron, layer, x = NEURONS[name](), Linear(4, 3), torch.randn(5, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        current = layer(x)
        s, state = neuron.run(current)
    assert current.dtype == torch.bfloat16
    assert s.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    wanted, last = neuron.run(current.float())
    assert torch.equal(s, wanted.bfloat16()) and torch.equal(state.v, last.v)


@pytest.mark.parametrize("name", list(NEURONS))
def test_without_autocast_a_current_keeps_its_dtype(name: str) -> None:
    s, state = NEURONS[name]().run(torch.randn(2, 2, 4, dtype=torch.bfloat16))
    assert s.dtype == state.v.dtype == torch.bfloat16


@pytest.mark.parametrize("name", list(NEURONS))
def test_precisions_agree_on_the_dyadic_grid(name: str) -> None:
    """With power-of-two constants nothing is rounded over three steps: float32 and float64 are the same numbers."""
    neuron = NEURONS[name](decay=0.25)
    x = torch.randint(-24, 33, (3, 8, 16)).float() / 16
    single, double = neuron.run(x), neuron.run(x.double())
    assert torch.equal(single[0].double(), double[0]) and torch.equal(single[1].v.double(), double[1].v)
    assert 0.02 < (single[0] != 0).float().mean() < 0.98


@pytest.mark.parametrize("case", cases(1), ids=lambda case: case[0])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_parameter_keeps_the_dtype_of_the_current(dtype: torch.dtype, case: tuple[str, Options]) -> None:
    """A float32 factor per channel would make spikes float32; one per layer does not."""
    for shape in ((2, 3, CHANNELS), (2, 3, CHANNELS, 2, 2)):
        x = torch.randn(shape).to(dtype).requires_grad_()
        for neuron in (build(*case), build(*case).to(dtype)):
            s, state = neuron.run(x)
            assert {s.dtype, *(part.dtype for part in state)} == {dtype}
            (grad,) = torch.autograd.grad(s.float().square().sum(), x)
            assert grad.dtype == dtype


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_factor_per_channel_rounds_once_as_one_per_layer(dtype: torch.dtype) -> None:
    x = torch.rand(3, 2, CHANNELS).to(dtype) * 4
    for name in ("multibit", "real"):
        layer, channel = (
            build(name, {"amplitude": 0.7, "train_amplitude": sharing}) for sharing in ("layer", "channel")
        )
        assert torch.equal(layer(x), channel(x))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_folded_parts_keep_the_dtype(dtype: torch.dtype) -> None:
    x, factor = torch.randn(2, 3, CHANNELS).to(dtype), torch.full((CHANNELS,), 0.7)
    for part in (Gain(factor), Affine(factor, factor), Real().rescaled(factor)):
        assert part(x).dtype == dtype


@pytest.mark.parametrize("case", cases(1), ids=lambda case: case[0])
@pytest.mark.parametrize("kernel", ["automatic", "reference"])
def test_an_empty_batch(kernel: str, case: tuple[str, Options]) -> None:
    """No sample: no spike, no gradient, and a state that a stream goes on from."""
    with using(kernel) if kernel == "reference" else nullcontext():
        neuron = build(*case)
        x = torch.randn(4, 0, CHANNELS, requires_grad=True)
        s, state = neuron.run(x)
        again, _ = neuron.run(x, state)
        (s.sum() + again.sum()).backward()
    assert s.shape == again.shape == x.shape
    for name, parameter in neuron.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
