"""A network in chunks equals the network in one run, with explicit state per call site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import detach, fold, observe, stream, trace
from bitspike.layers import BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Repeat, TimeLayer
from bitspike.neurons import LIF, Integer, MembraneState
from networks import SHAPE, SPIKING, WEIGHTS, dyadic, liven, make_neuron, pool_net, rng, samples, small_cnn

Step = Callable[[Tensor, dict[str, Any] | None], tuple[Tensor, dict[str, Any]]]


def sequence(T: int, batch: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    """Inputs [T, B, 2, 8, 8] that change over time, on a dyadic grid."""
    return dyadic(torch.randn(T, batch, *SHAPE, generator=rng(T), dtype=dtype), 8)


def network(spiking: str, readout: str = "mean", weight: str = "float", T: int = 4) -> nn.Module:
    """The residual network with dyadic weights, so that sums do not depend on their order."""
    neuron = make_neuron(spiking, amplitude=2.0, decay=0.5)
    return liven(small_cnn(neuron, WEIGHTS[weight](), T=T, readout=readout), samples(8), grid=16)


def in_chunks(step: Step, x_seq: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor], dict[str, Any]]:
    outputs, states = [], None
    for chunk in x_seq.split(list(sizes)):
        y, states = step(chunk, states)
        outputs.append(y)
    assert states is not None
    return outputs, states


@pytest.mark.parametrize("T", range(1, 9))
@pytest.mark.parametrize("spiking", SPIKING)
@torch.no_grad()
def test_chunks_equal_the_whole_run(spiking: str, T: int) -> None:
    net = network(spiking, "steps")
    graph, x_seq = trace(net), sequence(T)
    whole = net.readout(net.body(x_seq))
    once, final = stream(graph, x_seq)
    assert torch.equal(once, whole)
    uneven = [n for n in (1, 3, 2) if n <= T]
    for sizes in ([1] * T, [T - T // 2, T // 2] if T > 1 else [1], [*uneven, T - sum(uneven)] if T > 6 else [T]):
        outputs, states = in_chunks(lambda x, s: stream(graph, x, s), x_seq, sizes)
        assert torch.equal(torch.cat(outputs), whole)
        for name, state in final.items():
            assert all(torch.equal(a, b) for a, b in zip(state, states[name], strict=True)), name


@pytest.mark.parametrize("spiking", [name for name in SPIKING if name != "real"])
@torch.no_grad()
def test_chunks_equal_the_whole_run_in_float32(spiking: str) -> None:
    net, x_seq = network(spiking, "steps").float(), sequence(8, dtype=torch.float32)
    outputs, _ = in_chunks(lambda x, s: stream(net, x, s), x_seq, [1, 4, 1, 2])
    assert torch.equal(torch.cat(outputs), net.readout(net.body(x_seq)))


@pytest.mark.parametrize("spiking", SPIKING)
@torch.no_grad()
def test_the_mean_read_out_is_the_mean_so_far(spiking: str) -> None:
    net, x_seq = network(spiking), sequence(6)
    outputs, states = in_chunks(lambda x, s: stream(net, x, s), x_seq, [1, 2, 3])
    for output, steps in zip(outputs, (1, 3, 6), strict=True):
        assert torch.equal(output, net.readout(net.body(x_seq[:steps])))
    assert states["readout"][1] == 6


@torch.no_grad()
def test_the_layers_fire_and_remember() -> None:
    """The comparison above means something: state changes the result, and no layer is silent."""
    net, x_seq = network("lif", "steps"), sequence(4)
    whole = net.readout(net.body(x_seq))
    afresh = torch.cat([stream(net, x)[0] for x in x_seq.split(1)])
    assert torch.equal(afresh[0], whole[0]) and not torch.equal(afresh, whole)
    rates = [activity.rate for activity in observe(net.body, [x_seq]).values()]
    assert all(0.02 < rate < 0.98 for rate in rates), rates


@pytest.mark.parametrize("spiking", SPIKING)
@torch.no_grad()
def test_a_folded_network_streams(spiking: str) -> None:
    net = network(spiking, weight="sign-input")
    x = dyadic(samples(4), 8)
    folded = fold(net, x)
    x_seq = net.encoder(x)
    outputs, _ = in_chunks(lambda c, s: stream(folded.graph, c, s), x_seq, [3, 1])
    assert torch.allclose(outputs[-1], folded(x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_pools_norms_of_spikes_and_dropout_stream() -> None:
    net = liven(pool_net(LIF(0.5)), samples(8), grid=16)
    x_seq = sequence(5)
    whole, _ = stream(net, x_seq)
    outputs, _ = in_chunks(lambda x, s: stream(net, x, s), x_seq, [2, 1, 2])
    assert torch.equal(outputs[-1], whole)


class Thrice(nn.Module):
    """One neuron, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron = LIF(1.0, decay=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.neuron(x) + self.neuron(x + x))


