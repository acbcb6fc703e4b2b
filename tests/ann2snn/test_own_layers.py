"""Networks of bitspike's own layers over [T, B, ...]: what is taken there, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.layers import Conv2d, Linear, MeanReadout, Repeat
from bitspike.models import Network
from bitspike.neurons import Integer, Signed
from networks import rng

PLAIN, BOTH = Integer(255, decay=1.0), Signed(255, decay=1.0)


def test_functions_in_a_network_of_our_own_layers() -> None:
    """Over [T, B, ...] a function may mean any axis: it is refused; modules of activations are taken."""

    class Body(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            self.a, self.act, self.head = Conv2d(3, 4, 3), act, Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.a(x)).mean((3, 4)))  # type: ignore[no-any-return]

    class Pooled(Body):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(self.a(x))[:, :, :, 0, 0])  # type: ignore[no-any-return]

    x = torch.randn(24, 3, 8, 8, generator=rng(3), dtype=torch.float64)
    words = r"ann2snn {}: a network of bitspike's own layers must be made of .*, got {}; pass a network of torch's"
    with pytest.raises(ValueError, match=words.format("mean", "mean")):
        bitspike.ann2snn(Network(Repeat(1), Body(nn.ReLU()), MeanReadout()).double(), PLAIN, x)
    with pytest.raises(ValueError, match=words.format("act", "Softmax")):
        bitspike.ann2snn(Network(Repeat(1), Pooled(nn.Softmax(2)), MeanReadout()).double(), BOTH, x)
    for act in (nn.GELU(), nn.PReLU()):
        net = Network(Repeat(1), Pooled(act), MeanReadout()).double().eval()
        snn = bitspike.ann2snn(net, BOTH, x, 2, "max")
        with torch.no_grad():
            assert float((snn(x) - net(x)).norm() / net(x).norm()) < 0.01
