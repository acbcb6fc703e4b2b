"""Analog operations over time: the mean of what they send is the operation of the mean, in pieces as in one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.cost import cost
from bitspike.layers import TallyMap
from networks import rng


class Product(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y.mean((2, 3), keepdim=True)


def test_the_mean_of_every_beginning_is_mapped() -> None:
    x, y = torch.randn(2, 5, 3, 2, 4, 4, generator=rng(0), dtype=torch.float64).unbind(0)
    for layer, inputs in ((TallyMap(nn.GELU()), (x,)), (TallyMap(Product(), "product"), (x, y))):
        sent = layer(*inputs)
        for t in range(1, 6):
            wanted = layer.body(*(each[:t].mean(0) for each in inputs))
            torch.testing.assert_close(sent[:t].mean(0), wanted, rtol=1e-12, atol=1e-12)
        assert torch.equal(layer(*(each[:1] for each in inputs))[0], layer.body(*(each[0] for each in inputs)))
        assert not torch.allclose(sent, torch.stack([layer.body(*parts) for parts in zip(*inputs, strict=True)]))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (5,)])
def test_pieces(sizes: tuple[int, ...]) -> None:
    x, y = torch.randn(2, 5, 3, 2, 4, 4, generator=rng(1)).unbind(0)
    layer, state, found = TallyMap(Product()), None, []
    for piece in zip(x.split(sizes), y.split(sizes), strict=True):
        sent, state = layer.stream_step(*piece, state)
        found.append(sent)
    assert torch.equal(torch.cat(found), layer(x, y))


def test_half_precision_sums_in_full() -> None:
    x = torch.full((300, 1, 1), 0.1, dtype=torch.bfloat16)
    assert TallyMap(nn.Identity())(x).dtype == torch.bfloat16
    _, (sums, _, steps) = TallyMap(nn.Identity()).stream_step(x, None)
    assert steps == 300 and sums[0].dtype == torch.float32 and abs(float(sums[0]) - 30.03) < 0.01


def test_cost_names_it_and_bad_input_is_one_line() -> None:
    net = nn.Sequential(TallyMap(nn.GELU())).eval()
    x = torch.randn(3, 2, 4, generator=rng(2))
    assert cost(net, x).uncounted == ["_0"]
    first, states = bitspike.stream(net, x[:2])
    rest, _ = bitspike.stream(net, x[2:], states)
    assert torch.equal(torch.cat([first, rest]), net(x))
    with pytest.raises(ValueError, match=r"TallyMap: axis 0 of lost must stay the batch, got \[4\]; use"):
        TallyMap(nn.Flatten(0), "lost")(torch.zeros(1, 2, 2))


def test_bits_do_not_depend_on_how_a_chunk_lies_in_memory() -> None:
    """The order of sums inside of an operation follows the layout of what it gets."""
    x = torch.randn(3, 4, 7, 33, generator=rng(3))
    layer = TallyMap(nn.Sequential(nn.LayerNorm(33), nn.Softmax(1)))
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(layer(turned), layer(x)) and turned.stride() != x.stride()
    layer = TallyMap(Product())
    image = torch.randn(3, 4, 5, 9, 9, generator=rng(4))
    last = image.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 4))
    assert torch.equal(layer(last, last), layer(image, image))
