"""Attention layers against explicit loops, in outputs and gradients; their leaves by hand; what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import trace
from bitspike.layers import ATTENTION, Attention, AxisSum, BatchNorm, MatrixProduct, Product, Refined, TokenView
from bitspike.neurons import LIF, Integer, MultiBit
from bitspike.quantizers import Quantizer, TernaryWeight, Uniform
from networks import SPIKING, make_neuron, rng

T, B, N, C, H = 3, 2, 5, 6, 2
WEIGHTS: dict[str, Callable[[], Quantizer | None]] = {
    "float": lambda: None,
    "uniform4": lambda: Uniform(4),
    "ternary-output": lambda: TernaryWeight("output"),
}


def attention(
    name: str, neuron: nn.Module, weight: Quantizer | None = None, tokens: int = N, **options: Any
) -> Attention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layer = ATTENTION[name](C, tokens, neuron, weight, **{"heads": H, **options}).double()
        for module in layer.modules():
            if isinstance(module, BatchNorm):  # so that enough fires
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(0.2, 1.2)
    return layer


def inputs(seed: int = 2) -> Tensor:
    return 2 * torch.randn(T, B, N, C, generator=rng(seed), dtype=torch.float64)


def mapped(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Linear map, norm and neuron of x [T, B, C, N], the map as a sum over channels."""
    synapse, norm, *fires = layers[0] if isinstance(layers[0], nn.Sequential) else layers
    y = norm(torch.einsum("oi,tbin->tbon", synapse.quantizer(synapse.weight)[:, :, 0, 0], x))
    for neuron in fires:
        y = neuron(y)
    return y


def reference(name: str, layer: Attention, x: Tensor) -> Tensor:
    """The equations, number by number; every sum is a loop."""
    x = x.transpose(2, 3)  # [T, B, C, N]
    q, k = mapped(layer.q, x), mapped(layer.k, x)
    d = C // layer.heads
    y = torch.zeros_like(k)
    if name == "ssa":
        v = mapped(layer.v, x)
        y, wide = torch.zeros_like(v), layer.expand * d
        for h, i, j in product(range(layer.heads), range(N), range(N)):
            score = sum(q[:, :, c, i] * k[:, :, c, j] for c in range(h * d, (h + 1) * d))
            for c in range(h * wide, (h + 1) * wide):
                one = torch.zeros_like(y)
                one[:, :, c, i] = score * v[:, :, c, j] * 0.125
                y = y + one
        y = layer.gate(y)
    elif name == "qk_token":
        sums = [sum(q[:, :, c] for c in range(h * d, (h + 1) * d)) for h in range(layer.heads)]
        mask = layer.gate[2](torch.stack(sums, 2))
        y = torch.stack([mask[:, :, c // d] * k[:, :, c] for c in range(C)], 2)
    else:
        pairs = q if name == "qk_channel" else q * k
        mask = layer.gate[1](sum(pairs[..., n : n + 1] for n in range(N)))
        of = k if name == "qk_channel" else mapped(layer.v, x)
        y = torch.stack([mask[..., 0] * of[..., n] for n in range(N)], -1)
    return mapped(layer.project, y).transpose(2, 3)


@pytest.mark.parametrize("weight", list(WEIGHTS))
@pytest.mark.parametrize("neuron", SPIKING)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_layers_are_their_equations(name: str, neuron: str, weight: str) -> None:
    learned = "layer" if neuron in ("ternary", "multibit") else "none"
    layer = attention(name, make_neuron(neuron, train_amplitude=learned), WEIGHTS[weight]())
    other, x = copy.deepcopy(layer), inputs().requires_grad_()
    again = x.detach().clone().requires_grad_()
    y, wanted = layer(x), reference(name, other, again)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-11)
    assert 0.02 < float((y != 0).double().mean()) < 0.98
    toward = torch.randn(y.shape, generator=rng(5), dtype=y.dtype)
    (y * toward).sum().backward()
    (wanted * toward).sum().backward()
    assert x.grad is not None and again.grad is not None and again.grad.any()
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-9, atol=1e-11)
    for (key, one), two in zip(layer.named_parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), key
        if one.grad is not None and two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.parametrize("expand", [2, 3])
def test_wide_values(expand: int) -> None:
    """Values and gates of e·C channels, which the projection brings back to C."""
    layer = attention("ssa", MultiBit(2), Uniform(4), expand=expand)
    assert layer.v[0][0].weight.shape[:2] == (expand * C, C) and layer.project[0].weight.shape[:2] == (C, expand * C)
    y = layer(inputs())
    torch.testing.assert_close(y, reference("ssa", layer, inputs()), rtol=0, atol=1e-11)
    assert 0.02 < float((y != 0).double().mean()) < 0.98


@pytest.mark.parametrize(
    ("tokens", "heads", "expand", "order"),
    [(5, 2, 1, "kv"), (5, 1, 1, "qk"), (1, 6, 1, "qk"), (4, 2, 4, "qk"), (5, 2, 4, "kv")],
)
def test_both_orders_are_the_same_integers(tokens: int, heads: int, expand: int, order: str) -> None:
    """With e = 4, 3 channels a head and n tokens: 5·n²·3 products against 8·n·9, the first fewer up to n = 4."""
    x = 2 * torch.randn(T, 16, tokens, C, generator=rng(2), dtype=torch.float64)
    layers = [
        attention("ssa", Integer(3), None, tokens, heads=heads, order=named, output="current", expand=expand)
        for named in ("auto", "qk", "kv")
    ]
    assert layers[0].order == order
    gates = []
    for layer in layers:
        layer.gate.register_forward_hook(lambda module, args, y: gates.append(args[0]))
        layer(x)
    assert gates[0].any() and torch.equal(gates[0], gates[1]) and torch.equal(gates[0], gates[2])


@pytest.mark.parametrize("name", list(ATTENTION))
def test_heads_of_one_channel_and_all_channels(name: str) -> None:
    found = []
    for heads in (1, C):
        layer = attention(name, MultiBit(2), heads=heads)
        y, wanted = layer(inputs()), reference(name, copy.deepcopy(layer), inputs())
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-11)
        found.append(y)
    inert = name in ("sdsa", "qk_channel")
    assert torch.equal(*found) == inert