def test_call_sites_of_one_module_keep_states_of_their_own() -> None:
    net, x_seq = Thrice().eval(), torch.full((6, 1, 1), 0.25)
    whole, final = stream(net, x_seq)
    assert set(final) == {"neuron", "neuron_1", "neuron_2"}
    assert torch.equal(whole, net(x_seq)) and whole.sum() > 0
    outputs, states = in_chunks(lambda x, s: stream(net, x, s), x_seq, [1, 1, 3, 1])
    assert torch.equal(torch.cat(outputs), whole)
    assert float(states["neuron"].v) == 0.5 and float(states["neuron_2"].v) != 0.5


def test_states_are_passed_not_kept() -> None:
    net, x_seq = network("multibit", "steps"), sequence(3)
    first, states = stream(net, x_seq[:1])
    kept = {name: tuple(t.clone() for t in state) for name, state in states.items()}
    second, _ = stream(net, x_seq[1:], states)
    assert torch.equal(second, stream(net, x_seq[1:], states)[0])
    assert all(torch.equal(a, b) for name in kept for a, b in zip(kept[name], states[name], strict=True))
    assert torch.equal(first, stream(net, x_seq[:1], {})[0])


def test_norm_in_training_mode_is_refused_by_name() -> None:
    net = network("lif")
    net.get_submodule("body.3.norm2").train()
    with pytest.raises(ValueError, match=r"stream: .*got body_3_norm2 \(batch norm in training mode") as caught:
        stream(net, sequence(2))
    assert "\n" not in str(caught.value)


class Mixes(nn.Module):
    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.neuron, self.how = LIF(), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.neuron(x))


@pytest.mark.parametrize(
    ("how", "name"),
    [
        (lambda y: y.mean(0), "mean"),
        (lambda y: torch.relu(y), "relu"),
        (lambda y: y.flip(0), "flip"),
        (lambda y: y - y, "sub"),
    ],
)
def test_a_function_that_may_mix_time_is_refused_by_name(how: Callable[[Tensor], Tensor], name: str) -> None:
    with pytest.raises(ValueError, match=rf"stream: .*got {name} \(a function that may mix time"):
        stream(Mixes(how), torch.zeros(2, 1, 1))


def test_additions_and_harmless_torch_modules_stream() -> None:
    net = nn.Sequential(LIF(decay=1.0), nn.ReLU(), nn.Identity(), nn.Dropout(0.5)).eval()
    x_seq = torch.full((4, 1, 1), 0.5)
    outputs, _ = in_chunks(lambda x, s: stream(net, x, s), x_seq, [1, 3])
    assert torch.cat(outputs).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    added = Mixes(lambda y: y + y)
    assert torch.equal(stream(added, x_seq)[0], added(x_seq))


def test_an_unknown_torch_module_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"got _1 \(torch's Linear, which is not known to be causal"):
        stream(nn.Sequential(LIF(), nn.Linear(1, 1)), torch.zeros(2, 1, 1))


