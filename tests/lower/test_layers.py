"""Layers beside neurons and weights: wiring, T, windows, attention, concatenations, inputs, what is refused."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analog
import bitspike
from bitspike.data import ImageSet
from bitspike.graph import trace
from bitspike.layers import (
    ENCODERS,
    AvgPool2d,
    ClipFloor,
    Conv2d,
    Flatten,
    Gain,
    Join,
    Linear,
    MeanReadout,
    Refined,
    Repeat,
    Squeeze,
    SumPool2d,
    TallyMaxPool2d,
    TallyPool,
    Windows,
)
from bitspike.lower import CompileReport, Pixels, compare, outputs
from bitspike.models import Policy
from bitspike.neurons import LIF, Integer, MultiBit, Signed, Ternary
from bitspike.quantizers import Float
from bitspike.testing import check_program
from bitspike.upgrade.layers import Convolution
from builders import KINDS, MODELS, TINY, WIRINGS, residual
from lower_nets import WIDE, on_grid
from networks import SHAPE, WEIGHTS, dyadic, make_neuron, rng, samples, small_cnn


def folded(model: nn.Module, x: Tensor) -> Any:
    return bitspike.fold(on_grid(model, x), x)


@pytest.mark.parametrize("readout", ["mean", "steps"])
@pytest.mark.parametrize(("wiring", "kind"), list(itertools.product(WIRINGS, [k for k in KINDS if k != "real"])))
def test_residual_blocks_of_both_wirings(wiring: str, kind: str, readout: str) -> None:
    x = dyadic(samples(6))
    check_program(folded(residual(KINDS[kind](), wiring, readout), x), x, **WIDE)


@pytest.mark.parametrize("name", sorted(TINY))
def test_deep_networks(name: str) -> None:
    x = dyadic(torch.randn(2, *TINY[name]["shape"], dtype=torch.float64, generator=rng(1)))
    neuron = make_neuron("ternary", decay=0.5, amplitude=2.0)
    warnings.simplefilter("ignore", UserWarning)  # factors that are inert
    model = MODELS[name](neuron, WEIGHTS["ternary-layer"](), T=2, **{"width": 4, **TINY[name]})
    ninths = name in ("resnet18", "resnet34")  # of the 3×3 pool behind their stem: ties are not exact
    _, found = check_program(folded(model, x), x, exact=not ninths, **WIDE)
    assert found.forced_flips <= 1e-3 * ninths * sum(layer.spikes for layer in found.layers.values())


@pytest.mark.parametrize("over", ["step", "first", "whole"])
@pytest.mark.parametrize("signal", ["spikes", "current", "potential"])
def test_attention_is_within_its_table(signal: str, over: str) -> None:
    x = dyadic(samples(6))
    model = small_cnn(LIF(decay=0.5), None, T=3, stimulated="*", attention_signal=signal, attention_over=over)
    program, found = check_program(folded(model, x), x, exact=False, **WIDE)
    spikes = sum(layer.spikes for layer in found.layers.values())
    assert found.forced_flips <= 2e-3 * spikes  # sigmoids are off by 2^-10
    assert any("sigmoid" in note for note in CompileReport.of(program).notes)
    control = small_cnn(LIF(decay=0.5), None, T=3, stimulated="*", attention_signal=signal, attention="one")
    check_program(folded(control, x), x, **WIDE)


def test_expanded_spikes_are_lowered_as_sums() -> None:
    x = dyadic(samples(6))
    graded = folded(small_cnn(Integer(3, amplitude=2.0), WEIGHTS["sign-layer"](), T=2), x)
    check_program(graded, x, **WIDE)
    check_program(bitspike.expand_unary(graded), x, **WIDE)


class Mixed(nn.Module):
    """Branches of other T, gains by step, pools of every kind, channels that are cut and joined."""

    def __init__(self, keep_time: bool, tally: bool) -> None:
        super().__init__()
        self.encoder, self.first = Repeat(4), Conv2d(2, 4, 3, padding=1)
        self.one, self.other = Refined(LIF(decay=0.5), T=3, squeeze="windows"), MultiBit(1, 1)
        self.join = Join(keep_time=keep_time)
        self.gain = Gain(torch.tensor([[1.0], [2.0], [4.0]]))
        self.pool = TallyMaxPool2d(2) if tally else TallyPool(nn.MaxPool2d(3, 2, padding=1))
        self.second, self.third = Conv2d(4, 4, 3, padding=1), Ternary(decay=0.5)
        self.average, self.sum = AvgPool2d(2, ceil=True), SumPool2d(2)
        self.squeeze, self.windows, self.flatten = Squeeze(2), Windows(3), Flatten()
        self.last, self.classify, self.readout = Linear(20, 6), Linear(6, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2, 8, 8] → [B, 3]."""
        x = self.first(self.encoder(x))
        x = self.pool(self.gain(self.join(self.one(x), self.other(x))))
        x = self.third(self.second(x))
        a, b = x.chunk(2, 2)
        y = torch.cat([self.average(b), self.average(a), self.sum(x[:, :, 1:2])], 2)
        flat = self.flatten(self.windows(y))
        return self.readout(self.classify(self.squeeze(self.last(flat))))


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("tally", [False, True])
def test_time_pools_and_channels(keep_time: bool, tally: bool) -> None:
    x = dyadic(samples(6))
    torch.manual_seed(0)
    model = Mixed(keep_time, tally).double()
    for module in (model.first, model.second):
        module.weight.data.copy_(dyadic(2 * module.weight.data))
    _, found = check_program(bitspike.fold(model, x), x, exact=False, **WIDE)
    assert all(0.02 < s.fired / s.spikes < 0.98 for s in found.layers.values())
    spikes = sum(layer.spikes for layer in found.layers.values())
    assert found.forced_flips <= 1e-3 * spikes  # the second convolution reads currents, in 16 bits
    assert found.max_logit_difference_forced <= 1e-4 * found.largest_logit  # thirds are no multiples of powers of two


