"""Adaptive neuron: gradients against the formulas, widths and formats, per-step parameters, saving and loading."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from bitspike.neurons import Adaptive
from bitspike.testing import check_neuron


def half_away(u: float) -> int:
    whole = math.floor(abs(u))
    return int(math.copysign(whole + (abs(u) - whole >= 0.5), u))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("gradient", ["true", "release"])
@pytest.mark.parametrize(("bits", "signed"), [(1, False), (2, False), (3, False), (2, True), (4, True)])
def test_gradients_by_hand(bits: int, signed: bool, gradient: str, scaled: bool) -> None:
    """in·g to the current; in·(k − u/γ) + over·Q to γ, times 1/√(N·Q); over·ln2·γ·(Q + 1) to the bits."""
    neuron = Adaptive(bits, threshold=0.4, signed=signed, bit_gradient=gradient, scale_gradient=scaled).double()
    gamma, q = 0.4, 2 ** (bits - signed) - 1
    neuron.emission.raw_amplitude.data.fill_(gamma)  # type: ignore[union-attr]
    x = ((3 * torch.rand(1, 4, 6, dtype=torch.float64) - 1.5) * gamma * (q + 1)).requires_grad_()
    g = torch.randn(1, 4, 6, dtype=torch.float64)
    neuron(x).backward(g)
    by_x, by_step, by_bits, kinds = [], 0.0, 0.0, set()
    for value, grad in zip(x.detach().flatten().tolist(), g.flatten().tolist(), strict=True):
        u = value / gamma
        k = half_away(max(-q if signed else 0, min(q, u)))
        over = (u > q) - (signed and u < -q)
        inside = not over and (signed or u >= 0)
        kinds.add((bool(over), inside))
        by_x.append(grad * inside)
        by_step += grad * (inside * (k - u) + over * q)
        half = 0.5 if gradient == "release" and bits == 1 else 1.0
        by_bits += half * grad * over * math.log(2) * gamma * (q + 1)
    assert len(kinds) == (2 if signed else 3)
    gain = 1 / math.sqrt(x.numel() * q) if scaled else 1.0
    raw = neuron.emission.raw_amplitude
    assert x.grad is not None and raw is not None and raw.grad is not None and neuron.raw_bits is not None
    assert x.grad.flatten().tolist() == pytest.approx(by_x)
    assert raw.grad.item() == pytest.approx(by_step * gain, rel=1e-9)
    assert neuron.raw_bits.grad.item() == pytest.approx(by_bits, rel=1e-9)  # type: ignore[union-attr]


def test_the_gradient_scale_counts_one_time_step_and_the_elements_that_share_a_step_size() -> None:
    x = torch.rand(3, 4, 5, 2, 2, dtype=torch.float64) * 3
    for sharing, count in (("layer", 4 * 5 * 4), ("channel", 4 * 4)):
        found = {}
        for scaled in (True, False):
            neuron = Adaptive(2, sharing=sharing, scale_gradient=scaled, decay=0.0).replicate(5).double()
            neuron(x).sum().backward()
            found[scaled] = neuron.emission.raw_amplitude.grad  # type: ignore[union-attr]
        assert torch.allclose(found[True] * math.sqrt(count * 3), found[False], rtol=1e-12)


def test_widths_are_clipped_and_rounded() -> None:
    neuron = Adaptive(4)
    assert neuron.raw_bits is not None and neuron.bound == 6
    for raw, bits in ((4.4, 4), (4.5, 5), (0.2, 1), (-2.6, 3), (99.0, 6), (-99.0, 6)):
        neuron.raw_bits.data.fill_(raw)
        neuron.refresh()
        assert (neuron.format.bits, neuron.format.high, neuron.stairs.count) == (bits, 2**bits - 1, 2**bits - 1)
        assert neuron(torch.full((1, 1, 1), 1e4)).item() == 2**bits - 1
    signed = Adaptive(2, signed=True)
    signed.raw_bits.data.fill_(0.0)  # type: ignore[union-attr]
    signed.refresh()
    assert (signed.format.low, signed.format.high) == (-1, 1)


def test_the_width_in_use_changes_at_refresh_only() -> None:
    neuron, x = Adaptive(3), torch.full((1, 1, 1), 99.0)
    neuron.raw_bits.data.fill_(2.0)  # type: ignore[union-attr]
    assert neuron(x).item() == 7 and neuron.format.bits == 3
    neuron.refresh()
    assert neuron(x).item() == 3 and neuron.format.bits == 2


def test_the_bit_gradient_survives_the_clip() -> None:
    """Clip and rounding are straight-through, so a width at its bound can come back."""
    neuron = Adaptive(2, bound=2)
    assert neuron.raw_bits is not None
    for raw, sign in ((9.0, 1.0), (-9.0, -1.0)):
        neuron.raw_bits.data.fill_(raw)
        neuron.refresh()
        neuron.raw_bits.grad = None
        neuron(torch.full((1, 1, 1), 99.0)).sum().backward()
        assert neuron.raw_bits.grad.item() == pytest.approx(sign * math.log(2) * 4)  # type: ignore[union-attr]


def test_no_gradient_through_time() -> None:
    x = torch.rand(2, 1, 4, dtype=torch.float64, requires_grad=True)
    s = Adaptive(2, decay=0.5).double()(x)
    assert torch.autograd.grad(s[1].sum(), x)[0][0].abs().max() == 0
    leaky = Adaptive(2, threshold=0.6, decay=0.5, learn_decay=True).double()
    leaky(x).sum().backward()
    assert leaky.membrane.raw_decay.grad.abs() > 0  # type: ignore[union-attr]


def test_per_step_parameters_by_hand() -> None:
    """γ = .5, 1, 1 and B = 1, 2, 2 at the steps of one current of 1.25: k and v in exact numbers."""
    neuron = Adaptive(2, steps=2)
    neuron.emission.raw_amplitude.data.copy_(torch.tensor([[0.5], [1.0]]))  # type: ignore[union-attr]
    neuron.raw_bits.data.copy_(torch.tensor([1.0, 2.0]))  # type: ignore[union-attr]
    neuron.refresh()
    assert [record.bits for record in neuron.formats] == [1, 2] and neuron.format.bits == 2
    s, state = neuron.run(torch.full((3, 1, 1), 1.25))
    # u = 1.25 → k 1 (clipped), v .75; u = 2 → k 2, v 0; u = 1.25 → k 1, v .25
    assert s.flatten().tolist() == [0.5, 2.0, 1.0] and state.v.item() == 0.25
    first, middle = neuron.run(torch.full((1, 1, 1), 1.25))
    rest, last = neuron.run(torch.full((2, 1, 1), 1.25), middle)
    assert torch.equal(torch.cat([first, rest]), s) and last.v.item() == 0.25


@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_different_steps_keep_the_contract(sharing: str) -> None:
    neuron = Adaptive(2, steps=3, sharing=sharing, bound=4).replicate(5)
    raw = neuron.emission.raw_amplitude
    assert raw is not None and raw.shape == (3, 5 if sharing == "channel" else 1)
    raw.data *= torch.tensor([[1.0], [0.7], [1.4]])
    for bits in ([2.0, 1.0, 2.0], [1.0, 2.0, 2.0]):
        neuron.raw_bits.data.copy_(torch.tensor(bits))  # type: ignore[union-attr]
        neuron.refresh()
        check_neuron(neuron, 5, compiled=False)


def test_loading_brings_the_format() -> None:
    source, target = Adaptive(4), nn.Sequential(Adaptive(4))
    source.raw_bits.data.fill_(2.2)  # type: ignore[union-attr]
    source.refresh()
    target.load_state_dict({f"0.{name}": value for name, value in source.state_dict().items()})
    assert target[0].format == source.format and target[0].width.item() == 2
    assert copy.deepcopy(target)[0].format == source.format


def test_fixed_bits_have_no_parameter() -> None:
    neuron = Adaptive(3, learn_bits=False)
    assert [name for name, _ in neuron.named_parameters()] == ["emission.raw_amplitude"]
    neuron.refresh()
    assert neuron.format.bits == 3


def test_folded_levels_keep_their_threshold() -> None:
    """Without its amplitude the neuron fires at the same currents, whatever γ was trained to."""
    neuron = Adaptive(3).replicate(2)
    neuron.emission.raw_amplitude.data.fill_(0.37)  # type: ignore[union-attr]
    x: Tensor = torch.randn(4, 3, 2) * 2
    bare = neuron.normalised()
    assert torch.equal(bare(x) * neuron.emission.raw_amplitude, neuron(x))
    assert bare.emission.scale() == 1 and bare.format == neuron.format.unit()
    assert torch.equal(bare.threshold_scale(x), neuron.threshold_scale(x))


def test_a_step_size_stays_positive() -> None:
    neuron = Adaptive(2)
    neuron.emission.raw_amplitude.data.fill_(-1.0)  # type: ignore[union-attr]
    neuron(torch.ones(1, 1, 1)).sum().backward()
    assert neuron.emission.scale().item() == pytest.approx(1e-5)
    assert neuron.emission.raw_amplitude.grad.item() == 0  # type: ignore[union-attr]
