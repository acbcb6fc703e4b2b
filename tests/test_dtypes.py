"""Integers, booleans and complex numbers are refused where real numbers are meant; half precision is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.data import ImageSet
from bitspike.functional import Rectangle, Stairs, charge, fire
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    ClipFloor,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Gain,
    GlobalAvgPool,
    Join,
    Latency,
    Linear,
    MaxPool2d,
    MeanReadout,
    Noise,
    Poisson,
    Potential,
    Refined,
    Repeat,
    Restimulate,
    Squeeze,
    StepReadout,
    SumPool2d,
    TallyMaxPool2d,
    TallyPool,
    Upsample,
    Windows,
    norm_then_fire,
)
from bitspike.neurons import LIF, NEURONS, MultiBit
from bitspike.observe import potentials
from bitspike.quantizers import Fixed
from networks import samples, small_cnn
from quantizers.cases import Case, build, cases, label

OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64)
SHAPE = (2, 3, 4, 8, 8)
X = torch.ones(SHAPE)


def given(dtype: torch.dtype, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.ones(shape, dtype=dtype)


def expect_refused(run: Callable[[Tensor], object], shape: tuple[int, ...] = SHAPE) -> None:
    """Every dtype but the floating ones is a `TypeError` that says what to do."""
    for dtype in OTHERS:
        with pytest.raises(TypeError, match=rf"floating-point.*, got {dtype}; convert .*\.float\(\)"):
            run(given(dtype, shape))


@pytest.mark.parametrize("name", list(NEURONS))
def test_neurons_refuse_them_as_current_and_as_state(name: str) -> None:
    neuron = NEURONS[name]().replicate(4)
    state = neuron.initial_state(X[0])
    expect_refused(neuron)
    expect_refused(neuron.run)
    expect_refused(lambda x: neuron.step(x[0], state))
    expect_refused(lambda x: neuron.initial_state(x[0]))
    expect_refused(lambda x: neuron.step(X[0], type(state)(*[x[0]] * len(state))))
    for dtype in OTHERS:
        with pytest.raises(TypeError, match=f"the state must be floating-point, got {dtype}; call initial_state"):
            neuron.run(X, type(state)(*[given(dtype)[0]] * len(state)))
    expect_refused(lambda x: potentials(neuron, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(NEURONS))
def test_every_precision_passes(name: str, dtype: torch.dtype) -> None:
    neuron, x = NEURONS[name]().replicate(4).to(dtype), X.to(dtype)
    s, state = neuron.run(x)
    assert s.dtype == dtype and neuron.run(x, state)[0].dtype == dtype


LAYERS: dict[str, Callable[[], Any]] = {
    "Affine": lambda: Affine(torch.ones(4), torch.zeros(4)),
    "AvgPool2d": lambda: AvgPool2d(2),
    "BatchNorm": lambda: BatchNorm(4),
    "ClipFloor": ClipFloor,
    "Conv2d": lambda: Conv2d(4, 3, 3),
    "ConvTranspose2d": lambda: ConvTranspose2d(4, 3, 3),
    "Flatten": Flatten,
    "Gain": lambda: Gain(torch.tensor(2.0)),
    "GlobalAvgPool": GlobalAvgPool,
    "Join": Join,
    "MaxPool2d": lambda: MaxPool2d(2),
    "MeanReadout": MeanReadout,
    "Refined": lambda: Refined(LIF()),
    "Restimulate": lambda: Restimulate(4),
    "Squeeze": lambda: Squeeze(1),
    "Squeeze that passes": lambda: Squeeze(2, always=False),
    "StepReadout": StepReadout,
    "SumPool2d": lambda: SumPool2d(2),
    "TallyMaxPool2d": lambda: TallyMaxPool2d(2),
    "TallyPool": lambda: TallyPool(nn.MaxPool2d(2)),
    "Upsample": Upsample,
    "Windows": lambda: Windows(3),
    "Windows that pass": lambda: Windows(2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_refuse_them(name: str) -> None:
    expect_refused(LAYERS[name]())


def test_layers_of_two_inputs_refuse_them_as_either() -> None:
    expect_refused(lambda x: Join()(X, x))
    expect_refused(lambda x: Join()(x, torch.ones(3, *SHAPE[1:])))
    expect_refused(lambda x: Potential(LIF())(x, X))
    expect_refused(lambda x: Potential(LIF())(X, x))
    for norm in (BatchNorm(4), BatchNorm(4).eval()):
        expect_refused(lambda x, norm=norm: norm_then_fire(norm, LIF(), x))  # type: ignore[misc]
        expect_refused(lambda x, norm=norm: norm_then_fire(norm, LIF(), X, lambda: x))  # type: ignore[misc]


@pytest.mark.parametrize("encoder", [Poisson(2), Latency(2), Noise("noise")])
def test_encoders_refuse_them(encoder: nn.Module) -> None:
    expect_refused(encoder)


def test_numbers_of_words_are_repeated_and_any_layer_but_an_embedding_refuses_them() -> None:
    words = torch.tensor([[1, 2, 0, 3]])
    assert torch.equal(Repeat(2)(words), words.expand(2, 1, 4))
    for wrong in (words.bool(), words.to(torch.int8), words.to(torch.complex64)):
        with pytest.raises(TypeError, match="Repeat: the input must be a floating-point tensor"):
            Repeat(2)(wrong)
    with pytest.raises(TypeError, match="Linear: the input must be a floating-point tensor"):
        nn.Sequential(Repeat(2), Linear(4, 3))(words)


@pytest.mark.parametrize("case", cases(), ids=label)
def test_quantizers_refuse_them(case: Case) -> None:
    prototype, w = build(*case), (4, 3)
    quantizer = prototype.replicate(torch.ones(w))
    expect_refused(prototype.replicate, w)
    expect_refused(quantizer, w)
    if not quantizer.format.real:
        expect_refused(quantizer.to_int, w)
        expect_refused(Fixed(quantizer.format), w)


def test_functions_of_the_membrane_refuse_them() -> None:
    expect_refused(lambda u: fire(u, Stairs(), Rectangle()))
    expect_refused(lambda x: charge(X, x, 0.5))
    expect_refused(lambda v: charge(v, X, 0.5))


def test_networks_and_passes_refuse_them() -> None:
    net, images = small_cnn(LIF()).eval(), (3, 2, 8, 8)
    ann = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    converted = bitspike.ann2snn(ann, MultiBit(1, 1, decay=1.0), samples(8, dtype=torch.float32))
    folded = bitspike.fold(net, samples(4, dtype=torch.float32))
    upgraded = bitspike.upgrade(ann, {nn.ReLU: LIF()}, samples(4, dtype=torch.float32))
    for run in (net, folded, converted, upgraded):
        expect_refused(run, images)
    expect_refused(lambda x: bitspike.fold(net, x), images)
    expect_refused(lambda x: bitspike.cost(net, x), images)
    expect_refused(lambda x: bitspike.observe(net, [x]), images)
    expect_refused(lambda x: bitspike.stream(net, x), (2, *images))
    expect_refused(lambda x: bitspike.ann2snn(ann, MultiBit(1, 1, decay=1.0), x), images)


def test_tokens_and_pixels_are_integers() -> None:
    """What is documented to be integers: tokens of a user's embedding, and the pixels of data sets."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.relu, self.head = nn.Embedding(10, 8), nn.ReLU(), nn.Linear(8, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.relu(self.embed(tokens)).mean(1))  # type: ignore[no-any-return]

    assert Tokens()(torch.randint(0, 10, (4, 5))).shape == (4, 2)
    pixels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    data = ImageSet(pixels, torch.tensor([0, 1]), ("a", "b"), 255, (0.5,), (0.5,), "toy")
    assert data.normalise(pixels).dtype == torch.float32
    with pytest.raises(TypeError, match=r"images must be a torch\.uint8 tensor"):
        ImageSet(pixels.float(), torch.tensor([0, 1]), ("a", "b"), 255, (0.5,), (0.5,), "toy")