@pytest.mark.parametrize("name", list(ATTENTION))
def test_options(name: str) -> None:
    layer = attention(name, LIF(), gate=Integer(3), output="current", norm="threshold")
    y = layer(inputs())
    assert y.shape == (T, B, N, C) and len(y.unique()) > 10  # currents
    gates = layer.gate.modules() if isinstance(layer.gate, nn.Sequential) else [layer.gate]
    assert any(isinstance(module, Integer) for module in gates)
    refined = attention(name, Refined(LIF(), 2))
    assert refined(inputs()).shape[1:] == (B, N, C)
    assert attention(name, nn.ReLU())(inputs()).shape == (T, B, N, C)
    assert {node.module.role for node in trace(layer.eval()).of_kind("synapse")} == {"hidden"}  # type: ignore[union-attr]


def test_views_are_each_others_inverse() -> None:
    x = inputs()
    maps = TokenView("maps", N, C)(x)
    heads = TokenView("split", N, C, H)(maps)
    assert maps.shape == (T, B, C, N, 1) and heads.shape == (T, B, H, C // H, N)
    assert float(heads[1, 0, 1, 2, 3]) == float(x[1, 0, 3, 5])  # head 1 begins with channel 3
    assert torch.equal(TokenView("tokens", N, C)(TokenView("merge", N, C, H)(heads)), x)
    spread = TokenView("spread", N, C, H)(heads[:, :, :, :1])
    assert torch.equal(spread[:, :, 0], spread[:, :, 2]) and torch.equal(spread[:, :, 5, :, 0], heads[:, :, 1, 0])
    assert TokenView("spread", N, C, H).carry(torch.tensor([2.0, 3.0]), ()).tolist() == [2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("transposed", ["none", "first", "second"])
def test_products_by_loops(transposed: str) -> None:
    m, k, n = 2, 3, 4
    a = torch.randn(T, B, H, *((k, m) if transposed == "first" else (m, k)), generator=rng(0), dtype=torch.float64)
    b = torch.randn(T, B, H, *((n, k) if transposed == "second" else (k, n)), generator=rng(1), dtype=torch.float64)
    module = MatrixProduct(transposed)
    first = a.mT if transposed == "first" else a
    second = b.mT if transposed == "second" else b
    y = module(a, b)
    for i, j in product(range(m), range(n)):
        wanted = sum(first[..., i, at] * second[..., at, j] for at in range(k))
        torch.testing.assert_close(y[..., i, j], wanted, rtol=0, atol=1e-14)
    assert module.summands(a.shape, b.shape) == k and module.summands(None, None) == 0
    assert torch.autograd.gradcheck(module, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attention("ssa", LIF(), heads=4), "heads must divide the channels, got 4 heads of 6"),
        (lambda: attention("sdsa", LIF), "SpikeDrivenAttention: the neuron must be a module, got LIF"),
        (lambda: attention("sdsa", LIF(), gate=3), "must be a module, got 3"),
        (lambda: attention("qk_token", LIF(), output="spike"), "did you mean 'spikes'"),
        (lambda: attention("ssa", LIF(), scale=0.0), "scale must be"),
        (lambda: attention("ssa", LIF(), order="vk"), "order must be one of"),
        (lambda: attention("ssa", LIF(), expand=0), "expand must lie in"),
        (lambda: attention("ssa", nn.ReLU(), norm="threshold"), "needs a neuron with a threshold"),
        (lambda: ATTENTION["qk_token"](6, 0, LIF()), "tokens must lie in"),
        (lambda: ATTENTION["ssda"], "did you mean"),
        (lambda: TokenView("map", 5, 6), "did you mean 'maps'"),
        (lambda: TokenView("split", 5, 6, 4), "heads must divide"),
        (lambda: AxisSum(2), "axis must lie in"),
        (lambda: MatrixProduct("third"), "transposed must be one of"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("shape", [(T, B, N + 1, C), (T, B, C, N), (T, B, N), (T, B, N, C, 1)])
@pytest.mark.parametrize("name", list(ATTENTION))
def test_inputs_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="TokenView"):
        attention(name, LIF())(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("module", "a", "b"),
    [
        (Product(), (T, B, 4, 5), (T, B, 4, 3)),
        (Product(), (T, B, 4, 5), (T, B, 2, 5)),
        (Product(), (T, B, 4, 5), (1, B, 4, 5)),
        (MatrixProduct(), (T, B, 2, 3, 4), (T, B, 2, 3, 4)),
        (MatrixProduct("second"), (T, B, 2, 3, 4), (T, B, 2, 4, 3)),
        (MatrixProduct(), (T, B, 2, 3, 4), (T, B, 1, 4, 3)),
        (MatrixProduct(), (T, B, 3, 4), (T, B, 4, 3)),
    ],
)
def test_products_that_do_not_fit(module: nn.Module, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="that fit"):
        module(torch.zeros(a), torch.zeros(b))
