"""Losses and spike penalties: values by hand, gradients, and what training with them does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bitspike import observe
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.training.losses import mean_loss, tet_loss
from bitspike.training.penalty import SpikePenalty, WithPenalty
from networks import rng


def cross_entropy(logits: list[float], label: int, smoothing: float = 0.0) -> float:
    """``−Σ_k q_k·log softmax_k`` with q = (1 − ε)·one-hot + ε/K, by hand."""
    total = math.log(sum(math.exp(v) for v in logits))
    logs = [v - total for v in logits]
    return -(1 - smoothing) * logs[label] - smoothing * sum(logs) / len(logs)


LOGITS = [[[1.0, -1.0, 0.5], [0.0, 2.0, 0.0]], [[3.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]]  # [T = 2, B = 2, K = 3]
LABELS = [0, 2]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_loss_by_hand(smoothing: float) -> None:
    logits, labels = torch.tensor(LOGITS), torch.tensor(LABELS)
    means = [[(a + b) / 2 for a, b in zip(LOGITS[0][i], LOGITS[1][i], strict=True)] for i in range(2)]
    wanted = sum(cross_entropy(means[i], LABELS[i], smoothing) for i in range(2)) / 2
    assert float(mean_loss(logits, labels, smoothing)) == pytest.approx(wanted, abs=1e-6)
    assert float(mean_loss(logits.mean(0), labels, smoothing)) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("weight", "target"), [(0.0, 1.0), (1.0, 1.0), (1e-3, 1.0), (0.25, 0.5)])
def test_tet_loss_by_hand(weight: float, target: float, smoothing: float) -> None:
    entropies = [cross_entropy(LOGITS[t][b], LABELS[b], smoothing) for t in range(2) for b in range(2)]
    squares = [(v - target) ** 2 for step in LOGITS for row in step for v in row]
    wanted = (1 - weight) * sum(entropies) / 4 + weight * sum(squares) / 12
    got = tet_loss(torch.tensor(LOGITS), torch.tensor(LABELS), weight, target, smoothing)
    assert float(got) == pytest.approx(wanted, abs=1e-6)


def test_tet_loss_is_not_the_loss_of_the_mean() -> None:
    logits, labels = torch.tensor(LOGITS), torch.tensor(LABELS)
    assert tet_loss(logits, labels, 0.0) > mean_loss(logits, labels) + 1e-3
    assert tet_loss(logits[:1], labels, 0.0) == pytest.approx(float(mean_loss(logits[:1], labels)))


def test_tet_loss_needs_a_time_axis() -> None:
    with pytest.raises(ValueError, match=r'^tet_loss: logits must be \[T, B, K\], got \[2, 3\]; choose readout = "st'):
        tet_loss(torch.zeros(2, 3), torch.tensor(LABELS))


def penalty_of(net: nn.Module, x: Tensor, kind: str, weight: float, target: float, per_layer: bool) -> Tensor:
    return WithPenalty(net, SpikePenalty(kind, weight, target, per_layer))(x)[1]


# Two layers, one step: levels 0, 1, 2, 3 (3 of 4 fire, 4 set bits), then binary with 1 of 2 firing.
PAIR = nn.Sequential(MultiBit(1, 1, amplitude=0.731), Linear(4, 2, bias=False), LIF(1.0, amplitude=1.37))
LEVELS = torch.tensor([[[0.1, 0.5, 1.0, 1.7]]])
with torch.no_grad():
    PAIR[1].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("kind", "per_layer", "wanted"),
    [
        ("rate", False, 3.0 * ((3 + 1) / 6 - 0.2) ** 2),
        ("rate", True, 3.0 * ((0.75 - 0.2) ** 2 + (0.5 - 0.2) ** 2) / 2),
        ("bits", False, 3.0 * ((4 + 1) / 6 - 0.2) ** 2),
        ("bits", True, 3.0 * ((1.0 - 0.2) ** 2 + (0.5 - 0.2) ** 2) / 2),
    ],
)
def test_values_by_hand(kind: str, per_layer: bool, wanted: float) -> None:
    assert penalty_of(PAIR, LEVELS, kind, 3.0, 0.2, per_layer).item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("per_layer", [True, False])
def test_one_side_costs_above_the_target_alone(per_layer: bool) -> None:
    """Rates 0.75 and 0.5, together 4/6; below the target neither a cost nor a gradient."""
    above = SpikePenalty("rate", 3.0, 0.6, per_layer, "above")
    wanted = 3.0 * (0.75 - 0.6) ** 2 / 2 if per_layer else 3.0 * (4 / 6 - 0.6) ** 2
    assert WithPenalty(PAIR, above)(LEVELS)[1].item() == pytest.approx(wanted, abs=1e-6)
    x = LEVELS.clone().requires_grad_()
    cost = WithPenalty(PAIR, SpikePenalty("rate", 3.0, 0.8, per_layer, "above"))(x)[1]
    assert cost.item() == 0.0 and not torch.autograd.grad(cost, x)[0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "neuron", [LIF(1.0), MultiBit(1, 1), MultiBit(2, 0), Signed(1), Signed(3)], ids=lambda n: type(n).__name__
)
def test_the_rate_in_one_pass_is_that_of_six(neuron: Neuron, dtype: torch.dtype) -> None:
    """Values and gradients of levels on both sides of 1, beside the plain form that any amplitude takes."""
    low, high, unit = neuron.format.low, neuron.format.high, 2.0**-neuron.format.fraction_bits
    spikes = (torch.randint(low, high + 1, (2, 3, 5, 4), generator=rng(0)) * unit).to(dtype).requires_grad_()
    penalty = SpikePenalty("rate", 1.0, 0.0, False)
    quick, plain = penalty._total(neuron, spikes), penalty._activity(neuron, spikes).sum()
    assert quick.item() == plain.item() == (spikes != 0).sum().item() and quick.dtype == plain.dtype
    found, wanted = (torch.autograd.grad(total, spikes)[0] for total in (quick, plain))
    assert torch.equal(found, wanted) and found.any()


def test_a_share_of_the_penalty_is_of_that_of_the_spikes_alone() -> None:
    class Pull(torch.nn.Module):
        def forward(self) -> Tensor:
            return torch.tensor(5.0)

    network = WithPenalty(PAIR, SpikePenalty("rate", 3.0, 0.0, False), Pull())
    whole = 3.0 * (4 / 6) ** 2
    assert network(LEVELS)[1].item() == pytest.approx(5 + whole)
    assert network(LEVELS, torch.tensor(0.25))[1].item() == pytest.approx(5 + whole / 4)


def test_the_output_is_that_of_the_network() -> None:
    output, _ = WithPenalty(PAIR, SpikePenalty("rate", 1.0, 0.1, True))(LEVELS)
    assert torch.equal(output, PAIR(LEVELS)) and output.abs().sum() > 0


@pytest.mark.parametrize("kind", ["rate", "bits"])
@pytest.mark.parametrize(
    ("neuron", "bits"),
    [(LIF(1.0), 1), (Ternary(1.0, amplitude=2.0), 1), (Integer(3, amplitude=1.37), None), (Real(1.0), 32)],
)
def test_the_activity_is_what_observe_counts(neuron: Neuron, bits: int | None, kind: str) -> None:
    x = torch.randn(3, 5, 40, generator=rng(0)) * 2
    net = nn.Sequential(neuron)
    seen = observe(net, [x])["_0"]
    wanted = seen.rate if kind == "rate" else seen.bits_per_step
    assert 0.02 < seen.rate < 0.98
    if bits is not None and kind == "bits":
        assert wanted == pytest.approx(bits * seen.rate)
    assert float(penalty_of(net, x, kind, 1.0, 0.0, False)) == pytest.approx(wanted**2, rel=1e-5)


@pytest.mark.parametrize("sharing", ["layer", "channel"])
@pytest.mark.parametrize("kind", ["rate", "bits"])
def test_the_value_of_a_spike_is_no_activity(kind: str, sharing: str) -> None:
    """An amplitude changes no spike of its own layer: no gradient reaches it."""
    neuron = MultiBit(1, 1, amplitude=1.37, train_amplitude=sharing).replicate(4)
    net = nn.Sequential(Linear(4, 4), neuron)
    penalty_of(net, torch.rand(3, 5, 4, generator=rng(0)) * 4, kind, 1.0, 0.0, False).backward()
    assert net[0].weight.grad is not None and net[0].weight.grad.abs().max() > 1e-3
    raw = neuron.emission.raw_amplitude
    assert raw is not None and (raw.grad is None or raw.grad.abs().max() < 1e-7)


@pytest.mark.parametrize(("target", "sign"), [(0.0, 1.0), (1.0, -1.0)])
@pytest.mark.parametrize("kind", ["rate", "bits"])
@pytest.mark.parametrize("neuron", [LIF(1.0), MultiBit(1, 1), Integer(4), Real(0.5, gradient="surrogate")])
def test_the_gradient_points_to_the_target(neuron: Neuron, kind: str, target: float, sign: float) -> None:
    """Above the target the current is to fall, below it to rise; inside the surrogate's window."""
    x = torch.tensor([[[0.9, 0.3, 1.1]]], requires_grad=True)
    target = 40.0 * target if kind == "bits" else target
    penalty_of(nn.Sequential(neuron), x, kind, 1.0, target, False).backward()
    assert x.grad is not None and (sign * x.grad >= 0).all() and (sign * x.grad).sum() > 0


