"""Powers of two: levels, ties and gradients by hand; folding, packing, int8 and recipes keep them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.cost import cost
from bitspike.data import load
from bitspike.formats import WeightFormat, pack, unpack
from bitspike.layers import Conv2d, MeanReadout, Synapse
from bitspike.models import Policy, mlp
from bitspike.neurons import LIF, MultiBit
from bitspike.ops.convolve_int8 import missing
from bitspike.quantizers import Fixed, PowerOfTwo
from bitspike.training import build_model, recipe_from_mapping


def at(top: float, bits: int, scale: str = "layer", w: Tensor | None = None) -> PowerOfTwo:
    own = PowerOfTwo(bits, scale).replicate(torch.ones(1, 1) if w is None else w)
    assert isinstance(own, PowerOfTwo) and own.top is not None
    own.top.data.fill_(top)
    return own


def test_ties_go_away_from_zero() -> None:
    """α = 1, 3 bits: levels 0, ±¼, ±½, ±1; halfway lie 1/8, 3/8 and 3/4."""
    w = [0.125, -0.125, 0.12499999, 0.375, -0.375, 0.3749, 0.75, -0.75, 0.7499, 9.0, -9.0, 0.0]
    levels, scale = at(1.0, 3).to_int(torch.tensor([w]))
    assert levels.tolist() == [[1, -1, 0, 2, -2, 1, 4, -4, 2, 4, -4, 0]] and scale.tolist() == [[0.25]]


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_every_weight_takes_the_level_next_to_it(bits: int) -> None:
    own = at(0.75, bits, w=torch.ones(1, 1, dtype=torch.float64))
    assert own.format.levels == 2**bits - 1 and own.bits == bits
    w = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64).reshape(1, -1)
    k, scale = own.to_int(w)
    every = torch.tensor(list(own.format.grid()), dtype=torch.float64) * scale.reshape(())
    away = (w.reshape(-1, 1) - every).abs().min(1).values
    torch.testing.assert_close((w - k * scale).abs().reshape(-1), away, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("greatest", "start"), [(0.74, 0.5), (0.76, 1.0), (1.49, 1.0), (1.51, 2.0), (0.0, 1e-5)])
def test_alpha_starts_at_the_power_of_two_next_to_the_greatest_weight(greatest: float, start: float) -> None:
    w = torch.tensor([[0.0, -greatest], [greatest / 8, 0.0]])
    assert PowerOfTwo(3).replicate(w).to_int(w)[1].item() * 4 == pytest.approx(start)
    each = 4 * PowerOfTwo(3, "output").replicate(w).to_int(w)[1]
    assert each.flatten().tolist() == pytest.approx([start, max(start / 8, 1e-5)])


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("sharing", ["layer", "output"])
@pytest.mark.parametrize("bits", [3, 4, 5])
def test_gradients_by_hand(bits: int, sharing: str, scaled: bool) -> None:
    """dL/dw = g·[|w| <= α]; dL/dα = Σ g·(in·(k·2^−n − w/α) + out·sign w)·G, G = 1/√N."""
    w, g = torch.randn(4, 3, 2, dtype=torch.float64), torch.randn(4, 3, 2, dtype=torch.float64)
    w.view(-1)[5] = 0.0
    w.requires_grad_()
    own = PowerOfTwo(bits, sharing, scale_gradient=scaled).replicate(w)
    assert isinstance(own, PowerOfTwo) and own.top is not None
    own.top.data *= 0.37  # so that some weights clip
    own(w).backward(g)
    tops, n = own.top.detach().flatten().tolist(), 2 ** (bits - 1) - 2
    levels = [sign * 2.0**-e for e in range(n + 1) for sign in (1, -1)] + [0.0]
    by_w, by_top, clipped = [], [0.0] * len(tops), 0
    for index, (weight, grad) in enumerate(zip(w.flatten().tolist(), g.flatten().tolist(), strict=True)):
        place = index // 6 if sharing == "output" else 0
        ratio = weight / tops[place]
        nearest = min(levels, key=lambda level: abs(level - ratio))
        clipped += abs(ratio) > 1
        by_w.append(grad * (abs(ratio) <= 1))
        by_top[place] += grad * (nearest - ratio if abs(ratio) <= 1 else math.copysign(1, ratio))
    gain = 1 / math.sqrt(w.numel() / len(tops)) if scaled else 1.0
    assert w.grad is not None and own.top.grad is not None and 0 < clipped < w.numel()
    assert w.grad.flatten().tolist() == pytest.approx(by_w, rel=1e-12)
    assert own.top.grad.flatten().tolist() == pytest.approx([gain * b for b in by_top], rel=1e-12, abs=1e-12)


def test_alpha_stays_positive() -> None:
    own = at(-1.0, 4)
    own(torch.ones(1, 3)).sum().backward()
    assert own.to_int(torch.ones(1, 3))[1].item() == pytest.approx(1e-5 / 64)
    assert own.top is not None and own.top.grad is not None and own.top.grad.item() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"bits": 2}, "[3, 5]"), ({"bits": 6}, "[3, 5]"), ({"scale": "input"}, "'input'"), ({"scale": "none"}, "'none'")],
)
def test_bad_values(options: dict, words: str, refuses) -> None:
    with refuses("PowerOfTwo", words):
        PowerOfTwo(**options)


def test_it_must_be_initialised(refuses) -> None:
    with refuses("PowerOfTwo", "replicate"):
        PowerOfTwo()(torch.ones(1, 1))


@pytest.mark.parametrize("scale", ["layer", "output"])
def test_folding_leaves_packed_integers(scale: str) -> None:
    """Bit for bit: α starts at a power of two, so both networks compute the same numbers."""
    torch.manual_seed(0)
    x = torch.randint(0, 5, (16, 8)).float() / 4
    net = mlp(MultiBit(2, 0, threshold=0.5), PowerOfTwo(4, scale), T=2, shape=(8,), hidden=[12, 12], policy=Policy())
    folded = bitspike.fold(net.eval(), x)
    assert torch.equal(folded(x), net(x)) or folded.report.max_logit_difference < 1e-5
    synapses = [m for m in folded.modules() if isinstance(m, Synapse)]
    assert len(synapses) == 3
    for synapse in synapses:
        record, k = synapse.quantizer.format, synapse.weight.detach()
        assert isinstance(synapse.quantizer, Fixed)
        assert record == WeightFormat(-64, 64, spacing="power")
        assert set(k.flatten().tolist()) <= {0.0, *(s * 2.0**e for s in (1, -1) for e in range(7))}
        packed = pack(k.long(), record)
        assert packed.numel() == -(-k.numel() * 4 // 8)
        assert torch.equal(unpack(packed, record, tuple(k.shape)), k.long())
    assert {row.weight_bits for row in cost(folded.graph, x).synapses} == {4}


@pytest.mark.skipif(bool(missing()), reason=f"not run: {missing()}")
@pytest.mark.parametrize(("bits", "taken"), [(3, 1), (4, 1), (5, 0)])
def test_int8_is_exact_or_refuses(bits: int, taken: int) -> None:
    """4 bits reach ±64 and fit; 5 bits reach ±2^14 and must stay in floating point."""
    torch.manual_seed(0)
    net = nn.Sequential(MultiBit(2, 0, decay=0.0), Conv2d(4, 3, 3, weight=PowerOfTwo(bits)), MeanReadout())
    x = torch.randint(0, 4, (1, 2, 4, 6, 6)).float()
    x = x[0].contiguous(memory_format=torch.channels_last).unsqueeze(0)
    with bitspike.int8() as record:
        y = net(x)
    assert record.taken == taken, record.report()
    assert taken or "do not fit -127..127" in record.report()
    assert torch.equal(y, net(x))  # α is a power of two: floating point is exact, too


def test_a_recipe_takes_it() -> None:
    digits = load("digits")
    recipe = recipe_from_mapping(
        {
            "name": "powers on digits",
            "neuron": {"name": "lif"},
            "weight": {"name": "power_of_two", "bits": 4, "scale": "output"},
            "model": {"name": "mlp", "options": {"hidden": [8, 8]}},
        }
    )
    net = build_model(recipe, digits.train)
    found = [m.quantizer for m in net.modules() if isinstance(m, Synapse) and isinstance(m.quantizer, PowerOfTwo)]
    assert found and all(q.bits == 4 and q.format.scale == "output" for q in found)
    assert any(isinstance(m, LIF) for m in net.modules())
