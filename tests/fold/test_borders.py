"""Folding of unusual graphs, negative amplitudes, and refusals of bad input."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold
from bitspike.cost import cost
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MeanReadout,
    Repeat,
    StepReadout,
    Synapse,
)
from bitspike.neurons import LIF, MultiBit, Neuron, Ternary
from bitspike.quantizers import Quantizer, Sign
from bitspike.upgrade import Convolution
from networks import NETS, SPIKING, WEIGHTS, liven, make_neuron, samples, spikes_of


def check(model: nn.Module, x: Tensor) -> torch.nn.Module:
    """Fold in float64; outputs equal, every layer alive."""
    folded = fold(model, x)
    assert all(0.02 < layer.rate < 0.98 for layer in folded.report.layers.values()), folded.report.layers
    assert folded.report.end_to_end_flips == 0
    with torch.no_grad():
        assert (model(x) - folded(x)).abs().max() <= 1e-9
    return folded


@pytest.mark.parametrize("weight", [w for w in WEIGHTS if w != "ternary-none"])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_a_negative_amplitude_passes_average_pools_and_linear_maps(weight: str, sharing: str) -> None:
    x = samples(8)
    neuron = make_neuron("multibit", amplitude=0.7, train_amplitude=sharing, raw_amplitude=True)
    model = NETS["study_cnn"](neuron, WEIGHTS[weight](), T=3)
    for module in model.modules():
        if isinstance(module, Neuron):
            raw = module.emission.raw_amplitude
            assert raw is not None
            raw.data *= -1 if raw.dim() == 0 else torch.tensor([-1.0, 1.0] * (raw.numel() // 2))
    folded = check(liven(model, x), x)
    assert folded.report.gains["add_gain_body_2"] == (1 if sharing == "layer" else 6)
    assert (folded.net.get_submodule("add_gain_body_2").factor < 0).any()


@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_a_negative_amplitude_before_max_pooling_is_refused(sharing: str) -> None:
    x = samples(4)
    model = NETS["pool_net"](LIF(train_amplitude=sharing, raw_amplitude=True), None)
    liven(model, x)
    check(model, x)
    raw = model.neuron1.emission.raw_amplitude
    with torch.no_grad():
        raw.reshape(-1)[-1:] = -0.7
    with pytest.raises(ValueError, match=r"fold pool1: .*max pooling must be positive, got .*-0\.7.*raw_amplitude"):
        fold(model, x)


def test_a_fixed_amplitude_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="amplitude must be positive"):
        LIF(amplitude=-1.0)


def test_nan_and_inf_are_refused_by_name() -> None:
    x = samples(4)
    model = liven(NETS["study_cnn"](LIF(), WEIGHTS["sign-layer"]()), x)
    names = ["body.0.weight", "body.3.norm2.running_var", "body.4.conv1.quantizer.factor.raw_factor", "body.7.bias"]
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for name in names:
        for bad in (float("nan"), float("inf"), float("-inf")):
            kept = tensors[name].detach().clone()
            tensors[name].data.reshape(-1)[0] = bad
            with pytest.raises(ValueError, match=f"^fold: .*{re.escape(name)}.* must be finite") as caught:
                fold(model, x)
            assert "\n" not in str(caught.value)
            tensors[name].data.copy_(kept)
    x[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^fold: the sample must be finite, got 1 NaN or inf of 512 values"):
        fold(model, x)


def test_a_sample_of_integers_is_refused() -> None:
    with pytest.raises(TypeError, match="fold: the input must be a floating-point tensor"):
        fold(NETS["study_cnn"](LIF()), torch.zeros(2, 2, 8, 8, dtype=torch.int64))


class Twice(nn.Module):
    """One convolution, norm and neuron called twice, on spikes of different amplitudes."""

    def __init__(self, weight: Quantizer | None) -> None:
        super().__init__()
        self.encoder, self.stem = Repeat(3), Conv2d(2, 4, 3, padding=1)
        self.first = LIF(0.5, amplitude=1.37)
        self.conv = Conv2d(4, 4, 3, padding=1, bias=True, weight=weight)
        self.norm, self.neuron = BatchNorm(4), Ternary(0.5, amplitude=0.731)
        self.pool, self.head, self.readout = GlobalAvgPool(), Linear(4, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(self.encoder(x)))
        x = self.neuron(self.norm(self.conv(x)))
        x = self.neuron(self.norm(self.conv(x)))
        return self.readout(self.head(self.pool(x)))


@pytest.mark.parametrize("weight", ["float", "sign-layer", "sign-input", "uniform3-output"])
def test_a_module_called_twice_is_split(weight: str) -> None:
    x = samples(8)
    torch.manual_seed(0)
    model = liven(Twice(WEIGHTS[weight]()), x)
    folded = check(model, x)
    assert list(folded.report.layers) == ["first", "neuron", "neuron_1"]
    one, two = folded.net.get_submodule("conv"), folded.net.get_submodule("conv_1")
    assert one is not two and one.weight is not two.weight
    if weight == "float":
        assert torch.allclose(two.weight * (1.37 / 0.731), one.weight, rtol=1e-12)
    else:
        assert torch.equal(one.weight, two.weight)
    if weight in ("sign-layer", "uniform3-output"):
        scales = [folded.net.get_submodule(name).scale for name in ("norm", "norm_1")]
        assert torch.allclose(scales[1] * (1.37 / 0.731), scales[0], rtol=1e-12)


class Shared(nn.Module):
    """A convolution read by its norm and by an addition: the norm must not be folded into it."""

    def __init__(self, weight: Quantizer | None) -> None:
        super().__init__()
        self.encoder, self.conv, self.norm = Repeat(3), Conv2d(2, 4, 3, bias=True, weight=weight), BatchNorm(4)
        self.neuron, self.head, self.readout = LIF(0.5, amplitude=2.0), Conv2d(4, 3, 6), StepReadout()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.encoder(x))
        return self.readout(self.head(self.neuron(self.norm(y) + y)).flatten(2))


@pytest.mark.parametrize("weight", ["float", "sign-layer", "sign-input"])
def test_a_norm_whose_synapse_has_another_consumer_stays_an_affine_map(weight: str) -> None:
    x = samples(8)
    torch.manual_seed(0)
    folded = check(liven(Shared(WEIGHTS[weight]()), x), x)
    assert "norm" in folded.report.affines


class Joined(nn.Module):
    """Two spike trains of equal amplitude meet in a function."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.encoder, self.left, self.right = Repeat(3), Linear(6, 4), Linear(6, 4)
        self.one, self.two, self.how = LIF(0.3, amplitude=2.0), LIF(0.2, amplitude=2.0), how
        self.head, self.readout = Linear(4, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        a, b = self.one(self.left(x)), self.two(self.right(x))
        joined = {"add": lambda: a + b, "add_": lambda: a.add_(b), "mul": lambda: a * b, "sub": lambda: a - b}
        return self.readout(self.head(joined[self.how]()))


@pytest.mark.parametrize(("how", "gains"), [("add", 0), ("add_", 0), ("mul", 2), ("sub", 2)])
def test_equal_factors_pass_additions_only(how: str, gains: int) -> None:
    torch.manual_seed(0)
    model, x = Joined(how).double().eval(), torch.randn(16, 6, dtype=torch.float64) * 2
    assert len(check(model, x).report.gains) == gains


@pytest.mark.parametrize("readout", [MeanReadout, StepReadout])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_a_network_that_ends_in_spikes(readout: type[nn.Module], sharing: str) -> None:
    torch.manual_seed(0)
    neuron = LIF(0.3, amplitude=1.37, train_amplitude=sharing).replicate(4)
    model = nn.Sequential(Repeat(3), Linear(6, 4), neuron, readout()).double().eval()
    report = check(model, torch.randn(16, 6, dtype=torch.float64)).report
    assert list(report.gains.values()) == [1 if sharing == "layer" else 4]


def test_an_affine_map_that_the_user_put_behind_a_biased_quantized_layer() -> None:
    torch.manual_seed(0)
    linear = Linear(6, 4, weight=Sign("layer"))
    linear.bias.data.fill_(0.3)
    affine = Affine(torch.full((4,), 2.0), torch.full((4,), -0.1))
    model = nn.Sequential(Repeat(3), linear, affine, LIF(0.3), Linear(4, 2), MeanReadout()).double().eval()
    folded = check(model, torch.randn(16, 6, dtype=torch.float64))
    assert folded.report.affines == [] and affine.shift[0] == pytest.approx(-0.1)


@pytest.mark.parametrize("name", SPIKING)
def test_a_plain_bias_stays_where_no_factor_needs_an_affine_map(name: str) -> None:
    torch.manual_seed(0)
    linear = Linear(4, 4, weight=Sign("none"))
    linear.bias.data.fill_(0.3)
    neuron = make_neuron(name, threshold=0.5)
    model = nn.Sequential(Repeat(3), Linear(6, 4), neuron, linear, LIF(1.0), Linear(4, 2), MeanReadout())
    model = model.double().eval()
    folded = fold(model, torch.randn(16, 6, dtype=torch.float64))
    expected = ["_3_affine"] if name in ("multibit", "adaptive") else []  # a level of theirs is worth 1/2
    assert folded.report.affines == expected and folded.report.end_to_end_flips == 0


def test_per_output_factors_behind_per_channel_real_spikes() -> None:
    """Widths differ: output factors of the consumer must not be taken for factors of its input channels."""
    torch.manual_seed(0)
    neuron = make_neuron("real", train_amplitude="channel").replicate(6)
    layers = [Linear(6, 6), neuron, Linear(6, 4, weight=Sign("output")), LIF(0.3), Linear(4, 2), MeanReadout()]
    folded = check(nn.Sequential(Repeat(3), *layers).double().eval(), torch.randn(16, 6, dtype=torch.float64))
    assert folded.report.absorbed == []


@pytest.mark.parametrize("feeder", ["float", "sign-layer"])
def test_absorbed_thresholds_emit_at_the_same_times(feeder: str) -> None:
    """The per-input-channel factors c move into the neuron before: threshold c·θ, current c·I, spikes c·O."""
    torch.manual_seed(0)
    weight = Sign("input").replicate(torch.randn(4, 6))
    model = nn.Sequential(
        Repeat(3),
        Linear(6, 6, weight=WEIGHTS[feeder](), bias=feeder == "float"),
        BatchNorm(6) if feeder != "float" else nn.Identity(),
        make_neuron("real"),
        Linear(6, 4),
        LIF(0.3),
        Linear(4, 2),
        MeanReadout(),
    )
    if feeder == "float":
        del model[2]
    place = 4 if feeder != "float" else 3
    synapse = model[place]
    assert isinstance(synapse, Synapse)
    synapse.quantize_with(weight)
    model = model.double().eval()
    with torch.no_grad():
        synapse.quantizer.factor.raw_factor.add_(torch.randn(6, dtype=torch.float64))
    x = torch.randn(16, 6, dtype=torch.float64)
    folded = check(model, x)
    name = f"_{place - 1}"
    assert folded.report.absorbed == [name] and not folded.report.gains
    factor = synapse.quantizer.factor.raw_factor.exp().flatten()
    _, before = spikes_of(model, x)
    _, after = spikes_of(folded.graph, x)
    assert torch.allclose(before[name] * factor, after[name], rtol=1e-12)


def test_parameters_outside_layers_are_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.scale, self.pool = Repeat(2), nn.Parameter(torch.ones(1)), AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.encoder(x)) * self.scale

    with pytest.raises(ValueError, match="parameters must live in leaf layers, got scale"):
        fold(Bare(), samples(2, dtype=torch.float32))


