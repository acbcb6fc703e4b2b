"""Gradients of the quantizers against the formulas of the papers, element by element in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bitspike.quantizers import LearnedBits, Sign, TernaryWeight, Uniform

SHAPE = (4, 3, 2, 2)


def upstream() -> tuple[Tensor, Tensor]:
    """(latent weights with a zero, gradient of the quantized weight)."""
    w = torch.randn(SHAPE, dtype=torch.float64)
    w.view(-1)[5] = 0.0
    return w.requires_grad_(), torch.randn(SHAPE, dtype=torch.float64)


def group(index: int, sharing: str) -> int:
    """Which scale the weight at a flat index shares."""
    o, i = index // 12, index // 4 % 3
    return {"layer": 0, "output": o, "input": i}[sharing]


def half_away(u: float) -> int:
    whole = math.floor(abs(u))
    return int(math.copysign(whole + (abs(u) - whole >= 0.5), u))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("sharing", ["layer", "output"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_lsq_by_hand(bits: int, sharing: str, scaled: bool) -> None:
    """Adaptive bit allocation's code: dL/dw = g·in; dL/dα = Σ g·[in·(w̄ − u) + out·Q·sign(u)]·G, G = 1/√(N·Q)."""
    w, g = upstream()
    own = Uniform(bits, sharing, scale_gradient=scaled).replicate(w)
    assert own.step is not None
    own.step.data *= 0.37 if bits > 1 else 1.0  # so that some weights clip
    own(w).backward(g)
    q = 1 if bits == 1 else 2 ** (bits - 1) - 1
    steps = own.step.detach().flatten().tolist()
    gain = 1 / math.sqrt(w.numel() / len(steps) * q) if scaled else 1.0
    by_w, by_step, clipped = [], [0.0] * len(steps), 0
    for index, (weight, grad) in enumerate(zip(w.detach().flatten().tolist(), g.flatten().tolist(), strict=True)):
        place = group(index, sharing)
        u = weight / steps[place]
        level = (1 if u >= 0 else -1) if bits == 1 else half_away(max(-q, min(q, u)))
        inside = abs(u) <= q
        clipped += not inside
        by_w.append(grad * inside)
        by_step[place] += grad * (level - u if inside else math.copysign(q, u)) * gain
    assert w.grad is not None and own.step.grad is not None
    assert w.grad.flatten().tolist() == by_w
    assert own.step.grad.flatten().tolist() == pytest.approx(by_step, rel=1e-12, abs=1e-12)
    assert bits == 8 or 0 < clipped < w.numel()


def test_lsq_rounds_halves_away_from_zero() -> None:
    own = Uniform(4).replicate(torch.ones(1, 1))
    assert own.step is not None
    own.step.data.fill_(0.25)
    w = torch.tensor([[0.125, -0.125, 0.375, -0.625, 9.0, -9.0, 0.12499999]])
    assert own.to_int(w)[0].tolist() == [[1, -1, 2, -3, 7, -7, 0]]


@pytest.mark.parametrize("prototype", [Uniform(4, "output"), LearnedBits(4, scale="output")])
@pytest.mark.parametrize(("stray", "edge"), [(-1.0, 0.25 / 7), (1e-5, 0.25 / 7), (400.0, 4.0)])
def test_a_step_beyond_its_bounds_is_used_at_the_bound_and_its_gradient_leads_back_only(
    prototype: Uniform | LearnedBits, stray: float, edge: float
) -> None:
    """mean |w| = 1, max |w| = 2: α within [¼/7, 4]. A clamp at 1e-5 had no gradient beyond it, ever."""
    w = torch.tensor([[0.02, -1.98, -2.0, 0.0]])
    passes = {}
    for sign in (1, -1):
        own = prototype.replicate(w)
        own.step.data.fill_(stray)  # type: ignore[union-attr]
        latent = w.clone().requires_grad_()
        k, scale = own.to_int(w)
        assert scale.item() == pytest.approx(edge) and torch.equal(own(w), k * scale)
        own(latent).backward(sign * torch.tensor([[1.0, -1.0, 1.0, 1.0]]))
        assert latent.grad is not None and latent.grad.count_nonzero() > 0
        grad = own.step.grad  # type: ignore[union-attr]
        assert grad is not None
        passes[sign] = grad.item()
    back = [grad for grad in passes.values() if grad]
    assert len(back) == 1 and (back[0] < 0) == (stray < 1)  # descent raises a small step and lowers a large one