@pytest.mark.parametrize("kind", ["rate", "bits"])
@pytest.mark.parametrize("neuron", [LIF(1.0), MultiBit(1, 1, threshold=2.0), Integer(4, threshold=2.0)])
def test_a_silent_neuron_near_its_threshold_is_raised(neuron: Neuron, kind: str) -> None:
    x = torch.tensor([[[0.9]]], requires_grad=True)
    assert neuron(x).sum() == 0
    penalty_of(nn.Sequential(neuron), x, kind, 1.0, 0.5, False).backward()
    assert x.grad is not None and float(x.grad) < 0


def test_gradients_by_hand() -> None:
    """rate: dk/du where |k| <= 1; bits: dk/du times bits/max|k| = 2/3. Window of MultiBit: width Δ, height 1/Δ = 2."""
    x = torch.tensor([[[0.6, 1.1]]], requires_grad=True)  # levels 1 and 2
    neuron = nn.Sequential(MultiBit(1, 1, decay=0.0, amplitude=1.37))
    slope = torch.autograd.grad(neuron(x).sum(), x)[0] / (1.37 / 2)
    assert (slope > 0).all()
    rate = torch.autograd.grad(penalty_of(neuron, x, "rate", 1.0, 0.0, False), x)[0]
    assert torch.allclose(rate, 2 * 1.0 * slope * torch.tensor([1.0, 0.0]) / 2)
    bits = torch.autograd.grad(penalty_of(neuron, x, "bits", 1.0, 0.0, False), x)[0]
    assert torch.allclose(bits, 2 * 1.0 * slope * (2 / 3) / 2)


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("kind", ["rate", "bits"])
def test_training_with_the_penalty_moves_the_activity(kind: str, per_layer: bool) -> None:
    def trained(weight: float, target: float) -> float:
        torch.manual_seed(0)
        net = nn.Sequential(
            Repeat(2), Linear(8, 16), MultiBit(1, 1), Linear(16, 16), MultiBit(1, 1), Linear(16, 2), MeanReadout()
        )
        x = torch.randn(64, 8, generator=rng(0))
        labels = (x[:, 0] > 0).long()
        network = WithPenalty(net, SpikePenalty(kind, weight, target, per_layer))
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(60):
            output, extra = network(x)
            optimiser.zero_grad()
            (mean_loss(output, labels) + extra).backward()
            optimiser.step()
        seen = observe(net, [x]).values()
        return sum(a.rate if kind == "rate" else a.bits_per_step for a in seen) / 2

    free, lowered, raised = trained(0.0, 0.0), trained(5.0, 0.05), trained(5.0, 0.9)
    assert 0.02 < lowered < 0.7 * free and 1.2 * free < raised < 1.0, (free, lowered, raised)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="SpikePenalty: kind must be one of 'rate', 'bits', got 'rats'"):
        SpikePenalty("rats", 1.0, 0.1, False)
    with pytest.raises(ValueError, match="SpikePenalty: side must be one of 'both', 'above', got 'over'"):
        SpikePenalty("rate", 1.0, 0.1, False, "over")
    with pytest.raises(ValueError, match="SpikePenalty: the network must have neurons, got none"):
        penalty_of(nn.Sequential(Linear(2, 2)), torch.zeros(1, 1, 2), "rate", 1.0, 0.1, False)