def test_learned_steps_are_read_without_a_warning() -> None:
    net = nn.Sequential(Repeat(2), Linear(2, 3), LIF(), Squeeze(2, learned=2.0), Linear(3, 2), MeanReadout())
    x = dyadic(torch.randn(8, 2, generator=rng(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bitspike.compile(trace(net), x)


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("neuron", [MultiBit(2, 2, decay=1.0), Signed(1, decay=1.0)])
@pytest.mark.parametrize("name", ["residual", "chain", "pooled", "clip_floor"])
def test_converted_networks(name: str, neuron: Any, T: int) -> None:
    net, x = analog.ann(name, torch.float64), analog.inputs(6, torch.float64)
    network = bitspike.fold(bitspike.ann2snn(net, neuron, x, T=T), x)
    _, found = check_program(network, x, exact=False, **WIDE)
    assert found.agreement == 1
    assert found.forced_flips <= 1e-3 * sum(layer.spikes for layer in found.layers.values())


def test_analog_activations() -> None:
    x = dyadic(samples(6))
    net = nn.Sequential(
        Repeat(1),
        Conv2d(2, 4, 3),
        nn.ReLU(),
        Conv2d(4, 4, 3),
        ClipFloor(15, 2.0),
        Flatten(),
        Linear(64, 3),
        MeanReadout(),
    ).double()
    _, found = check_program(bitspike.fold(net, x), x, exact=False, **WIDE)
    assert found.max_logit_difference <= 0.02 * found.largest_logit  # a level of 15 may differ


def test_sequences_of_events() -> None:
    x = torch.randint(0, 2, (6, 5, 2, 8, 8), generator=rng(0)).double()
    net = nn.Sequential(Conv2d(2, 4, 3), LIF(decay=0.5), Windows(3), Flatten(), Linear(144, 3), MeanReadout()).double()
    for module in net.modules():
        if hasattr(module, "weight") and isinstance(module.weight, nn.Parameter):
            module.weight.data.copy_(dyadic(module.weight.data * 2))
    program, _ = check_program(bitspike.fold(net, x), x, **WIDE)
    assert program.spec.input.value.steps == 6 and not program.spec.input.repeat


def test_raw_images_at_borders() -> None:
    images = torch.randint(0, 17, (12, 1, 8, 8), generator=rng(0), dtype=torch.uint8)
    images[:, :, 0], images[:, :, :, -1] = 16, 0
    data = ImageSet(images, torch.zeros(12, dtype=torch.int64), ("a", "b"), 16, (0.3,), (0.4,), "toy")
    x = data.normalise(images).double()
    model = folded(small_cnn(LIF(decay=0.5), WEIGHTS["sign-layer"](), shape=(1, 8, 8), T=2), x)
    program = bitspike.compile(model, x, input_bits=16, weight_bits=16, pixels=Pixels(16, (0.3,), (0.4,)))
    assert program.spec.input.value.high == 16 and CompileReport.of(program).agreement is None
    found = compare(program, model, [x], [images.numpy()])
    assert found.forced_flips <= 1e-3 * sum(layer.spikes for layer in found.layers.values())
    assert np.array_equal(program(images.numpy()).levels, program(images[:, :, :, :].numpy().astype(int)).levels)


class Odd(nn.Module):
    """Several things that no program does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.conv, self.fire = Repeat(2), Conv2d(2, 3, 3), LIF()
        self.soft, self.flatten, self.norm = nn.Softmax(2), Flatten(), nn.LayerNorm(108)
        self.last, self.readout = Linear(108, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2, 8, 8] → [B, 3]."""
        x = self.soft(self.fire(self.conv(self.encoder(x))))
        return self.readout(self.last(self.norm(self.flatten(x)).cumsum(0)))


def test_all_that_is_refused_is_named_at_once() -> None:
    x = samples(3).float()
    with pytest.raises(ValueError, match="got 3 without") as error:
        bitspike.compile(bitspike.fold(Odd(), x), x)
    for words in ("soft (Softmax): Softmax divides", "norm (LayerNorm): LayerNorm", "cumsum: cumsum of torch has no"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"weight_bits": 4}, "weight_bits"), ({"spike_bits": 2}, "spike_bits"), ({"input_bits": 12}, "input_bits")],
)
def test_bits_that_are_not_offered(options: dict[str, int], words: str) -> None:
    x = samples(3).float()
    with pytest.raises(ValueError, match=words):
        bitspike.compile(bitspike.fold(small_cnn(LIF()), x), x, **options)  # type: ignore[arg-type]


