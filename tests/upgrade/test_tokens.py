"""`upgrade` of networks over tokens [B, N, F]: numbers per channel belong to features where a linear map says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bitspike import ann2snn, fold, upgrade
from bitspike.neurons import MultiBit, Neuron, Ternary
from conftest import Refuses

PER_CHANNEL = Ternary(train_amplitude="channel")


def neurons(net: nn.Module) -> list[Neuron]:
    return [module for module in net.modules() if isinstance(module, Neuron)]


@pytest.mark.parametrize(("tokens", "features"), [(5, 5), (3, 5)])
def test_linear_maps_say_that_features_are_last(tokens: int, features: int) -> None:
    torch.manual_seed(0)
    mixed = (nn.Linear(4, features), nn.ReLU(), nn.LayerNorm(features), nn.Dropout(0.1), nn.ReLU())
    net = nn.Sequential(*mixed, nn.Flatten(), nn.Linear(tokens * features, 3)).eval()
    x = torch.randn(8, tokens, 4)
    spiking = upgrade(net, {nn.ReLU: PER_CHANNEL}, sample=x[:2], T=3).eval()
    for neuron in neurons(spiking):
        assert neuron.emission.channel_dim == -1
        numbers = neuron.emission.raw_amplitude
        assert numbers is not None and numbers.shape == (features,)
        numbers.data.uniform_(-0.5, 0.5)
    folded = fold(spiking, x)
    assert sorted(folded.report.gains.values()) == [features, features]
    assert folded.report.forced_flips == 0 and folded.report.agreement == 1


class Read(nn.Module):
    """A function of an input, an activation, the mean over what is left."""

    def __init__(self, body: nn.Module, function: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.body, self.function, self.act = body, function, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.function(self.body(x))).flatten(1)


def test_convolutions_say_that_channels_are_in_front() -> None:
    spiking = upgrade(Read(nn.Conv1d(4, 6, 3, padding=1)), {nn.ReLU: PER_CHANNEL}, sample=torch.randn(2, 4, 6), T=2)
    (neuron,) = neurons(spiking)
    assert neuron.emission.channel_dim == 1 and neuron.emission.scale().shape == (6,)
    assert spiking(torch.randn(2, 4, 6)).shape == (2, 36)


class Residual(nn.Module):
    """A sum of tokens, one branch of which says what its last axis is."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.linear, self.second, self.act = nn.Linear(6, 6), second, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.act((self.second(x) + self.linear(x)) * 0.5).flatten(1)


def test_branches_of_a_sum_tell_if_they_agree(refuses: Refuses) -> None:
    x = torch.randn(2, 6, 6)
    for second in (nn.Identity(), nn.LayerNorm(6)):
        (neuron,) = neurons(upgrade(Residual(second), {nn.ReLU: PER_CHANNEL}, sample=x, T=2))
        assert neuron.emission.channel_dim == -1
    with refuses("upgrade act", "channel_dim=-1"):
        upgrade(Residual(nn.Conv1d(6, 6, 1)), {nn.ReLU: PER_CHANNEL}, sample=x, T=2)


def test_what_nothing_tells_is_refused_and_may_be_told(refuses: Refuses) -> None:
    model, x = Read(nn.Linear(4, 6), lambda x: x.transpose(1, 2)), torch.randn(2, 6, 4)
    with refuses("upgrade act", "channel_dim=-1", "[2, 6, 6]"):
        upgrade(model, {nn.ReLU: PER_CHANNEL}, sample=x, T=2)
    assert upgrade(model, {nn.ReLU: Ternary()}, sample=x, T=2)(x).shape == (2, 36)  # nothing per channel
    for told in (1, -1):
        spiking = upgrade(model, {nn.ReLU: PER_CHANNEL.replicate(1, channel_dim=told)}, sample=x, T=2)
        assert neurons(spiking)[0].emission.channel_dim == told
        assert spiking(x).shape == (2, 36)


def test_a_converted_network_of_one_dimension_knows_its_channels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)).eval()
    converted = ann2snn(net, MultiBit(1, 1, decay=1.0), torch.rand(8, 4, 8), T=2)
    assert converted(torch.rand(2, 4, 8)).shape == (2, 3)
