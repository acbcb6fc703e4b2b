"""Thresholds and decays per channel: traces by hand, and what folding, cost and kernels make of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bitspike.ann2snn.rectifier import check_neuron as check_rectifier
from bitspike.cost import cost
from bitspike.fold.folding import fold
from bitspike.layers import Linear
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Signed, Ternary
from bitspike.ops import using
from bitspike.stream import stream

CHANNELS = 3
KINDS = [LIF, Ternary, MultiBit, Integer, Signed]


def set_numbers(neuron: Neuron, factors: Tensor | None = None, decays: Tensor | None = None) -> Neuron:
    """The neuron with these factors on its thresholds and these decays, one a channel."""
    raw_threshold, raw_decay = neuron.membrane.raw_threshold, neuron.membrane.raw_decay
    with torch.no_grad():
        if factors is not None:
            assert raw_threshold is not None
            raw_threshold.copy_(factors.log())
        if decays is not None:
            assert raw_decay is not None
            raw_decay.copy_(torch.logit(decays))
    return neuron


def test_a_trace_by_hand() -> None:
    """θ = 1 and 2, decay ½, soft reset: the second channel reaches 2 only at the third step."""
    neuron = LIF(1.0, 0.5, reset="soft", train_threshold="channel").replicate(2)
    set_numbers(neuron, torch.tensor([1.0, 2.0]))
    x = torch.tensor([[[1.5, 1.5]], [[1.0, 1.0]], [[0.0, 2.0]]])
    s, state = neuron.run(x)
    assert s[:, 0].tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    # u: 1.5 → ½; 1.25 → ¼; ⅛ stays.   u: 1.5; 1.75; 2.875 → 0.875
    assert torch.allclose(state.v, torch.tensor([[0.125, 0.875]]), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_every_channel_is_a_neuron_of_its_own(kind: type[Neuron], reset: str) -> None:
    factors, decays = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.25, 0.5, 0.75])
    options = {"threshold": 1.0, "decay": 0.5, "reset": reset, "train_threshold": "channel", "learn_decay": "channel"}
    neuron = set_numbers(kind(**options).replicate(CHANNELS).double(), factors.double(), decays.double())
    x = torch.randn(6, 8, CHANNELS, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    s = neuron(x)
    for channel, (factor, decay) in enumerate(zip(factors.tolist(), decays.tolist(), strict=True)):
        alone = kind(threshold=factor, decay=decay, reset=reset)
        assert torch.equal(s[..., channel], alone(x[..., channel]))
        assert 0.02 < float((s[..., channel] != 0).double().mean()) < 0.98


def test_the_gradient_of_a_threshold_by_hand() -> None:
    """ds/df = −h(u/f)·u/f² with the default window of height 1, at f = 1 and u = 1.25; dθ/draw = θ."""
    neuron = LIF(1.0, train_threshold="layer")
    neuron(torch.tensor([[[1.25]]])).sum().backward()
    assert neuron.membrane.raw_threshold is not None
    assert neuron.membrane.raw_threshold.grad is not None
    assert neuron.membrane.raw_threshold.grad.item() == -1.25


def test_a_learned_decay_is_told_by_true_or_by_name() -> None:
    assert LIF(learn_decay=True).membrane.decay_kind == "layer"
    assert LIF(learn_decay=False).membrane.raw_decay is None
    assert list(LIF(learn_decay=True).state_dict()) == list(LIF(learn_decay="layer").state_dict())
    with pytest.raises(ValueError, match="learn_decay"):
        LIF(learn_decay="each")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LIF(floor=-1.0, train_threshold="layer"), "a floor goes with fixed thresholds"),
        (lambda: MultiBit(1, 1, learn_bits="integer", train_threshold="layer"), "where bits are fixed"),
        (lambda: Integer(3, learn_bits="integer", train_threshold="channel"), "where bits are fixed"),
        (lambda: LIF(train_threshold="neuron"), "train_threshold"),
    ],
)
def test_what_does_not_go_together_is_refused(make, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_conversion_refuses_trained_thresholds() -> None:
    with pytest.raises(ValueError, match="must be fixed"):
        check_rectifier(MultiBit(2, 2, decay=1.0, train_threshold="layer"))


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (LIF(train_threshold="layer"), "trained thresholds"),
        (LIF(learn_decay="channel").replicate(CHANNELS), "decays per channel"),
        (Adaptive(decay=0.5, learn_decay="channel").replicate(CHANNELS), "decays per channel"),
    ],
)
def test_kernels_refuse_them_with_the_reason(neuron: Neuron, reason: str) -> None:
    assert reason in str(neuron.fused())
    x = torch.ones(2, 1, CHANNELS)
    neuron(x)
    with using("native"), pytest.raises(ValueError, match=reason):
        neuron(x)


@pytest.mark.parametrize("kind", KINDS)
def test_fold_cost_and_stream_keep_them(kind: type[Neuron]) -> None:
    torch.manual_seed(0)
    options = {"decay": 0.5, "train_threshold": "channel", "learn_decay": "channel"}
    net = nn.Sequential(
        Linear(4, CHANNELS), kind(amplitude=1.5, train_amplitude="channel", **options).replicate(CHANNELS), Linear(3, 2)
    ).eval()
    set_numbers(net[1], torch.tensor([0.5, 0.8, 1.3]), torch.tensor([0.25, 0.5, 0.7]))
    x = 2 * torch.randn(5, 6, 4)
    folded = fold(net, x)
    assert folded.report.layers["_1"].rate > 0.02
    assert folded.report.forced_flips == 0
    whole, _ = stream(net, x)
    first, states = stream(net, x[:2])
    rest, _ = stream(net, x[2:], states)
    assert torch.equal(torch.cat([first, rest]), whole)
    plain = nn.Sequential(net[0], kind(decay=0.3).replicate(CHANNELS), net[2])
    one, other = (cost(each, x).elements[0] for each in (net, plain))
    assert one.updates == other.updates
    assert one.shifts > 0, "a decay of ¼ and one of ½ are shifts"
    assert math.isclose(one.side_multiplications + one.shifts, other.side_multiplications + other.shifts)


def test_features_last() -> None:
    neuron = LIF(train_threshold="channel").replicate(CHANNELS, channel_dim=-1)
    set_numbers(neuron, torch.tensor([0.5, 1.0, 2.0]))
    x = torch.full((1, 2, 4, CHANNELS), 1.0)
    assert neuron(x)[0, 0, 0].tolist() == [1.0, 1.0, 0.0]
    told_nothing = LIF(train_threshold="channel").replicate(CHANNELS)
    with pytest.raises(ValueError, match="which of three axes"):
        told_nothing(torch.ones(1, 2, CHANNELS, 4))