@pytest.mark.parametrize("prototype", [Uniform(2, "output"), LearnedBits(2, learn_bits=False, scale="output")])
@pytest.mark.parametrize("stray", [1e-5, -0.5])
def test_a_filter_before_batch_norm_learns_again(prototype: Uniform | LearnedBits, stray: float) -> None:
    """Its clipped weights have no gradient and norm takes the scale's away: at 1e-5 both stayed as they were."""
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(1, 27))
    x, wanted, start = torch.randn(256, 27), torch.randn(27, 1), w.detach().clone()
    own, norm = prototype.replicate(w), torch.nn.BatchNorm1d(1)
    own.step.data.fill_(stray)  # type: ignore[union-attr]
    optimiser = torch.optim.SGD([w, *own.parameters(), *norm.parameters()], lr=0.1, momentum=0.9)
    levels = own.to_int(w.detach())[0]
    for _ in range(50):
        loss = (norm(x @ own(w).T) - x @ wanted / wanted.norm()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (w != start).any() and (own.to_int(w.detach())[0] != levels).any()


@pytest.mark.parametrize("clip", [1.0, 0.5])
@pytest.mark.parametrize("sharing", ["layer", "output", "input"])
def test_sign_by_hand(sharing: str, clip: float) -> None:
    """dL/dW = α·dL/dW̃·[|W| <= clip]; dL/dα = Σ dL/dW̃·sign(W); with α = exp(r), dL/dr = α·dL/dα."""
    w, g = upstream()
    own = Sign(sharing, clip).replicate(w)
    own(w).backward(g)
    scale = own.to_int(w)[1].flatten().tolist()
    by_w, by_alpha = [], [0.0] * len(scale)
    for index, (weight, grad) in enumerate(zip(w.detach().flatten().tolist(), g.flatten().tolist(), strict=True)):
        place = group(index, sharing)
        by_w.append(scale[place] * grad * (abs(weight) <= clip))
        by_alpha[place] += grad * (1 if weight >= 0 else -1)
    raw = own.factor.raw_factor
    assert w.grad is not None and raw is not None and raw.grad is not None
    assert w.grad.flatten().tolist() == pytest.approx(by_w, rel=1e-12)
    assert raw.grad.flatten().tolist() == pytest.approx(
        [a * s for a, s in zip(by_alpha, scale, strict=True)], rel=1e-12
    )


@pytest.mark.parametrize("sharing", ["layer", "output", "input"])
def test_ternary_by_hand(sharing: str) -> None:
    """t = sign(w)·[|w| > 0.7·mean|w|]; the gradients are those of the sign with t in its place."""
    w, g = upstream()
    own = TernaryWeight(sharing).replicate(w)
    own(w).backward(g)
    scale = own.to_int(w)[1].flatten().tolist()
    values = w.detach().flatten().tolist()
    threshold = 0.7 * sum(map(abs, values)) / len(values)
    by_w, by_alpha, kinds = [], [0.0] * len(scale), set()
    for index, (weight, grad) in enumerate(zip(values, g.flatten().tolist(), strict=True)):
        place, level = group(index, sharing), (weight > threshold) - (weight < -threshold)
        kinds.add(level)
        by_w.append(scale[place] * grad * (abs(weight) <= 1))
        by_alpha[place] += grad * level
    raw = own.factor.raw_factor
    assert kinds == {-1, 0, 1}
    assert w.grad is not None and raw is not None and raw.grad is not None
    assert w.grad.flatten().tolist() == pytest.approx(by_w, rel=1e-12)
    assert raw.grad.flatten().tolist() == pytest.approx(
        [a * s for a, s in zip(by_alpha, scale, strict=True)], rel=1e-12
    )


@pytest.mark.parametrize("sharing", ["layer", "output"])
def test_a_factor_before_a_norm_is_inert_and_one_per_input_channel_is_not(sharing: str) -> None:
    """Behind train-mode norm the gradient of a factor vanishes for layer and output, not for input."""
    x = torch.randn(64, 6, dtype=torch.float64)
    w, target = torch.randn(5, 6, dtype=torch.float64), torch.randn(64, 5, dtype=torch.float64)
    size = {}
    for kind in (sharing, "input"):
        own = Sign(kind).replicate(w)
        y = torch.nn.functional.batch_norm(x @ own(w).T, None, None, training=True)
        (y - target).square().mean().backward()
        assert own.factor.raw_factor is not None and own.factor.raw_factor.grad is not None
        size[kind] = own.factor.raw_factor.grad.abs().max().item()
    assert size[sharing] < 1e-4 * size["input"]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("sharing", ["layer", "output"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_learned_bits_by_hand(bits: int, sharing: str, scaled: bool) -> None:
    """As LSQ, and dL/dB = Σ g·out·sign(u)·ln2·α·(Q + [B >= 2]); one bit gives ±α."""
    w, g = upstream()
    own = LearnedBits(bits, scale=sharing, scale_gradient=scaled).replicate(w)
    assert isinstance(own, LearnedBits) and own.step is not None and own.raw_bits is not None
    own.step.data *= 0.37 if bits > 1 else 1.0
    twin = Uniform(bits, sharing, scale_gradient=scaled).replicate(w)
    assert twin.step is not None
    twin.step.data.copy_(own.step.data)
    assert torch.equal(own(w), twin(w)) and own.format == twin.format
    own(w).backward(g)
    by_own = w.grad
    w.grad = None
    twin(w).backward(g)
    assert by_own is not None and w.grad is not None and torch.allclose(by_own, w.grad, rtol=1e-12)
    assert own.step.grad is not None and twin.step.grad is not None
    assert torch.allclose(own.step.grad, twin.step.grad, rtol=1e-12, atol=1e-12)
    q, by_bits, clipped = max(1, 2 ** (bits - 1) - 1), 0.0, 0
    steps = own.step.detach().flatten().tolist()
    for index, (weight, grad) in enumerate(zip(w.detach().flatten().tolist(), g.flatten().tolist(), strict=True)):
        step = steps[group(index, sharing)]
        if abs(weight / step) > q:
            clipped += 1
            by_bits += grad * math.copysign(1, weight) * math.log(2) * step * (q + (bits >= 2))
    assert 0 < clipped < w.numel() and own.raw_bits.grad is not None
    assert own.raw_bits.grad.item() == pytest.approx(by_bits, rel=1e-12)


def test_learned_bits_change_at_refresh_only() -> None:
    own = LearnedBits(3).replicate(torch.ones(1, 1))
    assert isinstance(own, LearnedBits) and own.step is not None and own.raw_bits is not None
    own.step.data.fill_(1.0)
    far = torch.tensor([[0.5] * 999 + [99.0]])
    for raw, bits, top in ((1.2, 1, 1), (2.5, 3, 3), (-4.0, 4, 7), (9.0, 5, 15), (0.0, 1, 1)):
        before = own(far)[0, -1].item()
        own.raw_bits.data.fill_(raw)
        assert own(far)[0, -1].item() == before
        own.refresh()
        assert (own.bits, own.format.high, own(far)[0, -1].item()) == (bits, top, top)
        assert own.format.stride == (2 if bits == 1 else 1)


def test_loading_learned_bits_brings_their_format() -> None:
    source, target = LearnedBits(4).replicate(torch.ones(2, 3)), LearnedBits(4).replicate(torch.ones(2, 3))
    source.raw_bits.data.fill_(2.0)  # type: ignore[union-attr, operator]
    source.refresh()  # type: ignore[operator]
    target.load_state_dict(source.state_dict())
    assert target.format == source.format and target.bits == 2