@pytest.mark.parametrize("weight", ["float", "sign-layer"])
def test_a_network_without_encoder_is_folded_on_a_sequence(weight: str) -> None:
    """Its input is [T, B, ...]: the batch is axis 1, for the flips of samples and for the cost too."""
    torch.manual_seed(0)
    layers = [Linear(6, 4, weight=WEIGHTS[weight]()), LIF(0.3, amplitude=1.37), Linear(4, 2), MeanReadout()]
    folded = check(nn.Sequential(*layers).double().eval(), torch.randn(5, 16, 6, dtype=torch.float64))
    assert folded.report.samples == 16 and folded.report.layers["_1"].spikes == 5 * 16 * 4
    assert cost(folded.graph, torch.randn(5, 16, 6, dtype=torch.float64)).samples == 16


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("scale", ["layer", "output", "input"])
def test_grouped_convolutions_fold_their_own_columns(groups: int, scale: str) -> None:
    """A factor per channel meets the column of its own group; integer weights get a gain or refuse."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = Convolution(nn.Conv2d(4, 8, 3, padding=1, groups=groups)).double()
        neuron = MultiBit(1, 1, train_amplitude="channel", raw_amplitude=True).replicate(4).double()
        neuron.emission.raw_amplitude.data.copy_(torch.tensor([0.5, 1.5, 2.0, 0.7]))
        x = torch.randn(2, 3, 4, 6, 6, dtype=torch.float64)
    real = nn.Sequential(neuron, conv).eval()
    folded = fold(real, x)
    torch.testing.assert_close(folded(x), real(x), rtol=1e-12, atol=1e-12)
    wrong = conv.weight.detach() * 0.5
    assert not torch.allclose(folded.graph.of_kind("synapse")[0].module.weight, wrong)  # type: ignore[union-attr]
    conv.quantize_with(Sign(scale))
    if scale == "input" and groups == 2:  # with one channel a group that is one factor a layer
        with pytest.raises(ValueError, match="a grouped convolution must have one weight factor per layer or output"):
            fold(real, x)
        return
    folded = fold(real, x)
    torch.testing.assert_close(folded(x), real(x), rtol=1e-12, atol=1e-12)
    assert list(folded.report.gains.values()) == [4]