def test_a_non_causal_layer_is_refused_by_name() -> None:
    class Reverse(TimeLayer):
        causal = False

        def forward(self, x: Tensor) -> Tensor:
            return x.flip(0)

    with pytest.raises(ValueError, match=r"got _1 \(it reads later time steps"):
        stream(nn.Sequential(LIF(), Reverse()), torch.zeros(2, 1, 1))


def test_a_stateful_layer_without_stream_step_says_so() -> None:
    class Sum(TimeLayer):
        stateful = True

        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(0)

    with pytest.raises(NotImplementedError, match="Sum: a stateful layer must define stream_step"):
        stream(nn.Sequential(Sum()), torch.zeros(2, 1, 1))


def test_wrong_states_are_refused() -> None:
    net, x_seq = nn.Sequential(LIF(), LIF(), MeanReadout()).eval(), torch.ones(3, 2, 1)
    _, states = stream(net, x_seq)
    with pytest.raises(ValueError, match=r"stream: the states must be those of \['_0', '_1', '_2'\], got \['other'\]"):
        stream(net, x_seq, {"other": states["_0"]})
    with pytest.raises(ValueError, match=r"got \['_0', '_2'\]"):
        stream(net, x_seq, {name: states[name] for name in ("_0", "_2")})
    with pytest.raises(ValueError, match=r"LIF: the state must be shaped like one step \[3, 1\], got \[2, 1\]"):
        stream(net, torch.ones(2, 3, 1), states)


@pytest.mark.parametrize("x", [torch.zeros(0, 1, 1), torch.zeros(3)])
def test_a_wrong_sequence_is_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^stream: "):
        stream(nn.Sequential(LIF()), x)
    with pytest.raises(TypeError, match=r"^stream: the input must be a floating-point tensor"):
        stream(nn.Sequential(LIF()), torch.zeros(2, 1, 1, dtype=torch.int64))


def test_detached_states_cut_back_propagation() -> None:
    """Two chunks: with detach the second loss gives no gradient to the first chunk's input; without, it does."""
    torch.manual_seed(0)
    linear = Linear(3, 3, bias=False)
    net = nn.Sequential(Flatten(), linear, Integer(3, decay=0.5, detach_reset=False), Linear(3, 2), MeanReadout())
    x_seq = torch.rand(4, 2, 3) + 0.5

    def gradient(cut: bool) -> tuple[Tensor, Tensor]:
        first, second = (part.clone().requires_grad_() for part in x_seq.split(2))
        _, states = stream(net, first)
        y, _ = stream(net, second, detach(states) if cut else states)
        linear.weight.grad = None
        y.square().sum().backward()
        assert linear.weight.grad is not None and linear.weight.grad.abs().sum() > 0
        return torch.zeros_like(first) if first.grad is None else first.grad, second.grad

    through, own = gradient(cut=False)
    stopped, own_again = gradient(cut=True)
    assert through.abs().sum() > 0 and stopped.abs().sum() == 0 and own.abs().sum() > 0
    assert torch.allclose(own, own_again)


def test_detach_keeps_values_and_types() -> None:
    net = nn.Sequential(Linear(2, 2), LIF(), MeanReadout())
    _, states = stream(net, torch.ones(2, 1, 2))
    cut = detach(states)
    assert isinstance(cut["_1"], MembraneState) and not cut["_1"].v.requires_grad
    assert torch.equal(cut["_1"].v, states["_1"].v) and cut["_2"][1] == 2
    assert states["_2"][0].requires_grad and not cut["_2"][0].requires_grad


def test_the_encoder_is_left_out() -> None:
    net = nn.Sequential(Repeat(7), Conv2d(1, 2, 1), BatchNorm(2), LIF(0.1)).eval()
    assert stream(net, torch.ones(3, 2, 1, 4, 4))[0].shape == (3, 2, 2, 4, 4)
