"""Membrane potentials as a signal: equal to those that fired, by hand, over chunks, gradients, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike import trace
from bitspike.layers import Potential
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Real, Ternary
from bitspike.observe import potentials
from networks import rng

KINDS: dict[str, Neuron] = {
    "lif": LIF(threshold=0.5, decay=0.25),
    "soft": LIF(threshold=0.5, decay=0.75, reset="soft", amplitude=1.37),
    "started": LIF(decay=1.0, reset="soft", initial=0.5),
    "ternary": Ternary(amplitude=0.731),
    "multibit": MultiBit(1, 2),
    "hard": MultiBit(2, 1, reset="hard", detach_reset=False, amplitude=3.3),
    "integer": Integer(4),
}


def currents(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=rng(3), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_membrane_that_fired(kind: str, dtype: torch.dtype) -> None:
    neuron, x = KINDS[kind], currents(6, 4, 5, dtype=dtype)
    s = neuron(x)
    assert 0.02 < (s != 0).double().mean() < 0.98
    assert torch.equal(Potential(neuron)(x, s), potentials(neuron, x))


def test_by_hand_with_spikes_of_any_origin() -> None:
    """decay ½, soft: u1 = 0.75 sends 1 → −0.25; u2 = −0.125 + 1 = 0.875 sends nothing; u3 = 0.4375."""
    x = torch.tensor([0.75, 1.0, 0.0]).reshape(3, 1, 1)
    s = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)  # not what the neuron would send
    assert Potential(LIF(reset="soft"))(x, s).flatten().tolist() == [0.75, 0.875, 0.4375]


def test_chunks_equal_the_whole() -> None:
    neuron, x = MultiBit(1, 1), currents(5, 2, 3)
    s, layer = neuron(x), Potential(neuron)
    first, state = layer.stream_step(x[:2], s[:2], None)
    rest, _ = layer.stream_step(x[2:], s[2:], state)
    assert torch.equal(torch.cat([first, rest]), layer(x, s))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_currents_as_through_the_neuron(kind: str) -> None:
    """Detached resets: of the currents alone. Others: through the spikes, by the neuron's own surrogate."""
    neuron, weights = KINDS[kind], currents(4, 3, 2)
    found = []
    for own in (True, False):
        x = currents(4, 3, 2).requires_grad_()
        u = Potential(neuron)(x, neuron(x)) if own else potentials(neuron, x)
        (u * weights).sum().backward()
        assert x.grad is not None and x.grad.abs().min() > 0
        found.append(x.grad)
    torch.testing.assert_close(*found, rtol=0, atol=1e-14)


def test_it_has_no_parameters_and_is_a_leaf() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = MultiBit()
            self.potential = Potential(self.neuron)

        def forward(self, x: Tensor) -> Tensor:
            return self.potential(x, self.neuron(x))  # type: ignore[no-any-return]

    net = Net()
    assert not list(net.parameters()) and not net.state_dict()
    node = trace(net)["potential"]
    assert (node.kind, node.format, node.sources, node.inputs) == ("layer", None, (), ("x", "neuron"))


@pytest.mark.parametrize(
    ("neuron", "why"),
    [
        (Real(), "Real with real spikes"),
        (MultiBit(learn_decay=True), "MultiBit with a learned decay"),
        (LIF(train_amplitude="channel").replicate(3), "LIF with a learned amplitude"),
        (Adaptive(), "Adaptive"),
    ],
)
def test_refusals(neuron: Neuron, why: str) -> None:
    with pytest.raises(ValueError, match=f"Potential: the neuron must emit levels .*{why}"):
        Potential(neuron)
