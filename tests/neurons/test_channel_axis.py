"""Which axis channels are: numbers per channel follow the features of tokens; three axes are never guessed."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import cost, fold, int8, lean, observe, stream
from bitspike.layers import BatchNorm, Chain, Flatten, Linear, Refined
from bitspike.layers.affine import Gain
from bitspike.neurons import LIF, NEURONS, Adaptive, MultiBit, Neuron, Real, Ternary
from bitspike.observe import levels_of, potentials
from bitspike.ops import Kernel, ScanFacts, table, using
from conftest import Refuses
from neurons.cases import CHANNELS, Options, cases

T, B, N = 4, 3, 6
KERNELS = [k for k in table() if k.operation == "scan"]
SHAPES = {"as many tokens as features": (T, B, CHANNELS, CHANNELS), "tokens": (T, B, N, CHANNELS)}
SHAPES["an image of features"] = (T, B, 2, 3, CHANNELS)
PER_CHANNEL = [
    (name, options)
    for name, options in cases(1)
    if options.get("train_amplitude") == "channel" or options.get("sharing") == "channel"
]


def build(name: str, options: Options, channel_dim: int | None = None) -> Neuron:
    """A neuron with a different number for every channel."""
    neuron = NEURONS[name](**options).replicate(CHANNELS, channel_dim)
    numbers = neuron.emission.raw_amplitude
    assert numbers is not None
    with torch.no_grad():
        numbers.add_(torch.linspace(-0.2, 0.2, CHANNELS))
    return neuron


def currents(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5


def results(neuron: Neuron, x: Tensor, kernel: str) -> list[Tensor]:
    """Spikes, states and gradients, as if tokens were samples [T, B·N, F]."""
    x = x.clone().requires_grad_()
    with using(kernel):
        s, state = neuron.run(x)
    (s * torch.linspace(0.5, 1.5, s.numel()).reshape(s.shape)).sum().backward()
    assert s.shape == x.shape and {part.shape for part in state} == {x.shape[1:]}
    grads = [p.grad for _, p in sorted(neuron.named_parameters()) if p.grad is not None]
    return [s.flatten(1, -2), *(part.flatten(0, -2) for part in state), x.grad.flatten(1, -2), *grads]  # type: ignore[union-attr]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("case", PER_CHANNEL, ids=lambda case: case[0])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_tokens_are_samples(shape: tuple[int, ...], case: tuple[str, Options], kernel: Kernel) -> None:
    """Every kernel, every result: a token is a sample, and channels are its features."""
    if kernel.home() == "cuda" and not torch.cuda.is_available():
        pytest.skip("not run: needs a GPU")
    tokens, samples = build(*case, channel_dim=-1), build(*case)
    if kernel.refuses(ScanFacts(tokens.fused(), torch.float32, torch.float32)):
        pytest.skip(f"not run: {kernel.name} refuses {case}")
    x = currents(shape)
    for found, wanted in zip(
        results(tokens, x, kernel.name), results(samples, x.flatten(1, -2), kernel.name), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("case", PER_CHANNEL, ids=lambda case: case[0])
def test_three_axes_are_refused_until_told(case: tuple[str, Options], refuses: Refuses) -> None:
    """[B, C, L] or [B, N, C]: with N = C one was silently taken for the other."""
    x = currents((T, B, CHANNELS, CHANNELS))
    for kernel in ("automatic", "reference"):
        neuron = build(*case)
        with refuses("Emission", "channel_dim=-1", "channel_dim=1"):
            if kernel == "reference":
                with using(kernel):
                    neuron(x)
            else:
                neuron(x)
    with refuses("Emission", "channel_dim=-1"):
        neuron.step(x[0], neuron.initial_state(x[0]))
    first, last = build(*case, channel_dim=1), build(*case, channel_dim=-1)
    assert torch.equal(first(x), last(x.transpose(2, 3)).transpose(2, 3))
    assert not torch.equal(first(x), last(x))
    shared = NEURONS[case[0]]()
    assert torch.equal(shared(x), shared(x.transpose(2, 3)).transpose(2, 3))  # nothing per channel, nothing to tell


@pytest.mark.parametrize("case", PER_CHANNEL, ids=lambda case: case[0])
def test_what_reads_spikes_follows(case: tuple[str, Options]) -> None:
    """A step alone, pieces, copies, levels, potentials, the neuron without amplitudes."""
    x, neuron = currents(SHAPES["tokens"]), build(*case, channel_dim=-1)
    whole, state = neuron.run(x)
    first, after = neuron.run(x[:1])
    rest, end = neuron.run(x[1:], after)
    assert torch.equal(torch.cat([first, rest]), whole) and torch.equal(end[0], state[0])
    s, _ = neuron.step(x[0], neuron.initial_state(x[0]))
    assert torch.equal(s, whole[0])
    assert torch.equal(copy.deepcopy(neuron)(x), whole)
    bare = neuron.normalised()
    levels = levels_of(neuron, whole)
    if not neuron.format.real:
        assert torch.equal(bare.emission.unscale_negative(bare(x)).double(), levels)
    flat = build(*case)
    assert torch.equal(potentials(neuron, x), potentials(flat, x.flatten(1, 2)).reshape(x.shape))
    assert neuron.replicate(7).emission.channel_dim == -1


def test_the_axis_is_one_of_two(refuses: Refuses) -> None:
    with refuses("Emission", "channel_dim"):
        LIF().replicate(4, channel_dim=2)
    with refuses("Emission", "[B, ..., 5]"):
        build("lif", {"train_amplitude": "channel"}, channel_dim=-1)(currents((T, B, 5, 4)))
    with refuses("Real", "channels in front"):
        Real().replicate(4, channel_dim=-1).rescaled(torch.ones(4))


def test_refined_and_chained() -> None:
    x = currents(SHAPES["as many tokens as features"])
    inner = build("adaptive", {"sharing": "channel"}, channel_dim=-1)
    for squeeze in ("always", "windows"):
        refined = Refined(inner, T=2, squeeze=squeeze)
        flat = Refined(build("adaptive", {"sharing": "channel"}), T=2, squeeze=squeeze)
        assert torch.equal(refined(x), flat(x.flatten(1, 2)).reshape(-1, *x.shape[1:]))
    neuron = build("ternary", {"train_amplitude": "channel"}, channel_dim=-1)
    chain, norm = Chain(BatchNorm(CHANNELS), neuron), BatchNorm(CHANNELS)
    assert torch.equal(chain(x), neuron(norm(x)))  # the norm's channels are axis 2, the neuron's the last
    with pytest.raises(ValueError, match="channel_dim=-1"):
        Chain(BatchNorm(CHANNELS), build("ternary", {"train_amplitude": "channel"}))(x)
    replicated = Refined(LIF(train_amplitude="channel")).replicate(CHANNELS, channel_dim=-1)
    assert replicated(x).shape == (1, *x.shape[1:])


@pytest.mark.parametrize("mode", [lean, int8], ids=["lean", "int8"])
def test_modes_around_a_call_read_the_same_axis(mode: Any) -> None:
    """What keeps spikes as levels, or multiplies them as integers, asks for the worth of a level."""
    neuron = build("multibit", {"train_amplitude": "channel"}, channel_dim=-1)
    net, x = Tokens(neuron, CHANNELS), currents(SHAPES["as many tokens as features"])
    found = []
    for around in (nullcontext(), mode()):
        net.zero_grad()
        with around:
            y = net(x)
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad for p in net.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_factor_of_flattened_tokens() -> None:
    factor, x = torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 1, 4, 3)
    assert torch.equal(Gain(factor, -1)(x.flatten(2)), Gain(factor, -1)(x).flatten(2))


def test_adaptive_columns() -> None:
    """What renews step sizes reads the same axis."""
    assert Adaptive(sharing="channel").replicate(4, channel_dim=-1).channel_axis == -1
    assert Adaptive(sharing="channel").channel_axis == 2
    assert Adaptive().replicate(4, channel_dim=-1).channel_axis is None


class Tokens(nn.Module):
    """Tokens [T, B, N, F] → a neuron → tokens mixed by features → logits."""

    def __init__(self, neuron: Neuron, tokens: int) -> None:
        super().__init__()
        self.neuron, self.flatten, self.out = neuron, Flatten(), Linear(tokens * CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.flatten(self.neuron(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("tokens", [CHANNELS, N])
@pytest.mark.parametrize(
    "neuron",
    [
        Ternary(train_amplitude="channel"),
        MultiBit(1, 1, train_amplitude="channel"),
        Adaptive(2, sharing="channel", threshold=0.5),
        Adaptive(2, sharing="channel", threshold=0.5, steps=3),
        Real(train_amplitude="channel"),
    ],
    ids=["ternary", "multibit", "adaptive", "adaptive by step", "real"],
)
def test_passes_follow(neuron: Neuron, tokens: int) -> None:
    """Fold, observe, cost and stream: per feature, whatever the number of tokens."""
    torch.manual_seed(0)
    own = neuron.replicate(CHANNELS, channel_dim=-1)
    with torch.no_grad():
        own.emission.raw_amplitude.add_(torch.linspace(0.0, 0.6, CHANNELS))  # type: ignore[union-attr]
    net, x = Tokens(own, tokens).double().eval(), currents((T, B, tokens, CHANNELS)).double()
    folded = fold(net, x)
    steps = own.emission.raw_amplitude.numel()  # type: ignore[union-attr]
    assert folded.report.gains == {"neuron_gain_by_feature": steps}
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-12
    torch.testing.assert_close(folded(x), net(x))
    pieces, states = stream(net, x[:1])
    rest, _ = stream(net, x[1:], states)
    torch.testing.assert_close(torch.cat([pieces, rest]), net(x))
    assert observe(net, [x])["neuron"].rate == pytest.approx(float((own(x) != 0).double().mean()))


@pytest.mark.parametrize("tokens", [CHANNELS, N])
def test_cost_counts_features(tokens: int) -> None:
    """By hand: of features worth 1, 2, 3, 0.5 and 0.3 the third and fifth take a multiplication, two a shift."""
    neuron = LIF(decay=0.0, train_amplitude="channel", raw_amplitude=True).replicate(CHANNELS, channel_dim=-1)
    values = torch.tensor([1.0, 2.0, 3.0, 0.5, 0.3])
    neuron.emission.raw_amplitude.data.copy_(values)  # type: ignore[union-attr]
    x = torch.zeros(1, 1, tokens, CHANNELS)
    x[0, 0, :, 2], x[0, 0, 0, 1] = 2.0, 2.0  # every token sends its third feature, the first one its second
    layers = {row.kind: row for row in cost(Tokens(neuron, tokens), x).layers}
    assert (layers["amplitude"].multiplications, layers["amplitude"].shifts) == (tokens, 1)
    gain = Gain(values, channel_dim=-1)
    assert torch.equal(gain(neuron.normalised()(x)), neuron(x))
    rows = {row.kind: row for row in cost(nn.Sequential(LIF(decay=0.0), gain), x).layers}
    assert (rows["gain"].multiplications, rows["gain"].shifts) == (tokens, 1)


def test_levels_in_the_cost_are_those_of_features() -> None:
    """Set bits of a level 3 are two, wherever the token stands."""
    neuron = MultiBit(2, 0, decay=0.0, train_amplitude="channel").replicate(CHANNELS, channel_dim=-1)
    neuron.emission.raw_amplitude.data.copy_(torch.linspace(-1, 1, CHANNELS))  # type: ignore[union-attr]
    x = torch.zeros(1, 1, CHANNELS, CHANNELS)
    x[..., 1] = 3.0
    (row,) = [row for row in cost(Tokens(neuron, CHANNELS), x).elements if row.kind == "neuron"]
    assert row.set_bits == pytest.approx(2 / CHANNELS)
