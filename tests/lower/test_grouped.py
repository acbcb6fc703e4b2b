"""`Conv2d` in groups and depthwise through fold, counts, int8 and programs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.layers import BatchNorm, Conv2d, Flatten, Linear, MeanReadout, Repeat
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.testing import check_program
from export_c import compare, missing
from lower_nets import WIDE, on_grid
from networks import dyadic, liven, rng

C = 8


class Grouped(nn.Module):
    """[B, 2, 5, 5]: conv, grouped conv with stride 2, depthwise conv, linear."""

    def __init__(self, neuron: nn.Module, weight: Quantizer | None, groups: int) -> None:
        super().__init__()
        self.encoder, self.readout = Repeat(2), MeanReadout()
        convs = [
            Conv2d(2, C, 3, padding=1),
            Conv2d(C, C, 3, 2, 1, weight=weight, groups=groups),
            Conv2d(C, 2 * C, (3, 1), 1, (1, 0), weight=weight, groups=C),
        ]
        body: list[nn.Module] = []
        for conv in convs:
            outputs = len(conv.weight)
            body += [conv, BatchNorm(outputs), neuron.replicate(outputs)]  # type: ignore[operator]
        self.body = nn.Sequential(*body, Flatten(), Linear(2 * C * 9, 4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2, 5, 5] → [B, 4]."""
        return self.readout(self.body(self.encoder(x)))


def grouped(neuron: nn.Module, weight: Quantizer | None, groups: int = 2) -> tuple[Grouped, Tensor]:
    torch.manual_seed(0)
    return Grouped(neuron, weight, groups), torch.randn(12, 2, 5, 5, generator=rng(0), dtype=torch.float64)


KINDS = {
    "binary": (lambda: LIF(decay=0.5), lambda: Sign("output")),
    "ternary": (lambda: Ternary(train_amplitude="channel"), lambda: TernaryWeight("layer")),
    "graded": (lambda: MultiBit(2, 1, train_amplitude="layer"), lambda: Uniform(4)),
}


@pytest.mark.parametrize("groups", [2, C])
@pytest.mark.parametrize("kind", KINDS)
def test_folded_counted_and_streamed(kind: str, groups: int) -> None:
    neuron, weight = (make() for make in KINDS[kind])
    net, x = grouped(neuron, weight, groups)
    liven(net, x)
    folded = bitspike.fold(net, x)
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-9
    counted = bitspike.cost(folded, x)
    assert [row.macs for row in counted.layers if row.macs][1:3] == [C * C // groups * 9 * 9, 2 * C * 3 * 9]
    assert not counted.uncounted
    sequence = net.encoder(x)
    whole, state = net(x), None
    for step in sequence.split(1):
        y, state = bitspike.stream(net, step, state)
    torch.testing.assert_close(y, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("groups", [2, 4, C])
@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_programs_on_a_grid_are_exact(kind: str, groups: int) -> None:
    neuron, weight = (make() for make in KINDS[kind])
    net, x = grouped(neuron, weight, groups)
    x = dyadic(x)
    assert check_program(bitspike.fold(on_grid(net, x), x), x, **WIDE)[1].max_logit_difference == 0


@pytest.mark.skipif(bool(missing("gcc")), reason=missing("gcc"))
def test_c99_gives_the_integers(tmp_path: Path) -> None:
    net, x = grouped(MultiBit(2), Uniform(4))
    compare(bitspike.compile(bitspike.fold(liven(net, x), x), x), x[:2].numpy(), tmp_path)


def test_one_factor_per_input_channel_is_refused_in_groups_of_several() -> None:
    net, x = grouped(LIF(), Sign("input"))
    with pytest.raises(ValueError, match="one weight factor per layer or output channel"):
        bitspike.fold(liven(net, x), x)


@pytest.mark.parametrize("groups", [2, C])
def test_in_int8(groups: int) -> None:
    """Spikes in channels-last order: the int8 kernel takes the layer, or says that this torch has none."""
    torch.manual_seed(1)
    net = nn.Sequential(LIF(), Conv2d(C, C, 3, padding=1, groups=groups, weight=Uniform(4)))
    frames = torch.randn(6, C, 5, 5, generator=rng(0)).contiguous(memory_format=torch.channels_last)
    x = frames.unflatten(0, (2, 3))
    with bitspike.int8() as record:
        found = net(x)
    if "oneDNN" in record.report():
        pytest.skip(f"not run: {record.report()}")
    assert record.taken == 1
    torch.testing.assert_close(found, net(x), rtol=1e-5, atol=1e-5)