def test_calibration_must_be_there_and_finite() -> None:
    x = samples(3).float()
    network = bitspike.fold(small_cnn(LIF()), x)
    with pytest.raises(ValueError, match="there must be calibration data"):
        bitspike.compile(network, [])
    with pytest.raises(ValueError, match="calibration data must be finite"):
        bitspike.compile(network, x.index_fill(0, torch.tensor([0]), float("nan")))
    with pytest.raises(ValueError, match="fold the network"):
        bitspike.compile(small_cnn(make_neuron("lif", amplitude=2.0)).eval(), x)


def test_what_is_rounded_is_reported() -> None:
    x = torch.randn(64, *SHAPE, generator=rng(0))
    net = small_cnn(LIF(threshold=0.3, decay=0.3), WEIGHTS["uniform4-layer"](), T=2, policy=Policy(Float(), Float()))
    model = folded(net, dyadic(x.double()))
    report = CompileReport.of(bitspike.compile(model, x.double()))
    first = report.layers[0]
    assert first.weight_bits == 8 and first.accumulator_bits == 32 and first.weight_error < 0.02
    assert 0 < report.input_error <= 0.5 * float(x.abs().max()) / 127 * 1.06
    neurons = [layer for layer in report.layers if layer.kind == "neuron"]
    assert all(layer.safe and 0 < layer.rounding < 1e-8 for layer in neurons)  # the decay, of 30 bits
    assert all(error < 1e-6 and bias <= 0.5 for error, bias in report.rescales.values())
    assert report == CompileReport.of(bitspike.compile(model, [x[:32].double(), x[32:].double()]))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_encoder(name: str) -> None:
    x = dyadic(samples(6)).clamp(0, 1)
    x = x.unsqueeze(1).repeat(1, 3, 1, 1, 1) if ENCODERS[name](3).sequences else x  # type: ignore[call-arg]
    network = folded(small_cnn(LIF(decay=0.5), WEIGHTS["sign-layer"](), T=3, encoder=name), x)
    program, _ = check_program(network, x, **WIDE)
    assert program.spec.input.repeat == ENCODERS[name](3).repeats  # type: ignore[call-arg]
    found = outputs(program, network, [x])  # as `verify` runs it: the program gets what the encoder sends
    assert found.agreement == 1 and found.max_logit_difference == 0 and found.different == 0
    told = [note for note in CompileReport.of(program).notes if "fed with what" in note]
    assert len(told) == (ENCODERS[name](3).format is not None)  # type: ignore[call-arg]


def test_one_dimension_groups_and_a_late_readout() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv1d(2, 4, 3, padding="same", dilation=2), nn.Conv1d(4, 4, 3, stride=2, groups=2)
    pool, readout = TallyPool(nn.MaxPool1d(2)), MeanReadout(3)
    readout.keep[0] = 0  # type: ignore[index]
    layers = Convolution(first), LIF(decay=0.5), pool, Convolution(second), LIF(decay=0.5)
    net = nn.Sequential(Repeat(4), *layers, Flatten(), Linear(12, 3), readout).double()
    for module in net.modules():
        if isinstance(module, (Convolution, Linear)):
            module.weight.data.copy_(dyadic(2 * module.weight.data))
            module.bias.data.copy_(dyadic(module.bias.data))  # type: ignore[union-attr]
    x = dyadic(torch.randn(5, 2, 16, generator=rng(0), dtype=torch.float64))
    _, found = check_program(bitspike.fold(net, x), x, exact=False, **WIDE)
    assert found.end_to_end_flips == 0
    assert found.max_logit_difference <= 1e-12  # the division by three steps is the reader's
